"""What `baton up` watches: processes that end or hang are started again, and leave nothing behind;
of two on one home one is refused, and what a killed one has left is ended.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from service.operations import supervisor
from service.operations.mlflow_files import is_half_made, says_half_made, set_aside
from service.operations.running_file import (
    Running,
    RunningProcess,
    end_orphans,
    hold_home,
    read_running,
)
from service.operations.supervisor import RESTARTS_MAX, Child, Processes, StartError
from service.runtime.settings import Settings
from tests.mlflow_server import free_port
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


SERVES = """
import http.server, sys
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Ok).serve_forever()
"""


@contextmanager
def answering(home: Path) -> Iterator[Processes]:
    """A supervisor of one real process that answers over HTTP."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", SERVES, str(port)]
    child = Child("it", command, os.environ, url, home / "log", alive_url=url)
    child.start()
    processes = watched(child, home)
    try:
        until(child.check_ready, "it answers")
        yield processes
    finally:
        processes.__exit__(None, None, None)


def test_a_process_that_hangs_is_killed_told_of_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "HUNG_SECONDS", 0.5)
    monkeypatch.setattr(supervisor, "CHECK_SECONDS", 0.1)
    with answering(tmp_path) as processes:
        [child] = processes.children
        assert processes.watch() == []
        assert child.process is not None
        hung = child.process.pid
        os.kill(hung, signal.SIGSTOP)
        until(lambda: processes.watch() == ["it"], "it is started again")
        assert processes.notices == ["it had not answered for 0.5 s"]
        assert child.process.pid != hung
        until(child.check_ready, "it answers again")
        assert processes.watch() == []


def test_a_process_that_answers_late_but_in_time_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CHECK_SECONDS", 0.1)
    with answering(tmp_path) as processes:
        [child] = processes.children
        assert child.process is not None
        os.kill(child.process.pid, signal.SIGSTOP)
        until(lambda: processes.watch() or child.silent_since, "its silence is seen")
        os.kill(child.process.pid, signal.SIGCONT)
        until(lambda: processes.watch() or child.silent_since is None, "it answers")
        assert processes.notices == []


def test_a_log_is_rotated_while_its_process_writes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES_MAX", 2000)
    writes = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.001; done"
    child = script(writes, tmp_path / "log")
    child.start()
    try:
        pieces = [tmp_path / f"log.{number}" for number in (1, 2, 3)]

        def rotated() -> bool:
            child.rotate_log()
            return all(piece.exists() for piece in pieces)

        until(rotated, "there are three older pieces", every=0.02)
        sizes = []
        for _ in range(20):
            child.rotate_log()
            sizes.append((tmp_path / "log").stat().st_size)
            time.sleep(0.02)
        assert min(sizes) < 2000, "it grew on and on"
        assert not (tmp_path / "log.4").exists()
        assert not child.has_ended()
        assert b"\0" not in (tmp_path / "log").read_bytes(), "it writes on at the file's end"
    finally:
        watched(child, tmp_path).__exit__(None, None, None)


def test_one_home_is_held_by_one_and_by_nobody_once_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; "
        "from service.operations.running_file import hold_home\n"
        "with hold_home(Path(sys.argv[1])):\n  print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        Running("http://127.0.0.1:8120", "", "").write(tmp_path)
        with pytest.raises(StartError, match=r"another `baton up`.*8120"):
            Processes(Settings(home=tmp_path, port=free_port()), free_port()).__enter__()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    with hold_home(tmp_path):
        pass


def test_what_a_killed_supervisor_left_is_ended_and_a_stranger_with_its_id_is_not(
    tmp_path: Path,
) -> None:
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        processes = (
            RunningProcess.of("serve", left.pid),
            RunningProcess("jobs", stranger.pid, "1"),
            RunningProcess("mlflow", 2**22 + 1, "5"),
        )
        Running("a", "b", "c", processes).write(tmp_path)
        assert [one.is_alive for one in processes] == [True, False, False]
        assert end_orphans(tmp_path) == ["serve"]
        assert left.wait() == -signal.SIGTERM
        assert stranger.poll() is None
        assert read_running(tmp_path) is None
        assert end_orphans(tmp_path) == []
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()


def half_made(folder: Path, *statements: str) -> Path:
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / "mlflow.sqlite3")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return folder


def test_a_registry_that_a_kill_left_half_made_is_set_aside_and_a_whole_one_is_not(
    tmp_path: Path,
) -> None:
    assert not is_half_made(tmp_path)
    tables, revision = "CREATE TABLE experiments (x)", "CREATE TABLE alembic_version (version_num)"
    stamped = "INSERT INTO alembic_version VALUES ('c48cb773bb87')"
    assert is_half_made(half_made(tmp_path / "a", tables))
    assert is_half_made(half_made(tmp_path / "b", tables, revision))
    assert not is_half_made(half_made(tmp_path / "c", tables, revision, stamped))
    (tmp_path / "a" / "mlflow.sqlite3-wal").touch()
    aside = set_aside(tmp_path / "a")
    assert aside.exists()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        aside.name,
        f"{aside.name}-wal",
    ]


def test_mlflow_that_cannot_start_on_its_tables_starts_anew_and_baton_goes_on_meanwhile(
    tmp_path: Path,
) -> None:
    folder = half_made(tmp_path / "mlflow", "CREATE TABLE other (x)")
    log = tmp_path / "log"
    log.write_text("an old line: table experiments already exists\n")
    command = "echo 'OperationalError: table experiments already exists'; exit 1"
    half_made(folder, "CREATE TABLE alembic_version (v)", "INSERT INTO alembic_version VALUES (1)")
    child = Child("mlflow", ["sh", "-c", command], os.environ, "http://127.0.0.1:9", log, False)
    child.start()
    assert not says_half_made(log, log.stat().st_size)
    until(child.has_ended, "it ends")
    processes = watched(child, tmp_path)
    assert processes.not_ready() == ["mlflow"], "Baton does not end with it"
    assert len(processes.notices) == 1
    assert "half made" in processes.notices[0]
    assert not (folder / "mlflow.sqlite3").exists()
    processes.__exit__(None, None, None)
