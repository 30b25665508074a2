"""The load generator: a process of its own with plain sockets, so that it is not what is measured.

`Load` is its handle: `start` an order, ask for its `result`. The process reads one order of JSON a
line and answers one line of figures. Each connection has one request under way at a time (closed
loop), kept alive; what is to be sent comes from `traffic`. One request costs it some 15 us.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from experiments.bench.traffic import PLAYERS, Player

GRACE_SECONDS = 30.0
"""How long answers still under way at the end are waited for."""

ORDER_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to send where: `kind` names a player of `traffic`, `given` is what it needs."""

    port: int
    kind: str
    given: Mapping[str, Any]
    connections: int
    seconds: float
    answers_max: int = 50_000_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of an order. Times are in milliseconds; `sent` counts good answers."""

    sent: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    faults: Mapping[str, int]
    client_cpu_us: float


class Load:
    """The process, for the time of a block."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def start(self, order: Order) -> None:
        """Begin sending; `result` waits for the end."""
        assert self._process.stdin is not None
        found = {name: getattr(order, name) for name in Order.__slots__}
        self._process.stdin.write(json.dumps(found) + "\n")
        self._process.stdin.flush()

    def result(self) -> Figures:
        """The figures of the order that was started. RuntimeError if the generator broke."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended; its error stands above")
        found = json.loads(line)
        if "error" in found:
            raise RuntimeError(found["error"])
        return Figures(**found)

    def play(self, order: Order) -> Figures:
        """Start an order and wait for its figures."""
        self.start(order)
        return self.result()


class _Connection:
    """One connection: what it sends, and what it has of the answer so far."""

    __slots__ = ("began", "buffer", "due", "gone", "player", "socket")

    def __init__(self, port: int, player: Player) -> None:
        self.player = player
        self.due = next(player)
        self.buffer = b""
        self.began = 0.0
        self.gone = False
        self.connect(port)

    def connect(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=GRACE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        self.buffer = b""
        self.began = time.perf_counter()
        self.socket.sendall(self.due)

    def receive(self) -> tuple[int, bytes, bool] | None:
        """Status, body and whether the server hangs up; None until the answer is whole."""
        data = self.socket.recv(262_144)
        if not data:
            return 0, b"", True
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        lines = self.buffer[:end].lower()
        place = lines.find(b"content-length:")
        if place < 0:
            return 0, b"", True
        length = int(lines[place + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return None
        closes = b"connection: close" in lines or lines.startswith(b"http/1.0")
        return int(self.buffer[9:12]), self.buffer[end + 4 :], closes


def perform(order: Order) -> Figures:
    """Carry out an order in this process."""
    if order.seconds > ORDER_SECONDS_MAX:
        raise ValueError(f"an order lasts at most {ORDER_SECONDS_MAX:g} seconds")
    make = PLAYERS[order.kind]
    poll = select.epoll()
    open_: dict[int, _Connection] = {}
    for number in range(order.connections):
        one = _Connection(order.port, make(order.given, number))
        open_[one.socket.fileno()] = one
        poll.register(one.socket.fileno(), select.EPOLLIN)
    times: list[float] = []
    faults: Counter[str] = Counter()
    cpu = time.process_time()
    began = time.perf_counter()
    try:
        _exchange(order, poll, open_, times, faults, began + order.seconds)
    finally:
        for one in open_.values():
            one.socket.close()
        poll.close()
    seconds = order.seconds if len(times) < order.answers_max else time.perf_counter() - began
    return _figures(times, seconds, faults, time.process_time() - cpu)


def _exchange(
    order: Order,
    poll: select.epoll,
    open_: dict[int, _Connection],
    times: list[float],
    faults: Counter[str],
    until: float,
) -> None:
    waiting = len(open_)
    for one in open_.values():
        one.send()
    while waiting:
        now = time.perf_counter()
        if now > until + GRACE_SECONDS:
            faults["unanswered"] += waiting
            return
        for place, _ in poll.poll(1.0):
            one = open_[place]
            found = one.receive()
            if found is None:
                continue
            now = time.perf_counter()
            status, body, closes = found
            if not 200 <= status < 300:
                faults[str(status)] += 1
            elif now <= until:
                times.append(now - one.began)
            if closes:
                poll.unregister(place)
                one.socket.close()
                del open_[place]
            if now >= until or len(times) >= order.answers_max:
                waiting -= 1
                continue
            one.due = one.player.send(body)
            if closes:
                one.connect(order.port)
                open_[one.socket.fileno()] = one
                poll.register(one.socket.fileno(), select.EPOLLIN)
            one.send()


def _figures(times: list[float], seconds: float, faults: Counter[str], cpu: float) -> Figures:
    times.sort()

    def at(share: float) -> float:
        return times[min(int(share * len(times)), len(times) - 1)] * 1e3 if times else 0.0

    return Figures(
        sent=len(times),
        seconds=seconds,
        per_second=len(times) / seconds,
        p50_ms=at(0.5),
        p99_ms=at(0.99),
        max_ms=at(1.0),
        faults=dict(faults),
        client_cpu_us=cpu / max(len(times), 1) * 1e6,
    )


def main() -> None:
    """Take orders until nobody gives any."""
    for line in sys.stdin:
        try:
            figures = perform(Order(**json.loads(line)))
            answer = {name: getattr(figures, name) for name in Figures.__slots__}
        except (OSError, ValueError) as error:
            answer = {"error": f"the load generator: {error!r}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
