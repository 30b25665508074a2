"""What one message and one outcome cost: processor time, storage, and a follower's share.

What `docs/scaling.md` reckons with. A message is scored and made durable. An outcome speaks about
a conversation of ten scored messages, so it teaches ten lessons; every replica of the workspace
learns it, which is what a follower costs. A checkpoint is of the model after both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.compared_systems import LoadPlan, System, taught, warm_start
from experiments.benchmarks.harness.load_generator import Load, Order
from experiments.benchmarks.harness.processes import Running
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
class Spent:
    """What a turn came to, in all."""

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
            system = stack.enter_context(taught(folder / store, store))
            follower = None
            if store != "sqlite":
                follower = processes.replica(system.running, "follower")
                stack.enter_context(processes.running(follower))
            load = stack.enter_context(Load())
            found = []
            for number in range(plan.rounds):
                progress(store, number, plan.rounds)
                score, judged = (
                    _turn(load, system, follower, kind, number, plan) for kind in KINDS
                )
                found.append((score, judged))
            rows += _rows(store, plan, found)
    return [*rows, _checkpoint()]


KINDS = ("score", "judged")


def _turn(
    load: Load, system: System, follower: Running | None, kind: str, number: int, plan: LoadPlan
) -> Spent:
    def now() -> tuple[float, float, float, int]:
        return (
            system.running.cpu_seconds(),
            system.store.cpu_seconds() if system.store else 0.0,
            follower.cpu_seconds() if follower else 0.0,
            system.stored_bytes(),
        )

    before = now()
    given = {"key": system.key, "name": f"{kind}{number}"}
    order = Order(system.running.port, kind, given, CONNECTIONS, plan.seconds)
    answered = load.play(order).answered
    time.sleep(SETTLE_SECONDS)
    serve, store, follows, stored = (b - a for a, b in zip(before, now(), strict=True))
    return Spent(answered, serve, store, follows, int(stored))


def _rows(store: str, plan: LoadPlan, found: Sequence[tuple[Spent, Spent]]) -> list[Row]:
    message = {
        "serve_cpu_us": [a.serve / a.requests * 1e6 for a, _ in found],
        "store_cpu_us": [a.store / a.requests * 1e6 for a, _ in found],
        "bytes": [a.stored / a.requests for a, _ in found],
        "per_second": [a.requests / plan.seconds for a, _ in found],
    }
    outcome: dict[str, list[float]] = {"per_second": []}
    for name, part in (("serve_cpu_us", "serve"), ("store_cpu_us", "store"), ("bytes", "stored")):
        scale = 1.0 if name == "bytes" else 1e6
        outcome[name] = [
            getattr(b, part) / _outcomes(b) * scale - TURNS * each
            for (_, b), each in zip(found, message[name], strict=True)
        ]
    outcome["per_second"] = [_outcomes(b) / plan.seconds for _, b in found]
    outcome["follower_cpu_us"] = [(b.follower - a.follower) / _outcomes(b) * 1e6 for a, b in found]
    rows = []
    for what, parts in (("message", message), ("outcome", outcome)):
        row: Row = {"store": store, "what": what}
        row |= {name: rounded(median(values)) for name, values in parts.items()}
        if store == "sqlite":
            row["store_cpu_us"] = row["follower_cpu_us"] = None
        rows.append(row | {"rounds": plan.rounds, "load_average": load_average()})
    return rows


def _outcomes(spent: Spent) -> float:
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
