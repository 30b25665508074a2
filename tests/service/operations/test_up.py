"""`baton up` as an operator has it: killed and started again, started twice, and with an MLflow
that cannot start.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from service.operations.running_file import Running, end_orphans, read_running
from tests.mlflow_server import free_port
from tests.running import ROOT
from tests.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.slow


@contextmanager
def up(home: Path, log: Path, port: int, mlflow_port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "service", "up", "--home", str(home)]
    command += ["--port", str(port), "--mlflow-port", str(mlflow_port)]
    environ = {**os.environ, "BATON_JOBS_PORT": str(free_port())}
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_SECONDS)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def serving(home: Path, log: Path) -> Running:
    """Where it runs, once the API and jobs answer."""

    def ready() -> Running | None:
        running = read_running(home)
        if running is None or not answers(f"{running.api}/readyz"):
            return None
        return running if answers(f"{running.jobs}/healthz") else None

    return until(ready, f"it serves; see {log}", every=0.5)


@pytest.mark.long
def test_a_killed_up_is_followed_by_another_that_ends_what_was_left_and_a_second_is_refused(
    tmp_path: Path,
) -> None:
    home, log, ports = tmp_path / "home", tmp_path / "log", (free_port(), free_port())
    home.mkdir()
    (home / "mlflow").mkdir()
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.sqlite3")) as half_made:
        half_made.execute("CREATE TABLE experiments (name TEXT)")
        half_made.commit()
    try:
        with up(home, log, *ports) as first:
            before = serving(home, log)
            assert "half made" in log.read_text()
            with up(home, tmp_path / "second", free_port(), free_port()) as second:
                assert second.wait(LIMIT_SECONDS) == 1
            assert "another `baton up` runs" in (tmp_path / "second").read_text()
            first.kill()
            first.wait(LIMIT_SECONDS)
            assert answers(f"{before.api}/healthz"), "its processes are left running"
            with up(home, log, *ports):
                until(lambda: "had left" in log.read_text(), "the orphans are ended")
                after = serving(home, log)
                pids = {one.pid for one in before.processes}
                assert pids.isdisjoint(one.pid for one in after.processes)
                assert not any(one.is_alive for one in before.processes)
                done = subprocess.run(
                    [sys.executable, "-m", "service", "doctor", "--home", str(home), "--json"],
                    cwd=ROOT,
                    capture_output=True,
                    check=False,
                )
                findings = {one["what"]: one["ok"] for one in json.loads(done.stdout)}
                assert findings[f"the API answers at {after.api}/readyz: " + READY]
                assert any(what.startswith("jobs act:") for what in findings)
        assert read_running(home) is None, "what has ended stands nowhere"
    finally:
        end_orphans(home)


READY = '{"ready":true,"why":[]}'
