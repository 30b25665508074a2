"""Load of the console: open pages on the event stream, and the latency of a long queue.

Expected: 200 open pages slow scoring by no more than 10 %; a page of the queue takes the server
less than 50 ms in 95 of 100 cases while 2 000 conversations wait, and so does a conversation of 200
turns.

Scoring is loaded as `baton bench score` does it, in turns with and without the followers; in both
ten conversations a second escalate, and every follower is told of each. By CPU: what one decision
costs the server's processor in either, which other work on the machine disturbs less. The pages
are asked for one at a time, of the same process that holds the 2 000. What another machine can
compare is measured in turns: a conversation of 200 turns beside one of 20, and the first paint of
Today in a browser beside that of the smallest page.
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx
import numpy as np

from experiments.benchmarks.harness import first_paint, processes
from experiments.benchmarks.harness.compared_systems import System, taught_system
from experiments.benchmarks.harness.load_generator import Load, Order
from experiments.benchmarks.harness.load_plan import LoadPlan
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, rounded
from experiments.replay.client import BatonClient

GOAL_SLOWED, GOAL_PAGE_MS = 0.10, 50.0
COLUMNS = {
    "store": "store",
    "followers": "open pages",
    "alone_per_second": "decisions/s alone",
    "followed_per_second": "with open pages",
    "slowed": "slowed by",
    "slowed_cpu": "by CPU",
    "goal_slowed": "goal",
    "slowed_reached": "",
    "events_per_second": "events/s to all",
    "heard_p50_ms": "heard after, p50 ms",
    "heard_p99_ms": "p99 ms",
    "page_p50_ms": "queue of 2 000, p50 ms",
    "page_p95_ms": "p95 ms",
    "turns_p50_ms": "200 turns, p50 ms",
    "turns_p95_ms": "p95 ms",
    "goal_page_ms": "goal p95",
    "page_reached": "",
    "turns_ratio": "200 turns by 20",
    "today_paint_ratio": "first paint of Today by the smallest page's",
}
ESCALATES = "please let me talk to a human"
WAITING, TURNS, FEW_TURNS, PAGES = 2_000, 200, 20, 200
CONNECTIONS = 16
PER_SECOND = 10.0
"""Escalations, of which every open page hears."""


class Followers:
    """Open connections to the events, read by a thread that only counts."""

    def __init__(self, port: int, cookie: str, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets = [_follow(port, cookie) for _ in range(count)]
        for one in self._sockets:
            self._selector.register(one, selectors.EVENT_READ)
        self.events = 0
        self.heard: dict[str, float] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        first = self._sockets[0] if self._sockets else None
        while not self._ends.is_set():
            for key, _ in self._selector.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(65_536)
                if not data:
                    raise ConnectionError("a follower was dropped")
                self.events += data.count(b"event: handoff")
                if key.fileobj is first:
                    now = time.perf_counter()
                    for name in re.findall(rb'data: {"id": "(\w+)"', data):
                        self.heard.setdefault(name.decode(), now)

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        for one in self._sockets:
            one.close()


def _follow(port: int, cookie: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
    connection.sendall(head.encode())
    if b" 200 " not in connection.recv(65_536):
        raise ConnectionError("the events refuse a follower")
    return connection


class Escalations(threading.Thread):
    """Customers who ask for a person, so many a second, until told to end."""

    def __init__(self, url: str, key: str, per_second: float) -> None:
        super().__init__(daemon=True)
        self._url, self._key, self._pause = url, key, 1.0 / per_second
        self._ends = threading.Event()
        self.acknowledged: dict[str, float] = {}

    def run(self) -> None:
        with BatonClient(self._url, self._key) as bot:
            due, number = time.perf_counter(), 0
            while not self._ends.wait(max(0.0, due - time.perf_counter())):
                number += 1
                due += self._pause
                message = {"id": "u1", "text": ESCALATES}
                body = {"conversation_id": f"asks-{id(self)}-{number}", "message": message}
                handoff = bot.post("/v1/score", body)["handoff"]["id"]
                self.acknowledged[handoff] = time.perf_counter()

    def end(self) -> None:
        self._ends.set()
        self.join()


def run(folder: Path, plan: LoadPlan, progress: Progress, *, followers: int = 200) -> list[Row]:
    """Measure; `folder` is empty and takes all files."""
    rows = []
    for store in plan.stores:
        with ExitStack() as stack:
            system = stack.enter_context(taught_system(folder / store, store))
            rows.append(_row(stack, system, plan, progress, followers))
    return rows


def _row(stack: ExitStack, system: System, plan: LoadPlan, progress: Progress, pages: int) -> Row:
    home, port, cookie = system.server.folder, system.server.port, _cookie(system)
    load = stack.enter_context(Load())
    rates: dict[int, list[tuple[float, float]]] = {0: [], pages: []}
    events, delays = list[float](), list[float]()
    with _escalating(system) as escalations:
        for number in range(plan.rounds):
            progress(system.name, number, plan.rounds)
            for count in (0, pages) if number % 2 else (pages, 0):
                followers = Followers(port, cookie, count)
                settings = {"key": system.key, "name": f"c{number}-{count}"}
                order = Order(port, "score", settings, CONNECTIONS, plan.seconds)
                cpu = system.server.cpu_seconds()
                figures = load.play(order)
                cpu = system.server.cpu_seconds() - cpu
                rates[count].append((figures.per_second, cpu / max(figures.answered, 1)))
                followers.close()
                if count:
                    events.append(followers.events / plan.seconds)
                    delays += _delays(escalations, followers)
    alone, followed = rates[0], rates[pages]
    queue, conversation, short = _pages(system)
    today = first_paint.ratio(system.server.url, processes.key(home, "engineer"), "/console/today")
    pairs = list(zip(alone, followed, strict=True))
    slowed = 1 - median(b[0] / a[0] for a, b in pairs)
    p50, p95 = (float(np.percentile(queue, share)) for share in (50, 95))
    turns_p50, turns_p95 = (float(np.percentile(conversation, share)) for share in (50, 95))
    return {
        "store": system.name,
        "followers": pages,
        "alone_per_second": rounded(median(one[0] for one in alone)),
        "followed_per_second": rounded(median(one[0] for one in followed)),
        "slowed": rounded(slowed),
        "slowed_cpu": rounded(1 - median(a[1] / b[1] for a, b in pairs)),
        "goal_slowed": GOAL_SLOWED,
        "slowed_reached": slowed <= GOAL_SLOWED,
        "events_per_second": rounded(median(events)),
        "heard_p50_ms": rounded(float(np.percentile(delays, 50))) if delays else None,
        "heard_p99_ms": rounded(float(np.percentile(delays, 99))) if delays else None,
        "page_p50_ms": rounded(p50),
        "page_p95_ms": rounded(p95),
        "turns_p50_ms": rounded(turns_p50),
        "turns_p95_ms": rounded(turns_p95),
        "goal_page_ms": GOAL_PAGE_MS,
        "page_reached": max(p95, turns_p95) <= GOAL_PAGE_MS,
        "turns_ratio": rounded(median(a / b for a, b in zip(conversation, short, strict=True))),
        "today_paint_ratio": None if today is None else rounded(today),
        "rounds": plan.rounds,
        "load_average": load_average(),
    }


@contextmanager
def _escalating(system: System) -> Iterator[Escalations]:
    bot = processes.key(system.server.folder, "bot")
    escalations = Escalations(system.server.url, bot, PER_SECOND)
    escalations.start()
    try:
        yield escalations
    finally:
        escalations.end()


def _delays(escalations: Escalations, followers: Followers) -> list[float]:
    """From each escalation's acknowledgement until one follower heard of it, in milliseconds."""
    acknowledged = dict(escalations.acknowledged)
    return [
        max(0.0, at - acknowledged[name]) * 1000
        for name, at in followers.heard.items()
        if name in acknowledged
    ]


def _pages(system: System) -> tuple[list[float], list[float], list[float]]:
    """Latencies in ms of the queue page while 2 000 wait, and of a long and a short conversation's
    page; the two conversations are asked for in turns.
    """
    home, url = system.server.folder, system.server.url
    with BatonClient(url, processes.key(home, "bot")) as bot:
        for start in range(0, WAITING, 250):
            items = [
                {"conversation_id": f"waits-{n}", "message": {"id": "u1", "text": ESCALATES}}
                for n in range(start, start + 250)
            ]
            bot.post("/v1/score/batch", {"items": items})
        long, short = (_talk(bot, turns) for turns in (TURNS, FEW_TURNS))
    with _signed_in(system) as browser:
        queue = [_page_times(browser, "/console/queue") for _ in range(PAGES)]
        both = [(_page_times(browser, long), _page_times(browser, short)) for _ in range(PAGES)]
    return queue, [one for one, _ in both], [other for _, other in both]


@contextmanager
def _signed_in(system: System) -> Iterator[httpx.Client]:
    """An agent's browser."""
    url = system.server.url
    with httpx.Client(base_url=url, trust_env=False, follow_redirects=True, timeout=30) as browser:
        form = browser.get("/console/sign-in").text
        token = re.search(r'name="token" value="(\w+)"', form)
        assert token is not None
        credentials = {"token": token[1], "key": processes.key(system.server.folder, "agent")}
        browser.post("/console/sign-in", data=credentials).raise_for_status()
        yield browser


def _cookie(system: System) -> str:
    """The session of an agent's browser."""
    with _signed_in(system) as browser:
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


def _talk(bot: BatonClient, turns: int) -> str:
    """The page of a conversation of so many turns, which waits."""
    history = [
        {"id": f"h{n}", "author": ("user", "bot")[n % 2], "text": f"where is my parcel {n}"}
        for n in range(turns - 1)
    ]
    message = {"id": "u1", "text": ESCALATES}
    asked = {"conversation_id": f"of {turns}", "message": message, "history": history}
    return f"/console/handoffs/{bot.post('/v1/score', asked)['handoff']['id']}"


def _page_times(browser: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    browser.get(path).raise_for_status()
    return (time.perf_counter() - began) * 1000
