"""Events of another system through inbox, decision and delivery, beside plain scores.

Expected: at least .4 as many events a second as `/v1/score` answers, and 99 of 100 handovers at the
far side within 500 ms of the event, under load.

Both are answered by one process in the same live workspace. An event counts once its decision is
made: the time until the inbox is empty is in it. A handover is timed from the event's sending to
the first call at a far side that answers at once, beside half of the events a second measured.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.compared_systems import System, taught_system
from experiments.benchmarks.harness.load_generator import Load, Order
from experiments.benchmarks.harness.load_plan import LoadPlan
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, rounded
from experiments.replay.client import BatonClient

GOAL_RATIO, GOAL_MS = 0.4, 500.0
ASKS = "I want to talk to a human please"
CONNECTIONS = 16
PATIENCE_SECONDS = 60.0
COLUMNS = {
    "store": "store",
    "scores_per_second": "scores/s",
    "events_per_second": "events/s",
    "ratio": "ratio",
    "load_per_second": "load, events/s",
    "handovers": "handovers",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "reached": "",
}
MAPPING = {
    "signature": {"scheme": "hmac", "header": "X-Signature"},
    "conversation": "conversation",
    "key": "key",
    "rules": [{"event": "message", "id": "id", "text": "text"}],
    "hand_over": [{"name": "status", "path": "/open", "body": {"conversation": "{conversation}"}}],
}


class FarSide:
    """Answers every call at once, and remembers when it came."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}
        self.url = ""


@contextmanager
def far_side() -> Iterator[FarSide]:
    side = FarSide()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            side.came.setdefault(body["conversation"], time.perf_counter())
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    side.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield side
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(folder: Path, plan: LoadPlan, progress: Progress, *, handovers: int = 200) -> list[Row]:
    """Measure on each store; `folder` is empty and takes all files."""
    rows = []
    for store in plan.stores:
        with ExitStack() as stack:
            system = stack.enter_context(taught_system(folder / store, store))
            jobs = processes.jobs(system.server)
            stack.enter_context(processes.running(jobs))
            far, load = stack.enter_context(far_side()), stack.enter_context(Load())
            rows.append(_Measurement(system, far, load).row(plan, progress, handovers))
    return rows


class _Measurement:
    """A live workspace with a connection, and the load on it."""

    def __init__(self, system: System, far: FarSide, load: Load) -> None:
        self._system, self._far, self._load = system, far, load
        url, admin = system.server.url, processes.key(system.server.folder, "admin")
        with BatonClient(url, admin) as caller:
            made = caller.post("/v1/workspaces", {"id": "connected", "mode": "live"})
        self._keys = made["keys"]
        config = MAPPING | {"base_url": far.url}
        with BatonClient(url, self._keys["admin"]) as caller:
            asked = {"kind": "hook", "name": "bench", "config": config}
            connection = caller.post("/v1/connections", asked)
        self._secret = str(connection["secret"])
        self._path = f"/connect/{connection['id']}"

    def row(self, plan: LoadPlan, progress: Progress, handovers: int) -> Row:
        scores, events = [], []
        for number in range(plan.rounds):
            progress(self._system.name, number, plan.rounds + 1)
            scores.append(self._scores(plan.seconds, number))
            events.append(self._events(plan.seconds, number))
        per_second = statistics.median(events)
        times = sorted(self._handovers(per_second / 2, handovers))
        at = {share: times[min(int(share * len(times)), len(times) - 1)] for share in (0.5, 0.99)}
        ratio = per_second / statistics.median(scores)
        return {
            "store": self._system.name,
            "scores_per_second": rounded(statistics.median(scores)),
            "events_per_second": rounded(per_second),
            "ratio": rounded(ratio),
            "load_per_second": rounded(per_second / 2),
            "handovers": len(times),
            "p50_ms": rounded(at[0.5]),
            "p99_ms": rounded(at[0.99]),
            "reached": ratio >= GOAL_RATIO and at[0.99] <= GOAL_MS,
            "load_average": load_average(),
        }

    def _scores(self, seconds: float, number: int) -> float:
        settings = {"key": self._keys["bot"], "name": f"s{number}"}
        port = self._system.server.port
        return self._load.play(Order(port, "score", settings, CONNECTIONS, seconds)).per_second

    def _order(self, name: str, seconds: float, per_second: float = 0.0) -> Order:
        settings = {"path": self._path, "secret": self._secret, "name": name}
        port = self._system.server.port
        return Order(port, "connect", settings, CONNECTIONS, seconds, per_second)

    def _events(self, seconds: float, number: int) -> float:
        began = time.perf_counter()
        figures = self._load.play(self._order(f"e{number}", seconds))
        if figures.faults:
            raise RuntimeError(f"events were refused: {dict(figures.faults)}")
        self._wait_until_done()
        return figures.answered / (time.perf_counter() - began)

    def _wait_until_done(self, *, sent: bool = False) -> None:
        """Wait until the inbox is empty; with `sent`, until what follows was sent, too."""
        with BatonClient(self._system.server.url, self._keys["admin"]) as admin:
            while True:
                found = admin.get("/v1/connections")["connections"][0]
                is_open = {"waiting", "sending"} & set(found["deliveries"])
                if not found["waiting"] and not (sent and is_open):
                    return
                time.sleep(0.02)

    def _handovers(self, per_second: float, count: int) -> list[float]:
        """Milliseconds from an event to its handover at the far side, one after the other."""
        time.sleep(2.0)  # until all that happened has become deliveries
        self._wait_until_done(sent=True)
        self._load.start(self._order("load", 1.0 + 0.2 * count, per_second))
        url = self._system.server.url + self._path
        times = []
        with httpx.Client(trust_env=False) as caller:
            for number in range(count):
                name = f"asks-{number}"
                body = {"conversation": name, "key": name, "id": "u1", "text": ASKS}
                raw = json.dumps(body).encode()
                digest = hmac.new(self._secret.encode(), raw, hashlib.sha256).hexdigest()
                began = time.perf_counter()
                caller.post(url, content=raw, headers={"X-Signature": digest}).raise_for_status()
                while name not in self._far.came:
                    if time.perf_counter() - began > PATIENCE_SECONDS:
                        raise RuntimeError(f"handover {number} never came")
                    time.sleep(0.001)
                times.append(1e3 * (self._far.came[name] - began))
        self._load.result()
        return times
