"""A clock that jumps ahead of the database ends nothing until it has proved itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.jobs.clock_step import STEP_SECONDS, ClockCheck
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from tests.service_in_process import serving

DAYS = 2 * 86_400.0


class Clocks:
    """A wall clock that somebody may set, and a steady one."""

    def __init__(self) -> None:
        self.wall, self.steady = 1e9, 0.0

    def pass_by(self, seconds: float) -> None:
        self.wall, self.steady = self.wall + seconds, self.steady + seconds

    def check(self) -> ClockCheck:
        return ClockCheck(lambda: self.wall, lambda: self.steady)


def test_a_clock_near_the_newest_time_is_believed_from_then_on() -> None:
    clocks = Clocks()
    check, newest = clocks.check(), clocks.wall
    assert check.agrees(newest)
    clocks.pass_by(DAYS)  # nobody writes on a quiet weekend
    assert check.agrees(newest)


@pytest.mark.parametrize("began_right", [True, False])
def test_a_clock_that_is_ahead_is_not_believed_until_it_has_run_on(began_right: bool) -> None:
    clocks = Clocks()
    newest = clocks.wall
    check = clocks.check()
    if began_right:
        assert check.agrees(newest)
    clocks.wall += DAYS
    assert not check.agrees(newest)
    clocks.pass_by(STEP_SECONDS - 1)
    assert not check.agrees(newest)
    clocks.pass_by(1)
    assert check.agrees(newest)


def test_where_there_is_no_time_yet_no_clock_is_ahead_and_none_is_proved() -> None:
    clocks = Clocks()
    check = clocks.check()
    assert check.agrees(0.0), "a new installation's first minutes are no alarm"
    assert not check.agrees(clocks.wall - DAYS)


def test_jobs_whose_clock_is_days_ahead_leave_every_handoff_and_say_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as service:
        place = service.workspace()
        waiting, claimed = place.escalated("w"), place.escalated("x")
        place.agent.posted(f"/v1/handoffs/{claimed}/claim")
        jobs, now = Maintenance(service.baton.store, Settings()), time.time
        monkeypatch.setattr(jobs, "_clock", ClockCheck(lambda: now() + DAYS))
        with capture_logs() as said, monkeypatch.context() as ahead:
            ahead.setattr(time, "time", lambda: now() + DAYS)
            jobs.expire()
            jobs.expire()
        assert [line["event"] for line in said] == ["clock_ahead"]
        for handoff, status in ((waiting, "waiting"), (claimed, "claimed")):
            assert place.agent.got(f"/v1/handoffs/{handoff}")["status"] == status
