"""Throughput and latency of durable decisions, beside an empty route and peer services.

Expected: on SQLite at least 0.6 of an empty route at 16 connections and 0.8 at 64, on PostgreSQL
at least 0.6 at both; at least 5 times `mlflow models serve` and 5 times chantilly.

Every request is a message of its own in a shadow workspace (so that no handoff silences a
conversation and each message is scored), answered after its commit. All servers are up at once and
loaded in turns; each ratio is taken within its round, and the medians of the rounds are shown. The
ratio by CPU is of the processor time that one request takes of the server: what the machine does
besides hardly moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.benchmarks.harness import peer_services, processes
from experiments.benchmarks.harness.compared_systems import System, taught_system, warm_start
from experiments.benchmarks.harness.load_generator import Figures, Load, Order
from experiments.benchmarks.harness.load_plan import LoadPlan
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded

GOALS = {("sqlite", 16): 0.6, ("sqlite", 64): 0.8, ("postgresql", 16): 0.6, ("postgresql", 64): 0.6}
PEERS = ("mlflow", "chantilly")
"""What is compared besides the empty route; chantilly is installed for it."""

COLUMNS = {
    "store": "store",
    "connections": "connections",
    "per_second": "decisions/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_us": "CPU us",
    "store_cpu_us": "store CPU us",
    "empty_per_second": "empty/s",
    "empty_cpu_us": "empty CPU us",
    "ratio_to_empty": "/ empty",
    "cpu_ratio_to_empty": "/ empty by CPU",
    "goal": "goal",
    "reached": "",
    "ratio_to_mlflow": "/ mlflow",
    "cpu_ratio_to_mlflow": "by CPU",
    "ratio_to_chantilly": "/ chantilly",
    "cpu_ratio_to_chantilly": "by CPU",
}


@dataclass(slots=True)
class ThroughputResult:
    """Rows of a run, and notes on peers that could not run."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TurnFigures:
    """One system's figures of one turn."""

    figures: Figures
    cpu_us: float
    store_cpu_us: float | None

    @property
    def per_second(self) -> float:
        return self.figures.per_second


def run(
    folder: Path,
    plan: LoadPlan,
    progress: Progress,
    *,
    connections: Sequence[int] = (1, 16, 64),
    peers: Sequence[str] = PEERS,
) -> ThroughputResult:
    """Measure; `folder` is empty and takes all files. It takes about six minutes."""
    result = ThroughputResult([])
    flushes = round(processes.flushes_per_second(folder))
    with ExitStack() as stack:
        systems = list(_systems(stack, folder, plan.stores, peers, result.notes, progress))
        load = stack.enter_context(Load())
        measured: dict[tuple[str, int, int], TurnFigures] = {}
        turns = [
            (number, count, systems[(number + place) % len(systems)])
            for number in range(plan.rounds)
            for count in connections
            for place in range(len(systems))
        ]
        for system in systems:
            _turn(load, system, 4, min(1.0, plan.seconds), "warm")
        for done, (number, count, system) in enumerate(turns):
            progress(f"{system.name} at {count}", done, len(turns))
            name = f"r{number}c{count}"
            measured[system.name, count, number] = _turn(load, system, count, plan.seconds, name)
    for store in plan.stores:
        for count in connections:
            row = _row(store, count, _Rounds(measured, count, plan.rounds))
            row |= {"rounds": plan.rounds, "load_average": load_average(), "flushes": flushes}
            result.rows.append(row)
    return result


def _turn(load: Load, system: System, connections: int, seconds: float, name: str) -> TurnFigures:
    settings: Mapping[str, Any] = {"key": system.key, "name": name}
    order = Order(system.server.port, system.kind, settings, connections, seconds)
    cpu = system.server.cpu_seconds()
    store = system.store.cpu_seconds() if system.store else 0.0
    figures = load.play(order)
    each = 1e6 / max(figures.answered, 1)
    return TurnFigures(
        figures,
        (system.server.cpu_seconds() - cpu) * each,
        (system.store.cpu_seconds() - store) * each if system.store else None,
    )


class _Rounds:
    """Turns at one number of connections, by system."""

    def __init__(
        self, turns: Mapping[tuple[str, int, int], TurnFigures], connections: int, rounds: int
    ) -> None:
        names = {name for name, *_ in turns}
        self._turns = {name: [turns[name, connections, n] for n in range(rounds)] for name in names}

    def median(self, system: str, figure: Callable[[TurnFigures], float | None]) -> float | None:
        """The median over the rounds; None for a system that was not there."""
        values = [figure(turn) for turn in self._turns.get(system, ())]
        known_values = [value for value in values if value is not None]
        return rounded(median(known_values)) if known_values else None

    def ratio(
        self, one: str, other: str, take: Callable[[TurnFigures], float] = lambda m: m.per_second
    ) -> float | None:
        """The median of the ratios within each round."""
        if one not in self._turns or other not in self._turns:
            return None
        pairs = zip(self._turns[one], self._turns[other], strict=True)
        return rounded(median(take(a) / take(b) for a, b in pairs if take(b)))

    def faults(self, system: str) -> int:
        return sum(sum(turn.figures.faults.values()) for turn in self._turns[system])


def _row(store: str, connections: int, rounds: _Rounds) -> Row:
    goal, ratio = GOALS.get((store, connections)), rounds.ratio(store, "empty")
    return {
        "store": store,
        "connections": connections,
        "per_second": rounds.median(store, lambda m: m.per_second),
        "p50_ms": rounds.median(store, lambda m: m.figures.p50_ms),
        "p99_ms": rounds.median(store, lambda m: m.figures.p99_ms),
        "cpu_us": rounds.median(store, lambda m: m.cpu_us),
        "store_cpu_us": rounds.median(store, lambda m: m.store_cpu_us),
        "faults": rounds.faults(store),
        "empty_per_second": rounds.median("empty", lambda m: m.per_second),
        "empty_cpu_us": rounds.median("empty", lambda m: m.cpu_us),
        "ratio_to_empty": ratio,
        "cpu_ratio_to_empty": rounds.ratio("empty", store, lambda m: m.cpu_us),
        "goal": goal,
        "reached": None if goal is None or ratio is None else ratio >= goal,
        "mlflow_per_second": rounds.median("mlflow", lambda m: m.per_second),
        "mlflow_cpu_us": rounds.median("mlflow", lambda m: m.cpu_us),
        "ratio_to_mlflow": rounds.ratio(store, "mlflow"),
        "cpu_ratio_to_mlflow": rounds.ratio("mlflow", store, lambda m: m.cpu_us),
        "chantilly_per_second": rounds.median("chantilly", lambda m: m.per_second),
        "ratio_to_chantilly": rounds.ratio(store, "chantilly"),
        "cpu_ratio_to_chantilly": rounds.ratio("chantilly", store, lambda m: m.cpu_us),
        "client_cpu_us": rounds.median(store, lambda m: m.figures.client_cpu_us),
    }


def _systems(
    stack: ExitStack,
    folder: Path,
    stores: Sequence[str],
    peers: Sequence[str],
    notes: list[str],
    progress: Progress,
) -> Iterator[System]:
    lessons, state = warm_start()
    for store in stores:
        progress(f"starting Baton on {store}", 0, 1)
        yield stack.enter_context(taught_system(folder / store, store))
    progress("starting the empty route", 0, 1)
    yield System(
        "empty", stack.enter_context(processes.running(peer_services.empty(folder))), "score"
    )
    if "mlflow" in peers:
        progress("starting mlflow models serve", 0, 1)
        served = stack.enter_context(
            processes.running(peer_services.mlflow(folder / "mlflow", state))
        )
        yield System("mlflow", served, "mlflow")
    if "chantilly" in peers:
        progress("installing chantilly", 0, 1)
        try:
            (folder / "chantilly").mkdir()
            peer = peer_services.chantilly(folder / "chantilly")
            peer = stack.enter_context(processes.running(peer))
            peer_services.teach_chantilly(peer, lessons)
            yield System("chantilly", peer, "chantilly")
        except (peer_services.NoPeerError, processes.NotRunningError) as error:
            notes.append(str(error))
