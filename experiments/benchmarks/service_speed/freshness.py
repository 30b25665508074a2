"""Freshness: time from an acknowledged outcome to a score that reflects it, under load.

Expected: 99 of 100 within 50 ms on the replica that took the outcome, within 300 ms on another.

On PostgreSQL two replicas share a database and are under load, on SQLite it is one process, for
which it is meant. An outcome is given to the first; from the moment
it is acknowledged, one prober at each replica scores new messages one after another until an
answer stands at the outcome's ledger position or later. What is counted ends with that answer, so
it contains a whole request under load.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from zlib import crc32

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.compared_systems import System, taught_system
from experiments.benchmarks.harness.load_generator import Load, Order
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, rounded
from experiments.benchmarks.harness.traffic_mix import texts
from experiments.replay.client import BatonClient, path_of

GOALS_MS = {"same": 50.0, "another": 300.0}
PATIENCE_SECONDS = 20.0
COLUMNS = {
    "store": "store",
    "replica": "replica",
    "outcomes": "outcomes",
    "load_per_second": "load, decisions/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "probes": "scores until seen",
    "goal_ms": "goal p99",
    "reached": "",
}


@dataclass(frozen=True, slots=True)
class Delay:
    """Time until an outcome was reflected, and the number of probes it took."""

    milliseconds: float
    probes: int


def run(
    folder: Path,
    stores: Sequence[str],
    progress: Progress,
    *,
    outcomes: int = 300,
    connections: int = 8,
) -> list[Row]:
    """Measure; `folder` is empty and takes all files. `connections` load each replica."""
    rows: list[Row] = []
    for store in stores:
        with ExitStack() as stack:
            first = stack.enter_context(taught_system(folder / store, store))
            ports = {"same": first.server.port}
            if store != "sqlite":
                second = processes.replica(first.server, "another")
                ports["another"] = stack.enter_context(processes.running(second)).port
            rows += _measure(stack, first, ports, progress, outcomes, connections)
    return rows


def _measure(
    stack: ExitStack,
    first: System,
    ports: Mapping[str, int],
    progress: Progress,
    outcomes: int,
    connections: int,
) -> list[Row]:
    loads = {name: stack.enter_context(Load()) for name in ports}
    callers = {
        name: stack.enter_context(BatonClient(f"http://127.0.0.1:{port}", first.key))
        for name, port in ports.items()
    }
    pool = stack.enter_context(ThreadPoolExecutor(2))
    delays: dict[str, list[Delay]] = {name: [] for name in ports}
    began, rates = time.monotonic(), []
    number = 0
    while number < outcomes:
        for name, load in loads.items():
            settings = {"key": first.key, "name": f"l{name}{number}"}
            load.start(Order(ports[name], "score", settings, connections, _SLICE_SECONDS))
        until = time.monotonic() + _SLICE_SECONDS
        while time.monotonic() < until - 0.2 and number < outcomes:
            progress(first.name, number, outcomes)
            position, acknowledged = post_outcome(callers["same"], str(number))
            probes = {
                name: pool.submit(_probe, caller, position, acknowledged, f"{name}{number}")
                for name, caller in callers.items()
            }
            for name, answer in probes.items():
                delays[name].append(answer.result())
            number += 1
        rates.append(sum(load.result().per_second for load in loads.values()))
        if time.monotonic() - began > _SECONDS_MAX:
            break
    return [_row(first.name, name, own, rates) for name, own in delays.items()]


_SLICE_SECONDS = 3.0
_SECONDS_MAX = 600.0


def post_outcome(caller: BatonClient, name: str) -> tuple[int, float]:
    """Score a message and label it; the outcome's position, and when it was acknowledged."""
    conversation, number = f"outcome-{name}", crc32(name.encode())
    text = texts()[number % len(texts())]
    body = {"conversation_id": conversation, "message": {"id": "u1", "text": text}}
    caller.post("/v1/score", body)
    labels = {"labels": [{"message_id": "u1", "label": float(number % 2)}]}
    answer = caller.post(path_of("conversations", conversation, "outcome"), labels)
    return int(answer["position"]), time.perf_counter()


def _probe(caller: BatonClient, position: int, acknowledged: float, name: str) -> Delay:
    for probe in count(1):
        text = texts()[probe % len(texts())]
        message = {"id": "u1", "text": text}
        body = {"conversation_id": f"probe-{name}-{probe}", "message": message}
        answer = caller.post("/v1/score", body)
        seconds = time.perf_counter() - acknowledged
        if answer["position"] >= position or seconds > PATIENCE_SECONDS:
            return Delay(seconds * 1e3, probe)
    raise AssertionError("count() has no end")


def _row(store: str, replica: str, delays: Sequence[Delay], rates: Sequence[float]) -> Row:
    times = sorted(delay.milliseconds for delay in delays)

    def at(share: float) -> float:
        return rounded(times[min(int(share * len(times)), len(times) - 1)])

    return {
        "store": store,
        "replica": replica,
        "outcomes": len(times),
        "load_per_second": rounded(sum(rates) / len(rates)),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "probes": max(delay.probes for delay in delays),
        "goal_ms": GOALS_MS[replica],
        "reached": at(0.99) <= GOALS_MS[replica],
        "load_average": load_average(),
    }
