"""A clock that steps back: no order, decision or lease depends on it."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from learning.ledger import checkpoint
from service.jobs import scheduler as jobs_module
from service.jobs.maintenance import Maintenance
from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store import access
from service.store.conversations import batch
from service.store.database.transactions import Store
from service.versions.restore import restore
from tests import postgres
from tests.running import until
from tests.service_in_process import ASKS, OTHERS, serving

store_url = postgres.on_both("function", stores=postgres.BOTH)


class Clock:
    """Time as it is, moved by `by` seconds."""

    def __init__(self) -> None:
        self.by = 0.0

    def time(self) -> float:
        return time.time() + self.by

    def time_ns(self) -> int:
        return time.time_ns() + int(self.by * 1e9)


def test_a_clock_that_steps_back_changes_no_order_and_no_decision(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(batch, "time", SimpleNamespace(time=clock.time, time_ns=clock.time_ns))
    with serving(tmp_path, database=store_url) as service:
        place = service.workspace()
        decided = []
        for number, by in enumerate((0.0, -3600.0, 3600.0, 0.0, -86_400.0)):
            clock.by = by
            decided.append(place.bot.decided("c", f"m{number}", OTHERS[number]))
        handoff = place.bot.decided("d", "m", ASKS)["handoff"]
        place.agent.posted(f"/v1/handoffs/{handoff['id']}/claim")
        clock.by = -7200.0
        Maintenance(service.baton.store, service.baton.settings).expire()
        place.agent.posted(f"/v1/handoffs/{handoff['id']}/outcome", {"verdict": "needed"})
        place.agent.posted(f"/v1/handoffs/{handoff['id']}/return")
        place.bot.posted("/v1/conversations/c/outcome", {"verdict": "missed"})
        found = place.agent.got("/v1/conversations/c")
        assert [row["id"] for row in found["messages"]] == [f"m{n}" for n in range(5)]
        assert found["last_at"] >= found["opened_at"]
        for answer in decided:
            replay = place.agent.got(f"/v1/decisions/{answer['decision_id']}/replay")
            assert replay["identical"] is True, replay
        assert len({one["decision_id"] for one in decided}) == 5
        standing = place.engineer.got("/v1/standing")
        assert standing["position"] == 4
        assert standing["digest"] == checkpoint.digest(restore(service.baton.store, place.name))


def test_a_lease_is_kept_by_its_holder_when_the_clock_steps_back(
    store_url: str, tmp_path: Path
) -> None:
    store = Store(store_url)
    prepare(Settings(home=tmp_path, database=store_url), store)

    def takes(holder: str, now: float) -> bool:
        with store.write() as connection:
            return access.take_lease(connection, "jobs", holder, now, now + 10)

    assert takes("a", 1000.0)
    assert not takes("b", 1009.0)
    assert takes("a", 1009.0), "it is renewed before it ends"
    assert not takes("b", 1018.0)
    assert takes("a", 500.0), "its own lease is renewed whatever the time"
    assert not takes("b", 505.0)
    assert takes("b", 511.0), "a lease that ended at the stepped-back time is free"
    assert not takes("a", 450.0)
    assert takes("a", -3600.0), "nobody waits an hour for a holder that a stepped clock left behind"
    store.close()


def test_a_leader_whose_clock_steps_back_leads_no_longer_for_it(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may have the lease by then: how long one's own lasts is told by no clock's date."""
    store, clock = Store(store_url), Clock()
    prepare(Settings(home=tmp_path, database=store_url), store)
    ticking = SimpleNamespace(time=clock.time, monotonic=time.monotonic)
    monkeypatch.setattr(jobs_module, "time", ticking)
    leader = jobs_module.Leader(store, 1.0)
    leader.renew()
    assert leader.is_active
    clock.by = -3600.0
    until(lambda: not leader.is_active, "its lease has ended")
    store.close()
