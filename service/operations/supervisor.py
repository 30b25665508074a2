"""Process supervisor: API, jobs and MLflow as child processes, restarted with backoff."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from experiments.registry.mlflow_server import server
from service.operations.mlflow_files import is_half_made, says_half_made, set_aside
from service.operations.running_file import (
    RUNNING_FILE,
    Running,
    RunningProcess,
    end_orphans,
    hold_home,
    read_running,
)
from service.runtime.first_secrets import prepare_mlflow
from service.runtime.settings import Settings

READY_SECONDS_MAX = 120
STOP_SECONDS = 25
RESTARTS_MAX = 5
RESTART_SECONDS_MAX = 60.0
CHECK_SECONDS = 5.0
"""Seconds between two looks whether a process answers and its log is short."""

HUNG_SECONDS = 30.0
"""A process that runs and does not answer for so long is killed and started again."""

LOG_BYTES_MAX, LOGS_MAX = 16 * 2**20, 3
"""A log's size from which on it is rotated, and the older pieces that are kept."""

STEADY_SECONDS = 60.0
"""A process that ran so long before it ended starts its backoff anew."""


class StartError(RuntimeError):
    """A process did not start; the message says where its log is and what to try."""


@dataclass(slots=True)
class Child:
    """A child process: command, readiness URL, log, and its restarts."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready_url: str | None
    log: Path
    is_needed: bool = True
    alive_url: str | None = None
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started_at: float = 0.0
    restart_at: float | None = None
    is_ready: bool = False
    log_start: int = 0
    silent_since: float | None = None

    def start(self) -> None:
        """Start it in a process group of its own, with its output appended to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.silent_since, self.is_ready = None, False
        with self.log.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.started_at, self.restart_at = time.monotonic(), None

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill_group(self) -> None:
        """Kill what an ended process has left behind: MLflow's worker would keep its port."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def check_ready(self) -> bool:
        """Readiness check: whether it has answered, once, that it is ready."""
        if not self.is_ready and self.ready_url is not None:
            self.is_ready = _answers(self.ready_url)
        return self.is_ready or self.ready_url is None

    def kill_if_hung(self, now: float) -> bool:
        """Kill it if it runs and has not answered for HUNG_SECONDS; whether it was killed.

        One that has never been ready yet may take its time.
        """
        if not self.is_ready or self.alive_url is None or self.has_ended():
            return False
        if _answers(self.alive_url):
            self.silent_since = None
        elif self.silent_since is None:
            self.silent_since = now
        elif now - self.silent_since > HUNG_SECONDS:
            self.kill_group()
            return True
        return False

    def rotate_log(self) -> None:
        """Keep the log within LOG_BYTES_MAX, and LOGS_MAX older pieces of it (copy and truncate:
        the process goes on writing to the same file).
        """
        if not self.log.exists() or self.log.stat().st_size < LOG_BYTES_MAX:
            return
        pieces = [self.log.with_name(f"{self.log.name}.{n}") for n in range(1, LOGS_MAX + 1)]
        for newer, older in zip(pieces[-2::-1], pieces[:0:-1], strict=True):
            if newer.exists():
                newer.replace(older)
        shutil.copyfile(self.log, pieces[0])
        os.truncate(self.log, 0)
        self.log_start = 0

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)


@dataclass(slots=True)
class Processes:
    """Supervisor of what `baton up` runs, as a context manager: starts it, and ends all of it."""

    settings: Settings
    mlflow_port: int
    children: list[Child] = field(default_factory=list)
    jobs_port: int = 0
    orphans: list[str] = field(default_factory=list)
    """What an earlier `baton up` had left running, and was ended."""
    notices: list[str] = field(default_factory=list)
    """What happened that whoever watches should know, until it was told."""
    checked_at: float = 0.0
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        home = self.settings.home.resolve()
        (home / "mlflow").mkdir(parents=True, exist_ok=True)
        try:
            self._held.enter_context(hold_home(home))
        except BlockingIOError as error:
            running = read_running(home)
            where = f" at {running.api}" if running else ""
            raise StartError(
                f"another `baton up` runs on {home}{where}; stop it, or name another --home"
            ) from error
        self.orphans = end_orphans(home)
        try:
            self._start_all(home)
        except BaseException:
            self._held.close()
            raise
        return self

    def _start_all(self, home: Path) -> None:
        for port, option in ((self.settings.port, "--port"), (self.mlflow_port, "--mlflow-port")):
            _require_free_port(self.settings.host, port, option)
        mlflow = server(
            home / "mlflow",
            environ=os.environ,
            port=self.mlflow_port,
            password=prepare_mlflow(self.settings),
        )
        self.jobs_port = _free_port(self.settings.host, self.settings.jobs_port)
        environment = self._environment(home, mlflow.url)
        logs = home / "logs"
        jobs = f"{self.jobs_url}/healthz"
        own = (sys.executable, "-m", "service")
        self.children = [
            Child(
                "serve",
                (*own, "serve"),
                environment,
                f"{self.url}/readyz",
                logs / "serve.log",
                alive_url=f"{self.url}/healthz",
            ),
            Child("jobs", (*own, "jobs"), environment, jobs, logs / "jobs.log", alive_url=jobs),
            Child(
                "mlflow",
                mlflow.command,
                mlflow.environment,
                f"{mlflow.url}/health",
                logs / "mlflow.log",
                is_needed=False,
                alive_url=f"{mlflow.url}/health",
            ),
        ]
        if is_half_made(home / "mlflow"):
            self._set_mlflow_aside()
        for child in self.children:
            child.start()
        self._write_running()

    def _write_running(self) -> None:
        processes = [
            RunningProcess.of(child.name, child.process.pid)
            for child in self.children
            if child.process is not None
        ]
        running = Running(self.url, self.jobs_url, self.mlflow_url, tuple(processes))
        running.write(self.settings.home)

    def _set_mlflow_aside(self) -> None:
        aside = set_aside(self.settings.home / "mlflow")
        self.notices.append(
            f"MLflow's database was half made and never starts: it is now {aside}, and MLflow is "
            "given everything anew"
        )

    def _environment(self, home: Path, mlflow_url: str) -> dict[str, str]:
        settings = {
            "BATON_HOME": str(home),
            "BATON_HOST": self.settings.host,
            "BATON_PORT": str(self.settings.port),
            "BATON_JOBS_PORT": str(self.jobs_port),
            "BATON_MLFLOW_URL": mlflow_url,
            "BATON_DATABASE": self.settings.database,
            "BATON_CHECKPOINT_SECONDS": str(self.settings.checkpoint_seconds),
            "BATON_CHECKPOINT_ENTRIES": str(self.settings.checkpoint_entries),
            "BATON_EVALUATE_SECONDS": str(self.settings.evaluate_seconds),
            "BATON_DEMO": str(self.settings.demo),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        return {**os.environ, **settings}

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def jobs_url(self) -> str:
        return f"http://{self.settings.host}:{self.jobs_port}"

    def not_ready(self) -> list[str]:
        """Names of the processes that are not ready yet. StartError if one has ended that Baton
        cannot do without; another is started again.
        """
        for child in self.children:
            if child.is_needed and child.process is not None and child.has_ended():
                raise StartError(
                    f"{child.name} ended with status {child.process.returncode}; "
                    f"see {child.log}, and `baton doctor`"
                )
        self.restart_ended()
        return [child.name for child in self.children if not child.check_ready()]

    def can_do_without(self, name: str) -> bool:
        return not next(child for child in self.children if child.name == name).is_needed

    def watch(self) -> list[str]:
        """One look at all of them: what hangs is killed, what has ended is started again, and logs
        are rotated. Gives the names of what was started. StartError as `restart_ended`.
        """
        now = time.monotonic()
        if now - self.checked_at >= CHECK_SECONDS:
            self.checked_at = now
            for child in self.children:
                child.check_ready()
                child.rotate_log()
                if child.kill_if_hung(now):
                    self.notices.append(f"{child.name} had not answered for {HUNG_SECONDS:g} s")
        return self.restart_ended()

    def restart_ended(self) -> list[str]:
        """Restart what has ended, with exponential backoff; gives the names of what was started.

        StartError when one keeps ending, unless Baton can do without it.
        """
        now, started = time.monotonic(), []
        for child in self.children:
            if not child.has_ended():
                continue
            if child.restart_at is None:
                self._plan_restart(child, now)
            if child.restart_at is not None and now >= child.restart_at:
                child.start()
                started.append(child.name)
        if started:
            self._write_running()
        return started

    def _plan_restart(self, child: Child, now: float) -> None:
        child.kill_group()
        is_new = now - child.started_at > STEADY_SECONDS
        child.restarts = 1 if is_new else child.restarts + 1
        if child.is_needed and child.restarts > RESTARTS_MAX:
            raise StartError(f"{child.name} keeps ending; see {child.log}")
        wait = 2 ** min(child.restarts, RESTARTS_MAX + 3) / 4
        child.restart_at = now + min(wait, RESTART_SECONDS_MAX)
        folder = self.settings.home / "mlflow"
        never_ready = child.name == "mlflow" and not child.is_ready
        if never_ready and (is_half_made(folder) or says_half_made(child.log, child.log_start)):
            self._set_mlflow_aside()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self.children:
            child.signal(signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        for child in self.children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.signal(signal.SIGKILL)
                child.process.wait()
            child.kill_group()
        (self.settings.home / RUNNING_FILE).unlink(missing_ok=True)
        self._held.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port(host: str, wanted: int) -> int:
    """The wanted port if it is free, another otherwise."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _require_free_port(host: str, port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(
                f"port {port} on {host} is taken ({error.strerror}); name another with {option}"
            ) from error
