"""Attack client on asyncio, in a process of its own: paced requests, and slow connections.

`Attackers` is its handle. The process reads what to do as one line of JSON, attacks until its input
ends, and answers every further line with the answers that it had since the line before.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Self

from experiments.benchmarks.harness.load_generator import ChildProcess
from experiments.benchmarks.harness.traffic_mix import head
from experiments.benchmarks.service_speed.hostile.attacks import Attack, Request, attacks

ANSWER_SECONDS = 30.0
"""A request that is not answered for so long hangs."""

PAUSE_SECONDS = 1.0
"""Slow clients send one byte, or read so many, in this time."""

READ_BYTES = 512
ALWAYS_RIGHT = frozenset({429, 503})
"""Overload may be told to anybody."""


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """Whom to attack: port, a bot's key of another workspace, a conversation of the normal bot."""

    port: int
    key: str
    victim: str
    flood_per_second: float
    giants_per_second: float


@dataclass(frozen=True, slots=True)
class AttackReport:
    """Answers since the report before: by class of status, by attack, and those that are wrong.

    Classes are 2xx, 4xx (but 429), 429, 503, 5xx (but 503), closed (no answer) and unanswered.
    """

    answers: dict[str, int]
    by_attack: dict[str, int]
    wrong: dict[str, int]
    cpu_seconds: float


class Attackers(ChildProcess):
    """The attackers, for the time of a block."""

    def __init__(self, plan: AttackPlan) -> None:
        super().__init__(__name__)
        self._plan = plan

    def __enter__(self) -> Self:
        super().__enter__()
        self.send(json.dumps(asdict(self._plan)))
        try:
            self.report()  # it has made what it will send: that is no part of the attack
        except RuntimeError:
            self.__exit__(None, None, None)
            raise
        return self

    def report(self) -> AttackReport:
        """Answers since the last report. RuntimeError if the process ended."""
        self.send("report")
        return AttackReport(**self.receive())


class _Tally:
    """Answers by class, by attack and wrong ones."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.by_attack: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._cpu = time.process_time()

    def add(self, attack: str, status: int | str, right: frozenset[int] | None = None) -> None:
        """Count an answer, or how there was none; without `right` every answer is right."""
        kind = status if isinstance(status, str) else _class_of(status)
        self.answers[kind] += 1
        self.by_attack[f"{attack} {status}"] += 1
        rounded = 200 if kind == "2xx" else status
        if right is not None and isinstance(status, int) and rounded not in right | ALWAYS_RIGHT:
            self.wrong[f"{attack} {status}"] += 1

    def take(self) -> AttackReport:
        """What was counted since the last time."""
        cpu = time.process_time()
        counts = dict(self.answers), dict(self.by_attack), dict(self.wrong)
        report = AttackReport(*counts, round(cpu - self._cpu, 3))
        self._cpu = cpu
        for counter in (self.answers, self.by_attack, self.wrong):
            counter.clear()
        return report


def _class_of(status: int) -> str:
    return str(status) if status in ALWAYS_RIGHT else f"{status // 100}xx"


class _Client:
    """One kept-alive connection that sends a request and reads its answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, data: bytes) -> int | str:
        """The status; `closed` if the server hung up without one, `unanswered` after a while."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(data)
                status, closes = await _read_answer(reader)
        except TimeoutError:
            status, closes = "unanswered", True
        except (OSError, EOFError):
            status, closes = "closed", True
        if closes and self._streams is not None:
            self._streams[1].close()
            self._streams = None
        return status


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int | str, bool]:
    """Status, and whether the server hangs up. OSError, EOFError."""
    lines = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = lines.partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return int(lines[9:12]), b"connection: close" in lines


async def _attack(port: int, attack: Attack, tally: _Tally) -> None:
    """Send an attack's requests at its rate; a slow server is sent fewer, never more at once."""
    queue: asyncio.Queue[Request] = asyncio.Queue(attack.connections)

    async def send() -> None:
        client = _Client(port)
        while True:
            data, right = await queue.get()
            tally.add(attack.name, await client.exchange(data), right)

    async with asyncio.TaskGroup() as group:
        for _ in range(attack.connections):
            group.create_task(send())
        due = time.monotonic()
        while True:
            for _ in range(attack.burst):
                await queue.put(next(attack.requests))
            due = max(due + attack.burst / attack.per_second, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _send_slowly(plan: AttackPlan, number: int, tally: _Tally) -> None:
    """Send a request byte by byte: all of it, or its body only."""
    body = b'{"conversation_id":"slow","message":{"id":"u%d","text":"hello"}}' % number
    top = head("/v1/score", plan.key, len(body))
    start, rest = (top, body) if number % 2 else (b"", top + body)
    reader, writer = await asyncio.open_connection("127.0.0.1", plan.port)
    answer = asyncio.ensure_future(_read_answer(reader))
    try:
        writer.write(start)
        for place in range(len(rest)):
            writer.write(rest[place : place + 1])
            if (await asyncio.wait({answer}, timeout=PAUSE_SECONDS))[0]:
                break
        async with asyncio.timeout(ANSWER_SECONDS):
            tally.add("slow sender", (await answer)[0])
    finally:
        answer.cancel()
        writer.close()


async def _read_slowly(plan: AttackPlan, number: int, tally: _Tally) -> None:
    """Ask for a long answer, or for events without an end, and read it a few bytes a second."""
    path = "/v1/events" if number % 2 else "/openapi.json"
    top = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {plan.key}\r\n\r\n"
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", plan.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=READ_BYTES)
    try:
        writer.write(top.encode())
        piece = await reader.read(READ_BYTES)
        if piece:
            tally.add("slow reader", int(piece[9:12]))
        while piece:
            await asyncio.sleep(PAUSE_SECONDS)
            piece = await reader.read(READ_BYTES)
    finally:
        writer.close()


async def _idle(plan: AttackPlan, _number: int, tally: _Tally) -> None:
    """Open a connection and say nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plan.port)
    try:
        await reader.read(1)
        tally.add("idle", "closed")
    finally:
        writer.close()


SlowClient = Callable[[AttackPlan, int, _Tally], Awaitable[None]]
_SLOW: tuple[tuple[str, SlowClient, int], ...] = (
    ("slow sender", _send_slowly, 32),
    ("slow reader", _read_slowly, 32),
    ("idle", _idle, 64),
)
"""Slow clients by name, each with how many there are at once."""


async def _again(
    name: str, connect: SlowClient, plan: AttackPlan, number: int, tally: _Tally
) -> None:
    """One slow connection after another."""
    while True:
        try:
            await connect(plan, number, tally)
        except TimeoutError:
            tally.add(name, "unanswered")
        except (OSError, EOFError):
            tally.add(name, "closed")
        await asyncio.sleep(PAUSE_SECONDS)


async def _attack_until_told() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    plan, tally = AttackPlan(**json.loads(await lines.readline())), _Tally()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_attack(plan.port, attack, tally))
            for attack in attacks(plan.key, plan.victim, plan)
        ]
        tasks += [
            group.create_task(_again(name, connect, plan, number, tally))
            for name, connect, connections in _SLOW
            for number in range(connections)
        ]
        while await lines.readline():
            print(json.dumps(asdict(tally.take())), flush=True)
        for task in tasks:
            task.cancel()


def main() -> None:
    """Attack until nobody listens any more."""
    asyncio.run(_attack_until_told())


if __name__ == "__main__":
    main()
