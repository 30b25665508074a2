"""Recovery time: from SIGKILL to ready, with ledgers of ten thousand to a million entries.

Expected: at most 5 s with the largest, and the same with every size.

The ledgers are made, not played: a Baton learns some conversations, then their outcomes are copied
onward in the database until there are as many as wanted, and a checkpoint stands as far behind the
head as `jobs` would leave it at most. The process is killed with SIGKILL and started anew; ready is
what `/readyz` says, the first decision is one acknowledged afterwards. The smallest ledger, which
is only what was learned, tells what a start costs by itself.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg

from experiments.benchmarks.harness.compared_systems import (
    WORKSPACE,
    System,
    taught_system,
    warm_start,
)
from experiments.benchmarks.harness.load_plan import LoadPlan
from experiments.benchmarks.harness.processes import ServerProcess
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded
from experiments.replay import play
from experiments.replay.client import BatonClient
from learning.ledger import checkpoint
from learning.ledger.model_state import ModelState

GOAL_SECONDS = 5.0
FLAT = 1.5
"""The largest may take so many times as long as the smallest and still be called flat."""

TAIL = 200
"""Entries after the newest checkpoint."""

BEGINNING = 2
"""A workspace's ledger begins with its policy and its switch; the line has the switch's number."""

COLUMNS = {
    "store": "store",
    "entries": "entries",
    "tail": "tail",
    "ready_s": "ready s",
    "worst_s": "worst s",
    "decision_s": "first decision s",
    "cpu_s": "CPU s",
    "goal_s": "goal",
    "reached": "",
    "ratio_to_smallest": "/ smallest",
    "equal": "digest",
}


@dataclass(slots=True)
class Subject:
    """One installation with a ledger of its own, killed again and again."""

    entries: int
    tail: int
    server: ServerProcess
    key: str
    ready_s: list[float] = field(default_factory=list)
    decision_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)


def run(folder: Path, plan: LoadPlan, progress: Progress, *, entries: Sequence[int]) -> list[Row]:
    """Measure; `folder` is empty and takes all files (1.5 GB for a million entries)."""
    rows: list[Row] = []
    sizes = (0, *entries)
    turns = len(plan.stores) * len(sizes) * plan.rounds
    for store in plan.stores:
        with ExitStack() as stack:
            subjects = []
            for size in sizes:
                progress(f"{store}, making {size} entries", len(rows), turns)
                subjects.append(_installation(stack, folder / f"{store}{size}", store, size))
            for number in range(plan.rounds):
                for subject in subjects:
                    progress(f"{store}, {subject.entries} entries", number, turns)
                    _kill_and_restart(subject, number)
            rows += [_row(store, subject, subjects[0]) for subject in subjects]
    return rows


def _installation(stack: ExitStack, folder: Path, store: str, size: int) -> Subject:
    system = stack.enter_context(taught_system(folder, store))
    _, state = warm_start()
    entries = state.position
    if size:
        system.server.stop()
        with open_database(system) as database:
            entries = grow_ledger(database, state, size, TAIL)
        system.server.start()
        system.server.ready()
    tail = TAIL if size else state.position
    return Subject(entries, tail, system.server, system.key)


def _kill_and_restart(subject: Subject, number: int) -> None:
    began = time.perf_counter()
    subject.server.kill()
    subject.server.start()
    subject.server.ready(pause_seconds=0.01)
    subject.ready_s.append(time.perf_counter() - began)
    subject.cpu_s.append(subject.server.cpu_seconds())
    with BatonClient(subject.server.url, subject.key) as caller:
        message = {"id": "u1", "text": "where is my parcel, it should be here by now"}
        caller.post("/v1/score", {"conversation_id": f"after-{number}", "message": message})
        subject.decision_s.append(time.perf_counter() - began)
        state = caller.get("/v1/standing")
    if state["position"] != subject.entries:
        raise RuntimeError(f"stands at {state['position']} of {subject.entries}: it is not ready")
    subject.digests.add(state["digest"])


class Database(Protocol):
    """The part of PEP 249 used here; placeholders are written %s."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any: ...


class _Sqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        return self._connection.execute(sql.replace("%s", "?"), parameters)


@contextmanager
def open_database(system: System) -> Iterator[Database]:
    """The database of a Baton that does not run now; what is done is committed."""
    if system.store is None:
        path = system.server.folder / "baton.sqlite3"
        with closing(sqlite3.connect(path)) as connection, connection:
            yield _Sqlite(connection)
    else:
        with psycopg.connect(system.store.uri) as connection_:
            yield connection_


def grow_ledger(database: Database, state: ModelState, entries: int, tail: int) -> int:
    """Copy the learned outcomes onward up to `entries`, and put a checkpoint `tail` before the end.

    The checkpoint holds what was learned from the first of them, at a later position: its size and
    what comes after it are as they would be.
    """
    at = state.position
    while at < entries:
        last = min(BEGINNING + entries - at, at)
        shift = at - BEGINNING
        copy_rows(
            database,
            "ledger",
            {"position": f"position + {shift}"},
            f"position BETWEEN 3 AND {last}",
        )
        at += last - BEGINNING
    saved = play.new_model_state(state.recipe)
    saved.model, saved.calibrator, saved.window = state.model, state.calibrator, state.window
    saved.position = entries - tail
    parameters = (2, BEGINNING, saved.position, checkpoint.digest(saved), checkpoint.dump(saved))
    names = ("number", "line", "position", "digest", "state")
    copy_rows(database, "version", dict.fromkeys(names, "%s"), "number = 1", parameters)
    database.execute(
        "UPDATE workspace SET head = %s, versions = 2 WHERE id = %s", (entries, WORKSPACE)
    )
    return entries


def copy_rows(
    database: Database,
    table: str,
    changes: Mapping[str, str],
    where: str,
    parameters: Sequence[Any] = (),
    workspace: str = WORKSPACE,
) -> None:
    """Insert changed copies of rows, whatever further columns the table has."""
    cursor = database.execute(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608  (names of our own tables)
    same = [f'"{column[0]}"' for column in cursor.description if column[0] not in changes]
    columns = [*same, *changes]
    values = [*same, *changes.values()]
    database.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "  # noqa: S608  (names of our own tables)
        f"FROM {table} WHERE workspace = '{workspace}' AND {where}",
        parameters,
    )


def _row(store: str, subject: Subject, smallest: Subject) -> Row:
    ready, least = median(subject.ready_s), median(smallest.ready_s)
    return {
        "store": store,
        "entries": subject.entries,
        "tail": subject.tail,
        "ready_s": rounded(ready),
        "worst_s": rounded(max(subject.ready_s)),
        "decision_s": rounded(median(subject.decision_s)),
        "cpu_s": rounded(median(subject.cpu_s)),
        "goal_s": GOAL_SECONDS,
        "reached": ready <= GOAL_SECONDS and ready <= FLAT * least,
        "ratio_to_smallest": rounded(ready / least),
        "equal": "equal" if len(subject.digests) == 1 else "DIFFERS",
        "rounds": len(subject.ready_s),
        "load_average": load_average(),
    }
