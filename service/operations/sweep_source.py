"""What a sweep learns: a workspace's ledger, read in pieces, or a recorded stream."""

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
from service.versions.restore import ENTRIES_AT_ONCE, prefetched


class Source(Protocol):
    """Something to learn. `subject` tells it from others, `said` tells people what it is."""

    @property
    def subject(self) -> str: ...
    @property
    def said(self) -> str: ...
    def pages(self) -> Iterator[Page]: ...
    def without(self) -> Exclusions: ...


@dataclass(slots=True)
class Ledger:
    """A workspace's ledger up to a position, by default its end when it is first read."""

    store: Store
    workspace: str
    until: int | None = None

    @property
    def subject(self) -> str:
        return f"{self.store.url.render_as_string()} {self.workspace} {self.until}"

    @property
    def said(self) -> str:
        return f"workspace {self.workspace}"

    def without(self) -> Exclusions:
        """What the serving line leaves out, and every outcome corrected since."""
        until = self._end()
        with self.store.read() as connection:
            switch = ledger.switches(connection, self.workspace, until)[-1]
            gone = ledger.replaced(connection, self.workspace, until)
        left_out = Exclusions.of(switch.body.get("without"))
        return replace(left_out, positions=left_out.positions | gone)

    def pages(self) -> Iterator[Page]:
        """Every entry, with the turns of the outcomes that are learned."""
        position, until = 0, self._end()
        learner = ModelState(recipe=DEFAULT, without=self.without())
        while position < until:
            with self.store.read() as connection:
                most = min(ENTRIES_AT_ONCE, until - position)
                entries = ledger.tail(connection, self.workspace, position, most)
                read = prefetched(connection, self.workspace, learner, entries)
                found = [(turn_json(entry), _turns(learner, entry, read)) for entry in entries]
            yield from found
            position = entries[-1].position if entries else until

    def _end(self) -> int:
        if self.until is None:
            with self.store.read() as connection:
                found = ledger.workspace(connection, self.workspace)
            self.until = 0 if found is None else found.head
        return int(self.until)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded stream, as `baton replay` reads it. Raises StreamError."""

    path: Path
    format: str | None = None
    target: str | None = None

    @property
    def subject(self) -> str:
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{digest} {self.format} {self.target}"

    @property
    def said(self) -> str:
        return self.path.name

    def without(self) -> Exclusions:
        return Exclusions()

    def pages(self) -> Iterator[Page]:
        return of_stream(streams.read(self.path, self.format, self.target))


def taken_up(home: Path, source: Source, recipes: Sequence[str], *, anew: bool = False) -> Sweep:
    """The unfinished sweep of the same source and recipes, or one that begins."""
    folder = home / "sweeps" / search.name(source.subject, recipes)
    begun = None if anew else Sweep.resume(folder)
    return begun or Sweep.begin(folder, source.pages(), source.without())


def _turns(learner: ModelState, entry: Entry, read: Transcript) -> Sequence[Turn]:
    if not learner.learns(entry):
        return ()
    return read(entry.body["conversation_id"], entry.body["covers"])


def turn_json(entry: Entry) -> Entry:
    """An entry as far as learning goes by it: who switched, and on what evidence, stays here."""
    return entry if entry.kind in ("policy", "outcome") else replace(entry, body={}, actor="")
