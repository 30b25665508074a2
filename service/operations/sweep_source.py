"""Training data of a hyperparameter sweep: a workspace's ledger, read in pages, or a recorded
stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from experiments.datasets import streams
from experiments.datasets.ledger_export import Page, of_stream
from experiments.sweeps import search
from experiments.sweeps.search import Sweep
from learning.ledger.model_state import Entry, Exclusions, ModelState, Transcript, Turn
from learning.models.recipes import DEFAULT
from service.store.database.transactions import Store
from service.store.ledger import entries as ledger
from service.versions.restore import ENTRIES_AT_ONCE, prefetching_reader


class Source(Protocol):
    """A data source of a sweep. `subject` identifies it, `label` is for people."""

    @property
    def subject(self) -> str: ...
    @property
    def label(self) -> str: ...
    def pages(self) -> Iterator[Page]: ...
    def without(self) -> Exclusions: ...


@dataclass(slots=True)
class LedgerSource:
    """A workspace's ledger up to a position, by default its end when it is first read."""

    store: Store
    workspace: str
    until: int | None = None

    @property
    def subject(self) -> str:
        return f"{self.store.url.render_as_string()} {self.workspace} {self.until}"

    @property
    def label(self) -> str:
        return f"workspace {self.workspace}"

    def without(self) -> Exclusions:
        """Exclusions of the serving line, and every outcome corrected since."""
        until = self._end()
        with self.store.read() as connection:
            switch = ledger.switches(connection, self.workspace, until)[-1]
            corrected = ledger.replaced_positions(connection, self.workspace, until)
        exclusions = Exclusions.of(switch.body.get("without"))
        return replace(exclusions, positions=exclusions.positions | corrected)

    def pages(self) -> Iterator[Page]:
        """Every entry, with the turns of the outcomes that are learned."""
        position, until = 0, self._end()
        learner = ModelState(recipe=DEFAULT, without=self.without())
        while position < until:
            with self.store.read() as connection:
                most = min(ENTRIES_AT_ONCE, until - position)
                entries = ledger.tail(connection, self.workspace, position, most)
                read = prefetching_reader(connection, self.workspace, learner, entries)
                page = [
                    (_learnable_entry(entry), _turns(learner, entry, read)) for entry in entries
                ]
            yield from page
            position = entries[-1].position if entries else until

    def _end(self) -> int:
        if self.until is None:
            with self.store.read() as connection:
                row = ledger.workspace(connection, self.workspace)
            self.until = 0 if row is None else row.head
        return int(self.until)


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A recorded stream, as `baton replay` reads it. StreamError."""

    path: Path
    format: str | None = None
    target: str | None = None

    @property
    def subject(self) -> str:
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{digest} {self.format} {self.target}"

    @property
    def label(self) -> str:
        return self.path.name

    def without(self) -> Exclusions:
        return Exclusions()

    def pages(self) -> Iterator[Page]:
        return of_stream(streams.read(self.path, self.format, self.target))


def resume_or_begin(
    home: Path, source: Source, recipes: Sequence[str], *, anew: bool = False
) -> Sweep:
    """The unfinished sweep of the same source and recipes, or a new one."""
    folder = home / "sweeps" / search.name(source.subject, recipes)
    unfinished = None if anew else Sweep.resume(folder)
    return unfinished or Sweep.begin(folder, source.pages(), source.without())


def _turns(learner: ModelState, entry: Entry, read: Transcript) -> Sequence[Turn]:
    if not learner.learns(entry):
        return ()
    return read(entry.body["conversation_id"], entry.body["covers"])


def _learnable_entry(entry: Entry) -> Entry:
    """An entry without what learning does not read: who switched, and on what evidence."""
    return entry if entry.kind in ("policy", "outcome") else replace(entry, body={}, actor="")
