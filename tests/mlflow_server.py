"""A real MLflow server for tests: started once, on a free port, in its own process group.

In a test module, once for all of its tests:

    @pytest.fixture(scope="module")
    def mlflow_url(tmp_path_factory):
        with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
            yield url
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from experiments.registry.mlflow_server import server
from tests.waiting import LIMIT_SECONDS, until

ASKED_SECONDS = 10.0
"""A group that was asked to end is killed after so long; nothing fails by it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: tuple[str, ...], folder: Path, environment: dict[str, str], health: str):
    """A server in a process group of its own, from its first healthy answer to the end."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        await_answer(health, process, folder / "server.log")
        yield process
    finally:
        end(process)


def await_answer(health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_up() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} did not come up:\n{log.read_text()[-4000:]}")
        return answers(health)

    until(is_up, f"{process.args} answers; see {log}", every=0.2)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=LIMIT_SECONDS) as answer:
            return answer.status == 200
    except OSError:
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group that was started here: the parent alone leaves its workers behind."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ASKED_SECONDS)
            if how is signal.SIGTERM and _alone(process.pid):
                return


def _alone(group: int) -> bool:
    give_up = time.monotonic() + ASKED_SECONDS
    while time.monotonic() < give_up:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def running_mlflow(home: Path, port: int | None = None, password: str = "") -> Iterator[str]:
    """The URL of a small MLflow server that keeps everything under `home`."""
    home.mkdir(parents=True, exist_ok=True)
    small = server(home, environ=os.environ, port=port or free_port(), password=password)
    with running(small.command, home, dict(small.environment), f"{small.url}/health"):
        yield small.url
