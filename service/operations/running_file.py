"""Process registry of a home folder: `running.json` names what `baton up` runs there, so that
`baton doctor` knows where to ask, and the next `baton up` what a killed one has left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RUNNING_FILE, LOCK_FILE = "running.json", "running.lock"
END_SECONDS = 25.0
"""How long what was left behind may take to end when asked; then it is killed."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process by its id and its start, which together are of no other process."""

    name: str
    pid: int
    started: str

    @classmethod
    def of(cls, name: str, pid: int) -> RunningProcess:
        return cls(name, pid, process_start(pid))

    @property
    def is_alive(self) -> bool:
        return bool(self.started) and process_start(self.pid) == self.started

    def signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


@dataclass(frozen=True, slots=True)
class Running:
    """What runs on a home: addresses, and each process."""

    api: str
    jobs: str
    mlflow: str
    processes: tuple[RunningProcess, ...] = field(default=())

    def write(self, home: Path) -> None:
        partial = home / f"{RUNNING_FILE}.partial"
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n")
        partial.replace(home / RUNNING_FILE)


def read_running(home: Path) -> Running | None:
    """What the file says; None without one that can be read."""
    try:
        body: Mapping[str, Any] = json.loads((home / RUNNING_FILE).read_text())
        processes = tuple(RunningProcess(**one) for one in body["processes"])
        return Running(body["api"], body["jobs"], body["mlflow"], processes)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def process_start(pid: int) -> str:
    """When a process was started, in the kernel's own count; empty if it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Hold a home for one `baton up`; BlockingIOError while another holds it. A process that is
    killed holds nothing.
    """
    with (home / LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def end_orphans(home: Path) -> list[str]:
    """End what an earlier `baton up` that was killed has left running; gives the names."""
    running = read_running(home)
    orphans = [one for one in running.processes if one.is_alive] if running else []
    for orphan in orphans:
        orphan.signal_group(signal.SIGTERM)
    until = time.monotonic() + END_SECONDS
    while any(one.is_alive for one in orphans) and time.monotonic() < until:
        time.sleep(0.1)
    for orphan in orphans:
        orphan.signal_group(signal.SIGKILL)
    (home / RUNNING_FILE).unlink(missing_ok=True)
    return [one.name for one in orphans]
