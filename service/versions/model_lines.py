"""Model lines brought forward by replay: champion, its shadow predecessor, its anchor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from cachetools import LRUCache

from learning.ledger import checkpoint
from learning.ledger.model_state import Entry, Exclusions, ModelState, TextRemovedError
from service.store.database.transactions import Store
from service.store.ledger import entries, version_rows
from service.versions.restore import (
    NoModelError,
    NoWorkspaceError,
    advance,
    restore,
)
from service.versions.start_from import fresh_state
from service.versions.switch_history import UNDO, undone_positions

PROGRESS_ENTRIES = 200
"""Ledger entries between two progress reports of a rebuild."""

FROZEN_ENTRIES = 2000
"""Ledger entries before the head on which a frozen line is tested when it is loaded."""


def champion_switch_index(switches: Sequence[Entry]) -> int:
    """Index, in a list of switches, of the one that made the present champion.

    A rebuild without corrected outcomes counts as the same champion, and so does an undo.
    """
    index = len(switches) - 1
    while index > 0 and _is_same_champion(switches[index]):
        index -= 1
    return index


def _is_same_champion(switch: Entry) -> bool:
    return switch.body["kind"] == UNDO or bool(switch.body["evidence"].get("corrected"))


class ModelLines:
    """LRU cache of model states by workspace, `most` of each kind, replayed to the head on request.

    Owned by one thread. `at_mark` is called with the champion at each position that `every`
    divides.
    """

    def __init__(
        self,
        store: Store,
        every: int = 0,
        at_mark: Callable[[str, ModelState], None] = lambda _workspace, _state: None,
        most: int = 64,
    ) -> None:
        self._store = store
        self._every, self._at_mark = every, at_mark
        self._champions: LRUCache[str, ModelState] = LRUCache(most)
        self._previous: LRUCache[str, ModelState] = LRUCache(most)
        self._anchors: LRUCache[str, ModelState] = LRUCache(most)

    def champion(self, workspace: str) -> ModelState:
        """The serving model at the ledger's head.

        On its way it stops at the last position that `every` divides, and `at_mark` may save it
        there: every serving process records its digest at these positions, so the checkpoint
        verifies them.
        """
        head, switches, _, _ = self._read_switches(workspace)
        last = switches[-1]
        mark = head - head % self._every if self._every else 0
        state = self._champions.get(workspace)
        if state is None or state.half_learned or state.switch != last.position:
            until = mark if mark > last.position else head
            state = restore(self._store, workspace, until=until)
        self._champions[workspace] = state
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
        """The shadow model: the line that the present champion replaced, still learning. None for
        the first line and after a rollback, since a line that was rolled back is no yardstick.
        """
        head, switches, champion_switch, before = self._read_switches(workspace)
        if before is None or champion_switch.body["kind"] == "rollback":
            self._previous.pop(workspace, None)
            return None
        state = self._previous.get(workspace)
        if (
            state is None
            or state.half_learned
            or state.switch != before.position
            or not leave_out(state, undone_positions(switches))
        ):
            try:
                state = restore(self._store, workspace, until=head, switch=before)
            except NoModelError:  # damaged, or of a recipe that only another build has
                return None
        self._previous[workspace] = state
        try:
            return advance(self._store, workspace, state, head, through_switches=True)
        except TextRemovedError:
            state = restore(self._store, workspace, until=head, switch=before)
            self._previous[workspace] = state
            return state

    def anchor(self, workspace: str) -> ModelState | None:
        """The champion frozen as it was promoted: scored on each lesson, never learning. None where
        it had learned nothing by then, or its checkpoint cannot be loaded.
        """
        head, _, champion_switch, _ = self._read_switches(workspace)
        state = self._anchors.get(workspace)
        if state is None or state.switch != champion_switch.position:
            state = self._load_frozen(workspace, champion_switch, head)
            if state is None:
                self._anchors.pop(workspace, None)
                return None
        self._anchors[workspace] = state
        advance_shadow(self._store, workspace, state, head)
        return state

    def _load_frozen(self, workspace: str, champion_switch: Entry, head: int) -> ModelState | None:
        with self._store.read() as connection:
            row = version_rows.version(connection, workspace, champion_switch.body["version"])
            if row is None or not row.position:
                return None
            try:
                state = checkpoint.load(
                    version_rows.state(connection, workspace, row.number) or b""
                )
            except checkpoint.CheckpointError:
                return None
        state.version, state.switch, state.frozen = row.number, champion_switch.position, True
        state.position = max(row.position, head - FROZEN_ENTRIES)
        return state

    def _read_switches(self, workspace: str) -> tuple[int, Sequence[Entry], Entry, Entry | None]:
        """The head, the switches, the one that made the champion, and the one before that."""
        with self._store.read() as connection:
            row = entries.workspace(connection, workspace)
            switches = entries.switches(connection, workspace)
        head, index = row.head if row is not None else 0, champion_switch_index(switches)
        return head, switches, switches[index], switches[index - 1] if index else None


def leave_out(model_state: ModelState, positions: Collection[int]) -> bool:
    """Let a line that runs beside the champion leave out what was undone; False where it has
    learned some of it, so that only an older state of the line can.
    """
    new = frozenset(positions) - model_state.without.positions
    ahead = {position for position in new if position > model_state.position}
    without = model_state.without
    model_state.without = replace(without, positions=without.positions | ahead)
    return ahead == new


def advance_shadow(store: Store, workspace: str, model_state: ModelState, until: int) -> None:
    """Replay the ledger into a shadow model, through switches.

    Outcomes whose conversation was erased before this line learned them are excluded from then on.
    A frozen line only misses a test where text was removed.
    """
    try:
        advance(store, workspace, model_state, until, through_switches=True)
    except TextRemovedError:
        if model_state.frozen:
            model_state.position = until
            return
        with store.read() as connection:
            erased_positions = {
                p
                for p in entries.erased_positions(connection, workspace)
                if p > model_state.position
            }
        without = model_state.without
        model_state.without = replace(without, positions=without.positions | erased_positions)
        advance(store, workspace, model_state, until, through_switches=True)


def rebuild(
    store: Store,
    workspace: str,
    recipe: str,
    without: Exclusions,
    progress: Callable[[int, int], None] | None = None,
) -> ModelState:
    """Retrain a model from the whole ledger without some outcomes; exact, as if they had never
    come.

    Outcomes corrected or retracted since are always left out. `progress` is called with positions
    done and to do. LookupError where there is no such workspace.
    """
    with store.read() as connection:
        row = entries.workspace(connection, workspace)
        if row is None:
            raise NoWorkspaceError(f"there is no workspace {workspace!r}")
        corrected = entries.replaced_positions(connection, workspace, row.head) | without.positions
        left_out = replace(without, positions=corrected)
        model_state = fresh_state(connection, workspace, recipe, left_out)
    while model_state.position < row.head:
        until = min(model_state.position + PROGRESS_ENTRIES, row.head)
        advance(store, workspace, model_state, until, through_switches=True)
        if progress is not None:
            progress(model_state.position, row.head)
    return model_state
