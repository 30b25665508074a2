"""Process supervisor: API, jobs and MLflow as child processes, restarted with backoff."""

from __future__ import annotations

import contextlib
import os
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
from service.runtime.first_secrets import prepare_mlflow
from service.runtime.settings import Settings

READY_SECONDS_MAX = 120
STOP_SECONDS = 25
RESTARTS_MAX = 5
RESTART_SECONDS_MAX = 60.0
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
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started_at: float = 0.0
    restart_at: float | None = None
    is_ready: bool = False

    def start(self) -> None:
        """Start it in a process group of its own, with its output appended to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
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
            try:
                response = httpx.get(self.ready_url, timeout=2, trust_env=False)
                self.is_ready = response.status_code == 200
            except httpx.HTTPError:
                self.is_ready = False
        return self.is_ready or self.ready_url is None

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)


@dataclass(slots=True)
class Processes:
    """Supervisor of what `baton up` runs, as a context manager: starts it, and ends all of it."""

    settings: Settings
    mlflow_port: int
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Self:
        for port, option in ((self.settings.port, "--port"), (self.mlflow_port, "--mlflow-port")):
            _require_free_port(self.settings.host, port, option)
        home = self.settings.home.resolve()
        (home / "mlflow").mkdir(parents=True, exist_ok=True)
        mlflow = server(
            home / "mlflow",
            environ=os.environ,
            port=self.mlflow_port,
            password=prepare_mlflow(self.settings),
        )
        environment = self._environment(home, mlflow.url)
        logs = home / "logs"
        api = f"http://{self.settings.host}:{self.settings.port}/readyz"
        own = (sys.executable, "-m", "service")
        self.children = [
            Child("serve", (*own, "serve"), environment, api, logs / "serve.log"),
            Child("jobs", (*own, "jobs"), environment, None, logs / "jobs.log"),
            Child(
                "mlflow",
                mlflow.command,
                mlflow.environment,
                f"{mlflow.url}/health",
                logs / "mlflow.log",
                is_needed=False,
            ),
        ]
        for child in self.children:
            child.start()
        return self

    def _environment(self, home: Path, mlflow_url: str) -> dict[str, str]:
        settings = {
            "BATON_HOME": str(home),
            "BATON_HOST": self.settings.host,
            "BATON_PORT": str(self.settings.port),
            "BATON_MLFLOW_URL": mlflow_url,
            "BATON_DATABASE": self.settings.database,
            "BATON_CHECKPOINT_SECONDS": str(self.settings.checkpoint_seconds),
            "BATON_CHECKPOINT_ENTRIES": str(self.settings.checkpoint_entries),
            "BATON_EVALUATE_SECONDS": str(self.settings.evaluate_seconds),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        return {**os.environ, **settings}

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    def not_ready(self) -> list[str]:
        """Names of the processes that are not ready yet. StartError if one has ended."""
        for child in self.children:
            if child.process is not None and child.has_ended():
                raise StartError(
                    f"{child.name} ended with status {child.process.returncode}; "
                    f"see {child.log}, and `baton doctor`"
                )
        return [child.name for child in self.children if not child.check_ready()]

    def restart_ended(self) -> list[str]:
        """Restart what has ended, with exponential backoff; gives the names of what was started.

        StartError when one keeps ending, unless Baton can do without it.
        """
        now, started = time.monotonic(), []
        for child in self.children:
            if not child.has_ended():
                continue
            if child.restart_at is None:
                child.kill_group()
                is_new = now - child.started_at > STEADY_SECONDS
                child.restarts = 1 if is_new else child.restarts + 1
                if child.is_needed and child.restarts > RESTARTS_MAX:
                    raise StartError(f"{child.name} keeps ending; see {child.log}")
                wait = 2 ** min(child.restarts, RESTARTS_MAX + 3) / 4
                child.restart_at = now + min(wait, RESTART_SECONDS_MAX)
            if now >= child.restart_at:
                child.start()
                started.append(child.name)
        return started

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


def _require_free_port(host: str, port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(
                f"port {port} on {host} is taken ({error.strerror}); name another with {option}"
            ) from error
