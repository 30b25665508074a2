"""Batch throughput: messages per second through `/v1/score/batch` at 256, beside single ones.

Expected: one connection with 256 messages a request decides at least 3 times as many messages as
one connection with one message a request. Beside it stands single scoring on 64 connections, which
the engine batches by itself.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from experiments.benchmarks.harness.compared_systems import System, taught_system
from experiments.benchmarks.harness.load_generator import Load, Order
from experiments.benchmarks.harness.load_plan import LoadPlan
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded
from experiments.benchmarks.harness.traffic_mix import BATCH

GOAL = 3.0
WAYS = (("batch", 1), ("score", 1), ("score", 64))
COLUMNS = {
    "store": "store",
    "items": "messages a request",
    "per_second": "messages/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_us": "CPU us a message",
    "single_per_second": "single, 1 conn./s",
    "ratio_to_single": "/ single",
    "goal": "goal",
    "reached": "",
    "single_64_per_second": "single, 64 conn./s",
    "ratio_to_single_64": "/ single at 64",
}


def run(folder: Path, plan: LoadPlan, progress: Progress) -> list[Row]:
    """Measure; `folder` is empty and takes all files."""
    rows = []
    turns = plan.rounds * len(WAYS) * len(plan.stores)
    with ExitStack() as stack:
        load = stack.enter_context(Load())
        for store in plan.stores:
            system = stack.enter_context(taught_system(folder / store, store))
            rates: dict[tuple[str, int], list[tuple[float, float, float, float]]] = {}
            for number in range(plan.rounds):
                for place in range(len(WAYS)):
                    way = WAYS[(place + number) % len(WAYS)]
                    progress(f"{store}, {way[0]} on {way[1]}", turns and number * len(WAYS), turns)
                    rates.setdefault(way, []).append(_turn(load, system, way, number, plan))
            rows.append(_row(store, plan, rates))
    return rows


def _turn(
    load: Load, system: System, way: tuple[str, int], number: int, plan: LoadPlan
) -> tuple[float, float, float, float]:
    """Messages per second, p50 and p99 of a request in ms, processor us per message."""
    kind, connections = way
    settings = {"key": system.key, "name": f"b{number}{kind}{connections}"}
    cpu = system.server.cpu_seconds()
    figures = load.play(Order(system.server.port, kind, settings, connections, plan.seconds))
    each = BATCH if kind == "batch" else 1
    spent = (system.server.cpu_seconds() - cpu) / max(figures.answered * each, 1)
    return figures.answered * each / plan.seconds, figures.p50_ms, figures.p99_ms, spent * 1e6


def _row(
    store: str,
    plan: LoadPlan,
    rates: dict[tuple[str, int], list[tuple[float, float, float, float]]],
) -> Row:
    many, single, busy = (rates[way] for way in WAYS)

    def ratio(other: list[tuple[float, float, float, float]]) -> float:
        return rounded(median(a[0] / b[0] for a, b in zip(many, other, strict=True) if b[0]))

    return {
        "store": store,
        "items": BATCH,
        "per_second": rounded(median(one[0] for one in many)),
        "p50_ms": rounded(median(one[1] for one in many)),
        "p99_ms": rounded(median(one[2] for one in many)),
        "cpu_us": rounded(median(one[3] for one in many)),
        "single_per_second": rounded(median(one[0] for one in single)),
        "ratio_to_single": ratio(single),
        "goal": GOAL,
        "reached": ratio(single) >= GOAL,
        "single_64_per_second": rounded(median(one[0] for one in busy)),
        "ratio_to_single_64": ratio(busy),
        "rounds": plan.rounds,
        "load_average": load_average(),
    }
