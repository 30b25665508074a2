"""What `baton up` watches: ended processes are started again, and leave nothing behind."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from service.operations.supervisor import RESTARTS_MAX, Child, Processes, StartError
from service.runtime.settings import Settings
from tests.running import until

LEAVES_A_CHILD = "sleep 300 & echo $!; exit 3"


def watched(child: Child, home: Path) -> Processes:
    return Processes(Settings(home=home), mlflow_port=0, children=[child])


def script(text: str, log: Path, *, is_needed: bool = True) -> Child:
    """A process as `baton up` holds it, running a shell script."""
    return Child("it", ["sh", "-c", text], os.environ, None, log, is_needed)


def gone(pid: int) -> bool:
    """Whether a process has ended, buried or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_what_an_ended_process_left_behind_ends_before_it_is_started_again(tmp_path: Path) -> None:
    child = script(LEAVES_A_CHILD, tmp_path / "log")
    child.start()
    until(child.has_ended, "it ends")
    left = int((tmp_path / "log").read_text().split()[0])
    assert not gone(left)
    processes = watched(child, tmp_path)
    assert processes.restart_ended() == [], "it waits a little first"
    until(partial(gone, left), "its child ends")
    until(lambda: processes.restart_ended() == ["it"], "it is started again")
    until(child.has_ended, "it ends")
    processes.__exit__(None, None, None)
    for pid in map(int, (tmp_path / "log").read_text().split()):
        until(partial(gone, pid), "nothing is left")


def test_baton_ends_with_a_process_that_keeps_ending_unless_it_can_do_without(
    tmp_path: Path,
) -> None:
    for is_needed in (True, False):
        child = script("exit 3", tmp_path / "log", is_needed=is_needed)
        child.start()
        until(child.has_ended, "it ends")
        child.restarts = RESTARTS_MAX
        processes = watched(child, tmp_path)
        if is_needed:
            with pytest.raises(StartError, match="keeps ending"):
                processes.restart_ended()
        else:
            assert processes.restart_ended() == []


def test_a_process_that_ran_long_has_not_kept_ending(tmp_path: Path) -> None:
    child = script("exit 3", tmp_path / "log")
    child.start()
    until(child.has_ended, "it ends")
    child.restarts, child.started_at = RESTARTS_MAX, time.monotonic() - 3600
    assert watched(child, tmp_path).restart_ended() == []
    assert child.restarts == 1
