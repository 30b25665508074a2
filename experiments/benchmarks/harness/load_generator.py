"""HTTP load generator on plain sockets (closed loop or paced), in a process of its own.

`Load` is its handle: `start` an order, ask for its `result`. The process reads one order of JSON a
line and answers one line of figures. Each connection has one request under way at a time and is
kept alive; what is to be sent comes from `traffic`. One request costs it some 50 us, half of them
in the kernel.
"""

from __future__ import annotations

import heapq
import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from experiments.benchmarks.harness.traffic_mix import PLAYERS, Player

GRACE_SECONDS = 30.0
"""How long answers still under way at the end are waited for."""

ORDER_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Order:
    """Load order: port, traffic kind (a player of `traffic_mix`) with its `settings`, and pace.

    With `per_second` 0 each connection sends as soon as it is answered; otherwise all together
    send so many a second, or as many as are answered.
    """

    port: int
    kind: str
    settings: Mapping[str, Any]
    connections: int
    seconds: float
    per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Results of an order. `sent` are the good answers in time, `answered` the late ones, too."""

    sent: int
    answered: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    faults: Mapping[str, int]
    client_cpu_us: float


class ChildProcess:
    """A module that runs in a process of its own, for the time of a block; it is told and answers
    line by line.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
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
        self._process.stdout.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def send(self, line: str) -> None:
        """Tell it a line; one that has ended says so when its answer is read."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def receive(self) -> Any:
        """Its next answer, from JSON. RuntimeError if it ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended; its error stands above")
        return json.loads(line)


class Load(ChildProcess):
    """The load generator, for the time of a block."""

    def __init__(self) -> None:
        super().__init__("experiments.benchmarks.harness.load_generator")

    def start(self, order: Order) -> None:
        """Begin sending; `result` waits for the end."""
        self.send(json.dumps({name: getattr(order, name) for name in Order.__slots__}))

    def result(self) -> Figures:
        """The figures of the order that was started. RuntimeError if the generator broke."""
        figures = self.receive()
        if "error" in figures:
            raise RuntimeError(figures["error"])
        return Figures(**figures)

    def play(self, order: Order) -> Figures:
        """Start an order and wait for its figures."""
        self.start(order)
        return self.result()


class _Connection:
    """One connection: what it sends, and what it has of the answer so far."""

    __slots__ = ("began", "buffer", "due", "due_at", "player", "socket")

    def __init__(self, port: int, player: Player) -> None:
        self.player = player
        self.due = next(player)
        self.due_at = 0.0
        self.buffer = b""
        self.began = 0.0
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
        try:
            data = self.socket.recv(262_144)
        except ConnectionError:
            data = b""
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


class _Run:
    """One order being carried out."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.times: list[float] = []
        self.answered = 0
        self.faults: Counter[str] = Counter()
        self._between = order.connections / order.per_second if order.per_second else 0.0
        self._open: dict[int, _Connection] = {}
        self._resting: list[tuple[float, int]] = []
        self._poll = select.epoll()
        make = PLAYERS[order.kind]
        for number in range(order.connections):
            self._add(_Connection(order.port, make(order.settings, number)))

    def _add(self, connection: _Connection) -> None:
        self._open[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)

    def close(self) -> None:
        for connection in self._open.values():
            connection.socket.close()
            connection.player.close()
        self._poll.close()

    def play(self) -> None:
        """Send until the time is up, then wait for what is still under way."""
        began = time.perf_counter()
        until = began + self.order.seconds
        waiting = len(self._open)
        for number, (place, connection) in enumerate(self._open.items()):
            connection.due_at = began + number * self._between / len(self._open)
            heapq.heappush(self._resting, (connection.due_at, place))
        while waiting:
            now = time.perf_counter()
            if now > until + GRACE_SECONDS:
                self.faults["unanswered"] += waiting
                return
            while self._resting and self._resting[0][0] <= now:
                self._open[heapq.heappop(self._resting)[1]].send()
            rest = self._resting[0][0] - now if self._resting else 1.0
            for place, _ in self._poll.poll(min(max(rest, 0.0), 1.0)):
                waiting -= self._receive(place, until)

    def _receive(self, place: int, until: float) -> int:
        """Take what has come; 1 if it was this connection's last answer."""
        connection = self._open[place]
        response = connection.receive()
        if response is None:
            return 0
        now = time.perf_counter()
        status, body, closes = response
        if not 200 <= status < 300:
            self.faults[str(status)] += 1
        else:
            self.answered += 1
            if now <= until:
                self.times.append(now - connection.began)
        connection.due = connection.player.send(body if status else b"")
        if closes:
            self._poll.unregister(place)
            connection.socket.close()
            del self._open[place]
            if now < until:
                connection.connect(self.order.port)
                self._add(connection)
        if now >= until:
            return 1
        connection.due_at = max(connection.due_at + self._between, now)
        if connection.due_at >= until:
            return 1
        if connection.due_at > now:
            heapq.heappush(self._resting, (connection.due_at, connection.socket.fileno()))
        else:
            connection.send()
        return 0


def perform(order: Order) -> Figures:
    """Carry out an order in this process."""
    if order.seconds > ORDER_SECONDS_MAX:
        raise ValueError(f"an order lasts at most {ORDER_SECONDS_MAX:g} seconds")
    run = _Run(order)
    cpu = time.process_time()
    try:
        run.play()
    finally:
        run.close()
    return _figures(run, time.process_time() - cpu)


def _figures(run: _Run, cpu: float) -> Figures:
    times = sorted(run.times)

    def at(share: float) -> float:
        return times[min(int(share * len(times)), len(times) - 1)] * 1e3 if times else 0.0

    return Figures(
        sent=len(times),
        answered=run.answered,
        seconds=run.order.seconds,
        per_second=len(times) / run.order.seconds,
        p50_ms=at(0.5),
        p99_ms=at(0.99),
        max_ms=at(1.0),
        faults=dict(run.faults),
        client_cpu_us=cpu / max(run.answered, 1) * 1e6,
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
