"""Every wait for a client ends, and so does every end: slow, silent and greedy ones cost little.

One process with the patience of a test: three seconds where it has many.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from service.web.serve import http_server
from tests.mlflow_server import free_port
from tests.running import Client, until
from tests.waiting import LIMIT_SECONDS

CONNECTIONS = 12
SECOND = 3.0
PROGRAM = f"""
import sys
from pathlib import Path
import service.web.serve.http_server as server
from service.operations.bootstrap import prepare_database
from service.runtime.settings import Settings
server.IDLE_SECONDS = server.WRITE_SECONDS = server.STOP_SECONDS = {SECOND:.0f}
settings = Settings(
    home=Path(sys.argv[1]),
    port=int(sys.argv[2]),
    connections_max={CONNECTIONS},
    chars_per_second=1e9,
)
prepare_database(settings)
server.serve(settings)
"""
LARGE, TIMES = "/v1/conversations/long", 3
"""A transcript of 4 MB, asked for so often that no kernel keeps all of it for a client."""


class Hurried:
    """A `serve` process in a hurry."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-c", PROGRAM, str(folder), str(self.port)]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self.alive, "it serves", every=0.05)
        self.key = json.loads((folder / "keys.json").read_text())["agent"]
        turns = [
            {"id": f"m{n}", "author": "bot", "text": 20_000 * "\U0001f98a"} for n in range(200)
        ]
        with Client(self.url, self.key) as agent:
            for start in range(0, 200, 5):
                agent.post(f"{LARGE}/messages", {"messages": turns[start : start + 5]})
        own = {"Authorization": f"Bearer {self.key}"}
        given = {"headers": own, "trust_env": False, "timeout": LIMIT_SECONDS}
        self.large = len(httpx.get(self.url + LARGE, **given).content)
        assert self.large > 4_000_000

    def alive(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz", trust_env=False).status_code == 200
        return False

    def holds(self, address: tuple[str, int]) -> bool:
        """Whether it has a connection with somebody open."""
        found = psutil.Process(self.process.pid).net_connections("tcp4")
        return any(one.raddr == address and one.status == "ESTABLISHED" for one in found)

    def asked(self, path: str, *, times: int = 1, buffer: int = 0) -> socket.socket:
        """A connection that has asked for something, and takes only what fits its buffer."""
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(LIMIT_SECONDS)
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(times * self.request("GET", path))
        return connection

    def request(self, method: str, path: str, *more: str) -> bytes:
        said = (f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.key}", *more)
        return "\r\n".join((*said, "", "")).encode()

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(LIMIT_SECONDS)


def taken(connection: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            found += piece
    return bytes(found)


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hurried]:
    made = Hurried(tmp_path_factory.mktemp("hurried"))
    yield made
    if made.process.poll() is None:
        made.process.send_signal(signal.SIGKILL)
        made.process.wait()


def test_a_connection_that_idles_between_requests_is_closed(hurried: Hurried) -> None:
    with hurried.asked("/healthz") as connection:
        assert taken(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.long
def test_a_client_that_takes_nothing_of_its_answers_is_hung_up_on(hurried: Hurried) -> None:
    with hurried.asked(LARGE, times=TIMES, buffer=4096) as stuck:
        address = stuck.getsockname()
        until(lambda: hurried.holds(address), "it is let in", every=0.01)
        until(lambda: not hurried.holds(address), "it is hung up on")
        assert len(taken(stuck)) < TIMES * hurried.large, "it had room for all of it"


def test_a_client_that_takes_its_answers_slowly_gets_all_of_them(hurried: Hurried) -> None:
    whole = TIMES * hurried.large
    with hurried.asked(LARGE, times=TIMES) as slow:
        found = paused = 0
        while found < whole:
            piece = slow.recv(65536)
            assert piece, f"hung up on after {found} of {whole} bytes"
            found += len(piece)
            if found >= (paused + 1) * whole / 8:  # for twice as long as it may take nothing
                paused += 1
                time.sleep(SECOND / 4)


def test_connections_beyond_the_bound_are_refused_and_let_in_again(hurried: Hurried) -> None:
    held = [hurried.asked(LARGE, times=TIMES, buffer=4096) for _ in range(CONNECTIONS)]
    try:
        answer = httpx.get(f"{hurried.url}/healthz", trust_env=False, timeout=LIMIT_SECONDS)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "connections_full"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["connection"] == "close"
    finally:
        for connection in held:
            connection.close()
    until(hurried.alive, "those that hung up have left")


def test_a_request_that_never_ends_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """It is told to stop while a client owes it a body."""
    hurried = Hurried(tmp_path)
    head = hurried.request("POST", "/v1/score", "Content-Length: 1000") + b"{"
    with socket.create_connection(("127.0.0.1", hurried.port), timeout=LIMIT_SECONDS) as owing:
        owing.sendall(head)
        until(lambda: hurried.holds(owing.getsockname()), "it is let in", every=0.01)
        hurried.end()
    assert http_server.STOP_SECONDS < 25, (
        "`baton serve --workers`, `baton up` and compose wait longer"
    )
