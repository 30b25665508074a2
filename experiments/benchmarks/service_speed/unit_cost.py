"""Unit costs of a message, an outcome and a checkpoint: CPU time, bytes, a follower's share.

What `docs/explanation/scaling.md` reckons with. A message is scored and made durable. An outcome
speaks about a conversation of ten scored messages, so it teaches ten lessons; every replica of the
workspace learns it, which is what a follower costs. A checkpoint is of the model after both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.compared_systems import System, taught_system, warm_start
from experiments.benchmarks.harness.load_generator import Load, Order
from experiments.benchmarks.harness.load_plan import LoadPlan
from experiments.benchmarks.harness.processes import ServerProcess
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded
from experiments.benchmarks.harness.traffic_mix import TURNS
from learning.ledger import checkpoint

SETTLE_SECONDS = 1.0
CONNECTIONS = 16
COLUMNS = {
    "store": "store",
    "what": "what",
    "serve_cpu_us": "serve CPU us",
    "store_cpu_us": "store CPU us",
    "follower_cpu_us": "follower CPU us",
    "bytes": "bytes stored",
    "per_second": "a second",
}


@dataclass(frozen=True, slots=True)
class TurnCost:
    """Requests of a turn, its CPU seconds by process, and the bytes stored."""

    requests: int
    serve: float
    store: float
    follower: float
    stored: int


def run(folder: Path, plan: LoadPlan, progress: Progress) -> list[Row]:
    """Measure; `folder` is empty and takes all files."""
    rows: list[Row] = []
    for store in plan.stores:
        with ExitStack() as stack:
            system = stack.enter_context(taught_system(folder / store, store))
            follower = None
            if store != "sqlite":
                follower = processes.replica(system.server, "follower")
                stack.enter_context(processes.running(follower))
            load = stack.enter_context(Load())
            turns = []
            for number in range(plan.rounds):
                progress(store, number, plan.rounds)
                score, outcome = (
                    _turn(load, system, follower, kind, number, plan) for kind in KINDS
                )
                turns.append((score, outcome))
            rows += _rows(store, plan, turns)
    return [*rows, _checkpoint()]


KINDS = ("score", "judged")


def _turn(
    load: Load,
    system: System,
    follower: ServerProcess | None,
    kind: str,
    number: int,
    plan: LoadPlan,
) -> TurnCost:
    def now() -> tuple[float, float, float, int]:
        return (
            system.server.cpu_seconds(),
            system.store.cpu_seconds() if system.store else 0.0,
            follower.cpu_seconds() if follower else 0.0,
            system.stored_bytes(),
        )

    before = now()
    settings = {"key": system.key, "name": f"{kind}{number}"}
    order = Order(system.server.port, kind, settings, CONNECTIONS, plan.seconds)
    requests = load.play(order).answered
    time.sleep(SETTLE_SECONDS)
    serve, store, follows, stored = (b - a for a, b in zip(before, now(), strict=True))
    return TurnCost(requests, serve, store, follows, int(stored))


def _rows(store: str, plan: LoadPlan, turns: Sequence[tuple[TurnCost, TurnCost]]) -> list[Row]:
    message = {
        "serve_cpu_us": [a.serve / a.requests * 1e6 for a, _ in turns],
        "store_cpu_us": [a.store / a.requests * 1e6 for a, _ in turns],
        "bytes": [a.stored / a.requests for a, _ in turns],
        "per_second": [a.requests / plan.seconds for a, _ in turns],
    }
    outcome: dict[str, list[float]] = {"per_second": []}
    for name, field in (("serve_cpu_us", "serve"), ("store_cpu_us", "store"), ("bytes", "stored")):
        scale = 1.0 if name == "bytes" else 1e6
        outcome[name] = [
            getattr(b, field) / _outcomes(b) * scale - TURNS * each
            for (_, b), each in zip(turns, message[name], strict=True)
        ]
    outcome["per_second"] = [_outcomes(b) / plan.seconds for _, b in turns]
    outcome["follower_cpu_us"] = [(b.follower - a.follower) / _outcomes(b) * 1e6 for a, b in turns]
    rows = []
    for what, figures in (("message", message), ("outcome", outcome)):
        row: Row = {"store": store, "what": what}
        row |= {name: rounded(median(values)) for name, values in figures.items()}
        if store == "sqlite":
            row["store_cpu_us"] = row["follower_cpu_us"] = None
        rows.append(row | {"rounds": plan.rounds, "load_average": load_average()})
    return rows


def _outcomes(spent: TurnCost) -> float:
    return max(spent.requests / (TURNS + 1), 1.0)


def _checkpoint() -> Row:
    (_, state), times = warm_start(), list[float]()
    for _ in range(5):
        began = time.process_time()
        data = checkpoint.dump(state)
        times.append(time.process_time() - began)
    return {
        "store": "-",
        "what": "checkpoint",
        "serve_cpu_us": rounded(median(times) * 1e6),
        "bytes": float(len(data)),
    }
