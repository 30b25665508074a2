"""The model lines that `jobs` follows: the champion, and its predecessor in the shadow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from learning.ledger import Entry, Standing, Without
from service.standing import TextRemovedError, advance, stand
from service.store import ledger
from service.store.database import Store

PIECE = 200
"""Ledger entries between two reports of a rebuild's progress."""


class Lines:
    """Standings by workspace, brought forward when asked for; owned by one thread."""

    def __init__(
        self,
        store: Store,
        every: int = 0,
        at_mark: Callable[[str, Standing], None] = lambda _workspace, _standing: None,
    ) -> None:
        self._store = store
        self._every, self._at_mark = every, at_mark
        self._champions: dict[str, Standing] = {}
        self._previous: dict[str, Standing] = {}

    def champion(self, workspace: str) -> Standing:
        """The serving line at the ledger's head.

        On its way it stops at the last position that `every` divides, and `at_mark` may save it
        there: every process notes its digest at these positions, so the checkpoint proves them.
        """
        head, last, _ = self._look(workspace)
        mark = head - head % self._every if self._every else 0
        kept = self._champions.get(workspace)
        if kept is None or kept.half_learned or kept.switch != last.position:
            until = mark if mark > last.position else head
            kept = self._champions[workspace] = stand(self._store, workspace, until=until)
        if kept.position <= mark and mark > last.position:
            advance(self._store, workspace, kept, mark)
            if kept.position == mark:
                self._at_mark(workspace, kept)
        try:
            return advance(self._store, workspace, kept, head)
        except TextRemovedError:  # erased before it was learned here: the line is saved past it
            kept = self._champions[workspace] = stand(self._store, workspace, until=head)
            return kept

    def previous(self, workspace: str) -> Standing | None:
        """The line that the present champion replaced, still learning; None for the first line.

        A rolled back line is nobody's yardstick: after a rollback there is none either.
        """
        head, last, before = self._look(workspace)
        if before is None or last.body["kind"] == "rollback":
            self._previous.pop(workspace, None)
            return None
        kept = self._previous.get(workspace)
        if kept is None or kept.half_learned or kept.switch != before.position:
            kept = stand(self._store, workspace, until=head, switch=before)
            self._previous[workspace] = kept
        try:
            return advance(self._store, workspace, kept, head, through_switches=True)
        except TextRemovedError:
            kept = stand(self._store, workspace, until=head, switch=before)
            self._previous[workspace] = kept
            return kept

    def _look(self, workspace: str) -> tuple[int, Entry, Entry | None]:
        with self._store.read() as connection:
            found = ledger.workspace(connection, workspace)
            switches = ledger.switches(connection, workspace)
        head = found.head if found is not None else 0
        return head, switches[-1], switches[-2] if len(switches) > 1 else None


def rebuild(
    store: Store,
    workspace: str,
    recipe: str,
    without: Without,
    progress: Callable[[int, int], None] | None = None,
) -> Standing:
    """Learn the whole ledger anew, as if the outcomes left out had never come.

    Outcomes corrected or retracted since are always left out. `progress` hears positions done and
    to do.
    """
    with store.read() as connection:
        found = ledger.workspace(connection, workspace)
        if found is None:
            raise LookupError(f"there is no workspace {workspace!r}")
        gone = ledger.replaced(connection, workspace, found.head) | without.positions
    standing = Standing(recipe=recipe, without=replace(without, positions=gone))
    while standing.position < found.head:
        until = min(standing.position + PIECE, found.head)
        advance(store, workspace, standing, until, through_switches=True)
        if progress is not None:
            progress(standing.position, found.head)
    return standing
