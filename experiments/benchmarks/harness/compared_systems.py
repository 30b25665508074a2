"""Systems under test: a Baton on each store, warmed up with the same lessons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.processes import Postgres, ServerProcess
from experiments.datasets.episode import Episode
from experiments.replay import play
from experiments.simulation.world import episodes
from learning.ledger.checkpoint import digest
from learning.ledger.model_state import ModelState

WORKSPACE = "bench"
"""A shadow workspace: no handoff silences a conversation, so every message is scored."""

LESSONS = 100
"""Conversations that every measured Baton has learned before."""


@cache
def warm_start() -> tuple[Sequence[Episode], ModelState]:
    """The conversations learned before, and the model state that the bare loop comes to."""
    lessons, state = tuple(episodes(5, LESSONS)), play.new_model_state()
    play.bare(lessons, state=state)
    return lessons, state


@dataclass(frozen=True, slots=True)
class System:
    """A server under load, its kind of traffic, and its database server if it has one."""

    name: str
    server: ServerProcess
    kind: str
    key: str = ""
    store: Postgres | None = None

    def stored_bytes(self) -> int:
        """The size of what is stored so far."""
        if self.store is not None:
            return self.store.size_bytes()
        return sqlite_bytes(self.server.folder)


def sqlite_bytes(home: Path) -> int:
    """The size of an installation's SQLite database, its log included."""
    return sum(path.stat().st_size for path in home.glob("baton.sqlite3*"))


@contextmanager
def taught_system(folder: Path, store: str) -> Iterator[System]:
    """A running Baton on `store` whose shadow workspace has learned what `warm_start` learns.

    That it did is checked by digest: what is compared is the same model.
    """
    lessons, state = warm_start()
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        database = stack.enter_context(processes.postgres(folder)) if store != "sqlite" else None
        baton = processes.baton(folder, database=database.uri if database else "", name=store)
        stack.enter_context(processes.running(baton))
        engineer = play.workspace_key(baton.url, processes.key(folder, "admin"), WORKSPACE)
        server_digest = play.through_http(lessons, baton.url, engineer).report.digest
        if server_digest != digest(state):
            raise RuntimeError(f"Baton on {store} did not learn what the bare loop learned")
        yield System(store, baton, "score", engineer, database)
