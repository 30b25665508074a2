"""Horizontal scaling: throughput and equality of 1, 2 and 4 processes on one PostgreSQL.

Expected: no decision lost, doubled or changed, equal digests; the scaling that the cores allow.

Every replica has connections of its own, and some that play the same conversations as those of the
other replicas, at the same time; outcomes go to one replica after another. Every acknowledged
decision is written down by the load generators, and then looked for in the database: it must be
there, once, and the same at every replica that answered it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.compared_systems import WORKSPACE, System, taught_system
from experiments.benchmarks.harness.load_generator import Load, Order
from experiments.benchmarks.harness.load_plan import LoadPlan
from experiments.benchmarks.harness.processes import ServerProcess
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded
from experiments.benchmarks.service_speed.freshness import post_outcome
from experiments.replay.client import BatonClient

SETTLE_SECONDS = 30.0
CONNECTIONS, OUTCOMES = 16, 10
CONTESTED = 2
"""Connections of each replica that play what those of the others play."""

COLUMNS = {
    "replicas": "replicas",
    "per_second": "decisions/s",
    "ratio_to_one": "/ one",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_us": "CPU us",
    "store_cpu_us": "store CPU us",
    "outcomes": "outcomes",
    "acknowledged": "acknowledged",
    "lost": "lost",
    "doubled": "doubled",
    "differing": "differing",
    "equal": "digests",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One count of replicas under load, once."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    store_cpu_us: float
    outcomes: int
    faults: int


def run(
    folder: Path, plan: LoadPlan, progress: Progress, *, replicas: Sequence[int] = (1, 2, 4)
) -> list[Row]:
    """Measure; `folder` is empty and takes all files."""
    turns: dict[int, list[Turn]] = {count: [] for count in replicas}
    digests: dict[int, bool] = dict.fromkeys(replicas, True)
    (folder / "seen").mkdir(parents=True)
    with ExitStack() as stack:
        system = stack.enter_context(taught_system(folder / "store", "postgresql"))
        most = max(replicas)
        batons = [system.server]
        for number in range(1, most):
            batons.append(processes.replica(system.server, f"replica{number}"))
            stack.enter_context(processes.running(batons[-1]))
        loads = [(stack.enter_context(Load()), stack.enter_context(Load())) for _ in range(most)]
        for number in range(plan.rounds):
            for place, count in enumerate(replicas):
                done = number * len(replicas) + place
                progress(f"{count} replicas", done, plan.rounds * len(replicas))
                decisions_file = folder / "seen" / f"{count}-{number}"
                turns[count].append(_turn(plan, system, batons[:count], loads, decisions_file))
                digests[count] &= _equal(system, batons[:count])
        return [_row(plan, system, c, turns, digests[c], folder / "seen") for c in replicas]


def _turn(
    plan: LoadPlan,
    system: System,
    batons: Sequence[ServerProcess],
    loads: Sequence[tuple[Load, Load]],
    decisions_file: Path,
) -> Turn:
    assert system.store is not None
    cpu = sum(figure.cpu_seconds() for figure in batons)
    store = system.store.cpu_seconds()
    for number, (baton, (own, shared)) in enumerate(zip(batons, loads, strict=False)):
        for load, name, connections in (
            (own, f"{decisions_file.name}-own{number}", CONNECTIONS - CONTESTED),
            (shared, f"{decisions_file.name}-shared", CONTESTED),
        ):
            file = f"{decisions_file}-{'own' if load is own else 'shared'}-{number}"
            settings = {"key": system.key, "name": name, "file": file}
            load.start(Order(baton.port, "witness", settings, connections, plan.seconds))
    until = time.monotonic() + plan.seconds * 0.9
    outcomes = 0
    while outcomes < OUTCOMES and time.monotonic() < until:
        with BatonClient(batons[outcomes % len(batons)].url, system.key) as caller:
            post_outcome(caller, f"{decisions_file.name}-{outcomes}")
        outcomes += 1
        time.sleep(plan.seconds * 0.4 / OUTCOMES)
    figures = [load.result() for pair in loads[: len(batons)] for load in pair]
    requests = max(sum(figure.answered for figure in figures), 1)
    owns = figures[::2]
    return Turn(
        sum(figure.per_second for figure in figures),
        median(figure.p50_ms for figure in owns),
        max(figure.p99_ms for figure in owns),
        (sum(figure.cpu_seconds() for figure in batons) - cpu) / requests * 1e6,
        (system.store.cpu_seconds() - store) / requests * 1e6,
        outcomes,
        sum(sum(figure.faults.values()) for figure in figures),
    )


def _equal(system: System, batons: Sequence[ServerProcess]) -> bool:
    """Whether all replicas come to one position with one digest."""
    give_up = time.monotonic() + SETTLE_SECONDS
    while True:
        states = set()
        for baton in batons:
            with BatonClient(baton.url, system.key) as caller:
                state = caller.get("/v1/standing")
            states.add((state["position"], state["digest"]))
        if len(states) == 1:
            return True
        if len({position for position, _ in states}) == 1 or time.monotonic() > give_up:
            return False
        time.sleep(0.1)


def _row(
    plan: LoadPlan,
    system: System,
    count: int,
    turns: dict[int, list[Turn]],
    equal: bool,
    folder: Path,
) -> Row:
    own, baseline = turns[count], next(iter(turns.values()))
    row: Row = {"replicas": count}
    for name in ("per_second", "p50_ms", "p99_ms", "cpu_us", "store_cpu_us"):
        row[name] = rounded(median(getattr(turn, name) for turn in own))
    pairs = zip(own, baseline, strict=True)
    return {
        **row,
        "ratio_to_one": rounded(median(a.per_second / b.per_second for a, b in pairs)),
        "faults": sum(turn.faults for turn in own),
        "outcomes": sum(turn.outcomes for turn in own),
        **_check_decisions(system, folder, count),
        "equal": "equal" if equal else "DIFFER",
        "cores": os.cpu_count(),
        "rounds": plan.rounds,
        "load_average": load_average(),
    }


def _check_decisions(system: System, folder: Path, count: int) -> Row:
    """Every acknowledged decision, looked for in the database."""
    assert system.store is not None
    acknowledged: dict[tuple[str, str], set[str]] = {}
    for path in sorted(folder.glob(f"{count}-*")):
        for line in path.read_text().splitlines():
            conversation, message, decision = line.split()
            acknowledged.setdefault((conversation, message), set()).add(decision)
    with psycopg.connect(system.store.uri) as connection:
        stored = connection.execute(
            "SELECT conversation_id, message_id, id FROM decision"
            " WHERE workspace = %s AND conversation_id LIKE %s",
            (WORKSPACE, f"{count}-%"),
        ).fetchall()
    return compare_decisions(acknowledged, stored)


def compare_decisions(
    acknowledged: Mapping[tuple[str, str], set[str]], stored: Sequence[tuple[str, ...]]
) -> Row:
    """Decisions acknowledged, by conversation and message, and those stored, with their ids.

    A lost one is not stored, a doubled one stored more than once; one that differs was not
    acknowledged under the one id that is stored.
    """
    stored_ids: dict[tuple[str, str], list[str]] = {}
    for conversation, message, decision in stored:
        stored_ids.setdefault((conversation, message), []).append(decision)
    return {
        "acknowledged": len(acknowledged),
        "lost": sum(key not in stored_ids for key in acknowledged),
        "doubled": sum(len(ids) - 1 for ids in stored_ids.values()),
        "differing": sum(
            key in stored_ids and ids_answered != set(stored_ids[key])
            for key, ids_answered in acknowledged.items()
        ),
    }
