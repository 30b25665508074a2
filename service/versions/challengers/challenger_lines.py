"""Shadow deployment of challengers: open challenger models replay the ledger beside the champion.

Kept conversations on which one disagrees with the champion are audited with probability one half,
as far as the budget goes, so its savings are soon known
(`service.versions.evaluation.challenger_comparison`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from sqlalchemy import Connection

from learning.conversation.state import EMPTY, step
from learning.decision.promotion_terms import CHALLENGERS_MAX
from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions, ModelState
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store
from service.store.labels import audit_rows
from service.store.ledger import challenger_rows, entries
from service.versions.model_lines import FROZEN_ENTRIES, advance_shadow, leave_out
from service.versions.switch_history import undone_positions

ENTRIES_MAX = 500
"""Most ledger entries that one pass learns, so that no pass takes long."""

ENDED_AT_ONCE = 500
"""Ended conversations that one pass examines for disagreement."""


@dataclass(slots=True)
class OpenChallenger:
    """An open challenger: its row and its model state so far."""

    row: Any
    model_state: ModelState

    @property
    def role(self) -> str:
        """Its name among the lines, also its alias in MLflow."""
        return f"challenger-{self.row.slot}"


class ChallengerLines:
    """LRU cache of the open challengers' model states, replayed on request; owned by one thread."""

    def __init__(self, store: Store, workspaces: int = 64) -> None:
        self._store = store
        self._states: LRUCache[str, ModelState] = LRUCache(workspaces * CHALLENGERS_MAX)

    def open(self, workspace: str, until: int) -> list[OpenChallenger]:
        """The open challengers by slot, each advanced by at most ENTRIES_MAX entries."""
        with self._store.read() as connection:
            rows = [
                r
                for r in challenger_rows.of_workspace(connection, workspace)
                if r.status == challenger_rows.OPEN
            ]
            undone = undone_positions(entries.switches(connection, workspace))
        challengers = [
            OpenChallenger(row, self._load(workspace, row, until, undone)) for row in rows
        ]
        for challenger in challengers:
            most = min(until, challenger.model_state.position + ENTRIES_MAX)
            advance_shadow(self._store, workspace, challenger.model_state, most)
        return challengers

    def _load(self, workspace: str, row: Any, until: int, undone: Collection[int]) -> ModelState:
        """A challenger's state without what was undone; that which its stored state has learned
        leaves it at a rebuild.
        """
        model_state = self._states.get(row.id)
        if (
            model_state is None
            or model_state.half_learned
            or not leave_out(model_state, [p for p in undone if p > row.position])
        ):
            with self._store.read() as connection:
                model_state = checkpoint.load(
                    challenger_rows.state(connection, workspace, row.id) or b""
                )
            model_state.without = Exclusions.of(row.without)
            model_state.learn_from = row.position
            model_state.version, model_state.frozen = row.version, row.frozen
            leave_out(model_state, undone)
            if row.frozen:
                model_state.position = max(model_state.position, until - FROZEN_ENTRIES)
        self._states[row.id] = model_state
        return model_state

    def disagreements(
        self, workspace: str, challengers: Iterable[OpenChallenger], bar: float
    ) -> Mapping[str, list[int]]:
        """Ended conversations, not yet sampled for audit, on which challengers disagree with what
        the champion did (handing over in its place; in the shadow, also the other way round), with
        the versions that disagree. Read before any lock is held.
        """
        lines = list(challengers)
        if not lines:
            return {}
        with self._store.read() as connection:
            versions_by_conversation: dict[str, list[int]] = {}
            due_for_sampling = audit_rows.due_for_sampling(
                connection, workspace, time.time(), ENDED_AT_ONCE
            )
            for row in audit_rows.sampling_frame(connection, workspace, due_for_sampling):
                highest = _highest_probabilities(
                    connection, workspace, row, [x.model_state for x in lines]
                )
                escalates = row.probability >= bar
                differ = [
                    line.model_state.version
                    for line, p in zip(lines, highest, strict=True)
                    if (p >= bar) != escalates
                ]
                if differ:
                    versions_by_conversation[row.id] = differ
            return versions_by_conversation


def _highest_probabilities(
    connection: Connection, workspace: str, row: Any, lines: list[ModelState]
) -> list[float]:
    """Each line's highest probability over the scored messages of a conversation."""
    state, highest = EMPTY, [0.0] * len(lines)
    for turn in conversation_rows.transcript(connection, workspace, row.id, row.length):
        state = step(state, turn.message)
        if turn.scored:
            probabilities = [line.score(state).probability for line in lines]
            highest = [max(pair) for pair in zip(highest, probabilities, strict=True)]
    return highest
