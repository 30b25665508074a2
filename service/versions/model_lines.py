"""The model lines that `jobs` follows: the champion, its predecessor in the shadow, its anchor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from learning.ledger import checkpoint
from learning.ledger.model_state import Entry, Exclusions, ModelState
from service.runtime.lru import lru_put
from service.store.database.transactions import Store
from service.store.ledger import entries, version_rows
from service.versions.restore import TextRemovedError, advance, restore

PROGRESS_ENTRIES = 200
"""Ledger entries between two reports of a rebuild's progress."""

FROZEN_ENTRIES = 2000
"""So far back a frozen line is tested when it is taken up: it needs no more to stand."""


def champion_switch_index(switches: Sequence[Entry]) -> int:
    """The place in a list of switches of the one that made the present champion.

    A rebuild without corrected outcomes is the same champion, mended.
    """
    index = len(switches) - 1
    while index > 0 and switches[index].body["evidence"].get("corrected"):
        index -= 1
    return index


class ModelLines:
    """Standings by workspace, `most` of a kind, brought forward when asked for; of one thread."""

    def __init__(
        self,
        store: Store,
        every: int = 0,
        at_mark: Callable[[str, ModelState], None] = lambda _workspace, _standing: None,
        most: int = 64,
    ) -> None:
        self._store, self._most = store, most
        self._every, self._at_mark = every, at_mark
        self._champions: dict[str, ModelState] = {}
        self._previous: dict[str, ModelState] = {}
        self._anchors: dict[str, ModelState] = {}

    def champion(self, workspace: str) -> ModelState:
        """The serving line at the ledger's head.

        On its way it stops at the last position that `every` divides, and `at_mark` may save it
        there: every process notes its digest at these positions, so the checkpoint proves them.
        """
        head, last, _, _ = self._look(workspace)
        mark = head - head % self._every if self._every else 0
        state = self._champions.get(workspace)
        if state is None or state.half_learned or state.switch != last.position:
            until = mark if mark > last.position else head
            state = restore(self._store, workspace, until=until)
        lru_put(self._champions, workspace, state, self._most)
        if state.position <= mark and mark > last.position:
            advance(self._store, workspace, state, mark)
            if state.position == mark:
                self._at_mark(workspace, state)
        try:
            return advance(self._store, workspace, state, head)
        except TextRemovedError:  # erased before it was learned here: the line is saved past it
            state = self._champions[workspace] = restore(self._store, workspace, until=head)
            return state

    def previous(self, workspace: str) -> ModelState | None:
        """The line that the present champion replaced, still learning; None for the first line.

        A rolled back line is nobody's yardstick: after a rollback there is none either.
        """
        head, _, began, before = self._look(workspace)
        if before is None or began.body["kind"] == "rollback":
            self._previous.pop(workspace, None)
            return None
        state = self._previous.get(workspace)
        if state is None or state.half_learned or state.switch != before.position:
            state = restore(self._store, workspace, until=head, switch=before)
        lru_put(self._previous, workspace, state, self._most)
        try:
            return advance(self._store, workspace, state, head, through_switches=True)
        except TextRemovedError:
            state = restore(self._store, workspace, until=head, switch=before)
            self._previous[workspace] = state
            return state

    def anchor(self, workspace: str) -> ModelState | None:
        """The champion as it was promoted, tested and never learning; None where it had learned
        nothing by then, or its version cannot be loaded.
        """
        head, _, began, _ = self._look(workspace)
        state = self._anchors.get(workspace)
        if state is None or state.switch != began.position:
            state = self._frozen(workspace, began, head)
            if state is None:
                self._anchors.pop(workspace, None)
                return None
        lru_put(self._anchors, workspace, state, self._most)
        advance_shadow(self._store, workspace, state, head)
        return state

    def _frozen(self, workspace: str, began: Entry, head: int) -> ModelState | None:
        with self._store.read() as connection:
            row = version_rows.version(connection, workspace, began.body["version"])
            if row is None or not row.position:
                return None
            try:
                state = checkpoint.load(
                    version_rows.state(connection, workspace, row.number) or b""
                )
            except checkpoint.CheckpointError:
                return None
        state.version, state.switch, state.frozen = row.number, began.position, True
        state.position = max(row.position, head - FROZEN_ENTRIES)
        return state

    def _look(self, workspace: str) -> tuple[int, Entry, Entry, Entry | None]:
        """Head, newest switch, the one that made the champion, and the one before that."""
        with self._store.read() as connection:
            row = entries.workspace(connection, workspace)
            switches = entries.switches(connection, workspace)
        head, index = row.head if row is not None else 0, champion_switch_index(switches)
        return head, switches[-1], switches[index], switches[index - 1] if index else None


def advance_shadow(store: Store, workspace: str, model_state: ModelState, until: int) -> None:
    """Bring a line in the shadow forward, through switches. What was erased before it was learned
    here is left out from then on; text that was removed holds up no frozen line, which only is
    not tested by it.
    """
    try:
        advance(store, workspace, model_state, until, through_switches=True)
    except TextRemovedError:
        if model_state.frozen:
            model_state.position = until
            return
        with store.read() as connection:
            erased = {p for p in entries.erased(connection, workspace) if p > model_state.position}
        without = model_state.without
        model_state.without = replace(without, positions=without.positions | erased)
        advance(store, workspace, model_state, until, through_switches=True)


def rebuild(
    store: Store,
    workspace: str,
    recipe: str,
    without: Exclusions,
    progress: Callable[[int, int], None] | None = None,
) -> ModelState:
    """Learn the whole ledger anew, as if the outcomes left out had never come.

    Outcomes corrected or retracted since are always left out. `progress` hears positions done and
    to do.
    """
    with store.read() as connection:
        row = entries.workspace(connection, workspace)
        if row is None:
            raise LookupError(f"there is no workspace {workspace!r}")
        corrected = entries.replaced(connection, workspace, row.head) | without.positions
    model_state = ModelState(recipe=recipe, without=replace(without, positions=corrected))
    while model_state.position < row.head:
        until = min(model_state.position + PROGRESS_ENTRIES, row.head)
        advance(store, workspace, model_state, until, through_switches=True)
        if progress is not None:
            progress(model_state.position, row.head)
    return model_state
