"""Cost of versions as the ledger grows: evaluate, save, correct, publish and rebuild.

Expected: each evaluation costs the same with a million entries as with ten thousand, since every
line learns only what is new; a million lessons are rebuilt in less than five minutes on one core.

The ledgers are made, not played: a Baton learns simulated conversations by a warm start. For the
tasks of `jobs`, ledger entries are copied onward in the database, with a checkpoint as far behind
the head as `jobs` would leave it; then each round appends outcomes and does every task once, and
medians are shown. For the rebuild the conversations are copied as well, each under an id of its
own, so that every outcome's text is read from the database; their texts repeat after
`VersionsPlan.conversations` of them, which no part of the learning remembers. Time is of the
processor, in this one thread, and by the clock.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from os import environ
from pathlib import Path
from typing import Protocol

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded
from experiments.benchmarks.service_speed.recovery import BEGINNING, Database
from experiments.benchmarks.service_speed.recovery import copy_rows as copied_of
from experiments.datasets.streams import episode_line
from experiments.registry.mlflow_server import server
from experiments.simulation.world import episodes
from learning.ledger import checkpoint

GOAL_SECONDS = 300.0
FLAT = 1.5
"""An evaluation with the largest ledger may cost so many times one with the smallest."""

FRESH = 50
"""Outcomes between two rounds."""

TAIL = 200
COLUMNS = {
    "entries": "entries",
    "lessons": "lessons",
    "learn_ms": "50 outcomes ms",
    "evaluate_ms": "evaluate ms",
    "save_ms": "save ms",
    "mend_ms": "look to mend ms",
    "publish_ms": "publish ms",
    "version_kib": "version KiB",
    "evaluate_to_smallest": "evaluate / smallest",
    "rebuild_s": "rebuild s",
    "rebuild_cpu_s": "CPU s",
    "us_per_lesson": "us a lesson",
    "goal_s": "goal s",
    "reached": "",
}


def copy_table(database: Database, table: str, changes: dict[str, str], where: str) -> None:
    """Insert changed copies of a table's rows."""
    copied_of(database, table, changes, where, workspace="default")


class Tasks(Protocol):
    """The tasks of one installation; what each does is said in `service.cli.bench.job_runner`."""

    def warm(self, history: Path) -> int: ...
    def learn(self) -> int: ...
    def evaluate(self) -> None: ...
    def save(self) -> int: ...
    def mend(self) -> None: ...
    def publish(self) -> None: ...
    def rebuild(self, recipe: str, progress: Callable[[int, int], None]) -> int: ...
    def close(self) -> None: ...


OpenTasks = Callable[[Path, str], Tasks]


@dataclass(frozen=True, slots=True)
class VersionsPlan:
    """How much to measure."""

    rounds: int = 10
    entries: Sequence[int] = (10_000, 100_000, 1_000_000)
    lessons: int = 1_000_000
    recipe: str = ""
    mlflow: bool = True
    conversations: int = 4000


@dataclass(slots=True)
class Times:
    """Seconds by task, one of each round: of the processor, but for publishing, which waits."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str, clock: Callable[[], float] = time.process_time) -> Iterator[None]:
        began = clock()
        yield
        self.seconds.setdefault(name, []).append(clock() - began)

    def ms(self, name: str) -> float | None:
        seconds = self.seconds.get(name)
        return rounded(median(seconds) * 1000) if seconds else None


def run(folder: Path, plan: VersionsPlan, opened: OpenTasks, progress: Progress) -> list[Row]:
    """Measure; `folder` is empty and takes all files (3 GB for a million of each)."""
    rows: list[Row] = []
    turns = len(plan.entries) * plan.rounds
    with ExitStack() as stack:
        url = stack.enter_context(_mlflow(folder)) if plan.mlflow else ""
        for number, size in enumerate(plan.entries):
            progress(f"making {size} entries", number * plan.rounds, turns)
            home = folder / f"entries{size}"
            _prepare(home, opened, min(plan.conversations, 1000))
            _grow_ledger(home, size)

            def on_round(done: int, at: int = number, what: int = size) -> None:
                progress(f"{what} entries", at * plan.rounds + done, turns)

            rows.append(_measure_tasks(home, url, plan.rounds, opened, on_round))
    for row in rows:
        ratio = row["evaluate_ms"] / rows[0]["evaluate_ms"]
        row |= {"evaluate_to_smallest": rounded(ratio), "reached": ratio <= FLAT}
    return [*rows, _measure_rebuild(folder / "rebuild", plan, opened, progress)]


@contextmanager
def _mlflow(folder: Path) -> Iterator[str]:
    home = folder / "mlflow"
    home.mkdir(parents=True)
    command = server(home, environ=environ, port=processes.free_port())
    port = int(command.url.rpartition(":")[2])
    process = processes.ServerProcess(
        "mlflow", command.command, command.environment, home, port, "/health"
    )
    with processes.running(process):
        yield command.url


def _prepare(home: Path, opened: OpenTasks, conversations: int) -> int:
    """A Baton that has learned simulated conversations; gives their lessons."""
    home.mkdir(parents=True)
    history = home / "history.jsonl"
    with history.open("w") as out:
        out.writelines(episode_line(one) + "\n" for one in episodes(5, conversations))
    tasks = opened(home, "")
    try:
        lessons = tasks.warm(history)
        tasks.learn()
        tasks.save()
    finally:
        tasks.close()
    return lessons


def _measure_tasks(
    home: Path, url: str, rounds: int, opened: OpenTasks, on_round: Callable[[int], None]
) -> Row:
    times, sizes = Times(), []
    tasks = opened(home, url)
    try:
        position = tasks.learn()
        tasks.evaluate()
        tasks.mend()
        tasks.publish()
        for number in range(rounds):
            on_round(number)
            _append_outcomes(home, position, FRESH)
            with times.of("learn"):
                position = tasks.learn()
            with times.of("evaluate"):
                tasks.evaluate()
            with times.of("save"):
                sizes.append(tasks.save())
            with times.of("mend"):
                tasks.mend()
            if url:
                with times.of("publish", time.perf_counter):
                    tasks.publish()
    finally:
        tasks.close()
    row: Row = {"entries": position}
    row |= {f"{name}_ms": times.ms(name) for name in ("learn", "evaluate", "save", "mend")}
    row |= {"publish_ms": times.ms("publish"), "version_kib": rounded(median(sizes) / 1024)}
    return row | {"load_average": load_average()}


def _measure_rebuild(home: Path, plan: VersionsPlan, opened: OpenTasks, progress: Progress) -> Row:
    progress(f"making {plan.lessons} lessons", 0, plan.lessons)
    lessons_each = _prepare(home, opened, min(plan.conversations, plan.lessons // 3 + 1))
    _repeat_conversations(home, -(-plan.lessons // lessons_each))
    tasks = opened(home, "")
    try:
        began, worked = time.perf_counter(), time.process_time()
        lessons = tasks.rebuild(plan.recipe, lambda at, of: progress("rebuilding", at, of))
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
        entries = tasks.learn() if plan.lessons < 10_000 else None
    finally:
        tasks.close()
    return {
        "entries": entries,
        "lessons": lessons,
        "rebuild_s": rounded(seconds),
        "rebuild_cpu_s": rounded(cpu),
        "us_per_lesson": rounded(cpu / lessons * 1e6),
        "goal_s": GOAL_SECONDS,
        "reached": cpu / lessons * 1e6 <= GOAL_SECONDS,
        "load_average": load_average(),
    }


def _grow_ledger(home: Path, entries: int) -> None:
    """Copy the outcomes onward, and let the newest checkpoint stand TAIL entries before the end."""
    with _open_database(home) as database:
        (at,) = database.execute("SELECT head FROM workspace").fetchone()
        while at < entries:
            last = min(BEGINNING + entries - at, at)
            copy_table(
                database, "ledger", {"position": f"position + {at - BEGINNING}"}, _upto(last)
            )
            at += last - BEGINNING
        database.execute("UPDATE workspace SET head = ?", (at,))
        (state,) = database.execute("SELECT state FROM version WHERE number = 2").fetchone()
        model_state = checkpoint.load(state)
        model_state.position = at - TAIL
        parameters = (model_state.position, checkpoint.dump(model_state))
        database.execute("UPDATE version SET position = ?, state = ? WHERE number = 2", parameters)
        database.execute("UPDATE conversation SET status = 'closed'")


def _append_outcomes(home: Path, position: int, count: int) -> None:
    with _open_database(home) as database:
        changes = {"position": f"position + {position - BEGINNING}"}
        copy_table(database, "ledger", changes, _upto(BEGINNING + count))
        database.execute("UPDATE workspace SET head = ?", (position + count,))


def _upto(position: int) -> str:
    return f"position BETWEEN {BEGINNING + 1} AND {position}"


def _repeat_conversations(home: Path, times: int) -> None:
    """Copy all conversations with their outcomes, so often, each under an id of its own."""
    with _open_database(home) as database:
        (head,) = database.execute("SELECT head FROM workspace").fetchone()
        most = BEGINNING + (head - BEGINNING)
        for number in range(1, times):
            name = f"|| '|{number}'"
            outcome = f"json_set(body, '$.conversation_id', body ->> 'conversation_id' {name})"
            shift = number * (head - BEGINNING)
            changes = {"position": f"position + {shift}", "body": outcome}
            copy_table(database, "ledger", changes, _upto(most))
            whole = "instr(conversation_id, '|') = 0"
            copy_table(database, "message", {"conversation_id": f"conversation_id {name}"}, whole)
            copy_table(database, "conversation", {"id": f"id {name}"}, "instr(id, '|') = 0")
        database.execute("UPDATE workspace SET head = ?", (BEGINNING + times * (head - BEGINNING),))


@contextmanager
def _open_database(home: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(home / "baton.sqlite3")) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        yield connection
