"""Worker processes (pre-fork): several `serve` processes on one port, each restarted if it ends.

Each is a replica like any other: it holds the model and follows the ledger. On SQLite they take
turns writing, which is sound on one machine and buys little; on PostgreSQL they share the work.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import fields

import structlog

from service.runtime import logs
from service.runtime.metrics import MULTIPROCESS_VARIABLE, forget_worker
from service.runtime.settings import Settings
from service.web.serve.http_server import listen

STOP_SECONDS = 25
BACKOFF_SECONDS_MAX = 10.0
STEADY_SECONDS = 60
"""A worker that ran this long before it ended is started again at once."""

_log = structlog.get_logger("baton.workers")


def serve_with(settings: Settings, workers: int) -> None:
    """Serve with this many processes until told to stop; one that ends is started again."""
    logs.configure(settings.log_level, process="workers")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with listen(settings) as listening, tempfile.TemporaryDirectory(prefix="baton-") as counts:
        listening.set_inheritable(True)
        pool = [Worker(settings, listening.fileno(), counts) for _ in range(workers)]
        try:
            while not stop.wait(0.2):
                for worker in pool:
                    worker.restart_if_ended()
        finally:
            for worker in pool:
                worker.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + STOP_SECONDS
            for worker in pool:
                worker.stop(until)


class Worker:
    """A supervised worker process."""

    def __init__(self, settings: Settings, listening: int, counts: str) -> None:
        self._listening = listening
        self._counts = counts
        self._environ = {**os.environ, **_environ(settings), MULTIPROCESS_VARIABLE: counts}
        self._backoff = 0.0
        self._restart_at: float | None = None
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started, self._restart_at = time.monotonic(), None
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "service", "serve"),
                *("--listening", str(self._listening), "--parent", str(os.getpid())),
            ],
            env=self._environ,
            pass_fds=[self._listening],
            stdin=subprocess.DEVNULL,
        )

    def restart_if_ended(self) -> None:
        """Restart it if it has ended, with exponential backoff where it ends soon."""
        if self.process.poll() is None:
            return
        now = time.monotonic()
        if self._restart_at is None:
            quick = now - self._started < STEADY_SECONDS
            self._backoff = min(2 * self._backoff or 0.25, BACKOFF_SECONDS_MAX) if quick else 0.0
            self._restart_at = now + self._backoff
            forget_worker(self.process.pid, self._counts)
            _log.error("worker_ended", pid=self.process.pid, status=self.process.returncode)
        if now >= self._restart_at:
            self.process = self._start()

    def stop(self, until: float) -> None:
        try:
            self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _environ(settings: Settings) -> dict[str, str]:
    return {
        field.metadata["variable"]: str(getattr(settings, field.name)) for field in fields(settings)
    }
