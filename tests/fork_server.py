"""A process that has Baton imported and forks for each start: what runs is the same program in a
process of its own, without the seconds of processor that its imports take each time.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.waiting import LIMIT_SECONDS

ROOT = Path(__file__).parents[1]
PRELOADED = (
    *("service.operations.bootstrap", "service.jobs.scheduler"),
    *("service.web.serve.http_server", "service.web.serve.worker_processes"),
)
"""What `serve` and `jobs` import when they start."""


class Forked:
    """One forked process, as `subprocess.Popen` shows its own."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid

    def poll(self) -> int | None:
        """Its exit code; below 0 it is the signal that ended it. None while it runs."""
        return self._server.exit_codes.get(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. TimeoutExpired when it has not."""
        with self._server.news:
            if not self._server.news.wait_for(lambda: self.poll() is not None, timeout):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """The forking process, and what became of those that it forked."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(os.environ) | {"MLFLOW_DISABLE_TELEMETRY": "true"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._connection = ours
        self._one_start = threading.Lock()
        self._started: deque[int] = deque()
        self.exit_codes: dict[int, int] = {}
        self.news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._connection.makefile("r"):
            told = json.loads(line)
            with self.news:
                if "code" in told:
                    self.exit_codes[told["pid"]] = told["code"]
                else:
                    self.exit_codes.pop(told["pid"], None)  # of an earlier one with this number
                    self._started.append(told["pid"])
                self.news.notify_all()
        with self.news:
            self.news.notify_all()

    def start(
        self, words: Sequence[str], environ: Mapping[str, str], out: Path, error: Path
    ) -> Forked:
        """Run `python -m service` with these words; what it prints is appended to the two files."""
        error.touch(0o600)
        printed = [str(out), str(error)]
        asked = {"arguments": words, "environ": environ, "printed": printed}
        with self._one_start, self.news:
            self._connection.sendall((json.dumps(asked) + "\n").encode())
            self.news.wait_for(lambda: self._started or self._process.poll() is not None)
            return Forked(self, self._started.popleft())


@cache
def fork_server() -> ForkServer:
    """The one of this test process; it ends with it."""
    return ForkServer()


def command(*words: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m service` with these words until it ends."""
    with tempfile.TemporaryDirectory() as folder:
        out, error = Path(folder, "out"), Path(folder, "error")
        code = fork_server().start(words, environ, out, error).wait(LIMIT_SECONDS)
        return subprocess.CompletedProcess(words, code, out.read_text(), error.read_text())


def _run(asked: Mapping[str, Any]) -> None:
    """Become the asked command."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(asked["environ"])
    for descriptor, path in enumerate(asked["printed"], 1):
        printed = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(printed, descriptor)
        os.close(printed)
    sys.argv = ["baton", *asked["arguments"]]
    os.umask(0o077)
    from service.cli import app

    app()


def _serve(connection: socket.socket) -> None:
    """Fork for each line that comes, and tell of each child that ends; until nobody asks."""
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    lines, children = connection.makefile("r"), 0
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if woken in ready:
            woken.recv(4096)
            while children:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                children -= 1
                _tell(connection, pid=pid, code=os.waitstatus_to_exitcode(status))
        if connection in ready:
            line = lines.readline()
            if not line:
                return
            pid = os.fork()
            if not pid:
                for opened in (selector, lines, connection, woken, wakes):
                    opened.close()
                _run(json.loads(line))
                return
            children += 1
            _tell(connection, pid=pid)


def _tell(connection: socket.socket, **what: int) -> None:
    connection.sendall((json.dumps(what) + "\n").encode())


if __name__ == "__main__":
    for module in PRELOADED:
        __import__(module)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
