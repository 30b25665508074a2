"""Shadow deployment of challengers: open challenger models replay the ledger beside the champion.

Kept conversations on which one disagrees with the champion are audited with probability one half,
as far as the budget goes, so its savings are soon known
(`service.versions.evaluation.challenger_comparison`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from sqlalchemy import Connection

from learning.conversation.state import EMPTY, step
from learning.decision.policy import Policy, decide
from learning.decision.promotion_terms import CHALLENGERS_MAX
from learning.estimation.decision_loss import CONTINUE, LEVELS
from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions, ModelState
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store
from service.store.labels import audit_rows, outcome_context
from service.store.ledger import challenger_rows, entries
from service.versions.model_lines import FROZEN_ENTRIES, advance_shadow, leave_out
from service.versions.switch_history import undone_positions

CHAMPION = "champion"
"""Its name among the actions that are recorded with a draw."""

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

    def actions(
        self, workspace: str, challengers: Iterable[OpenChallenger], policy: Policy
    ) -> Mapping[str, Mapping[str, int]]:
        """What the champion and each challenger (by its id) would have done under this policy in
        ended conversations that were not yet sampled for audit. Read before any lock is held.
        """
        lines = list(challengers)
        if not lines:
            return {}
        with self._store.read() as connection:
            due = audit_rows.due_for_sampling(connection, workspace, time.time(), ENDED_AT_ONCE)
            return {
                row.id: actions_in(connection, workspace, row.id, (1, row.length), policy, lines)
                for row in audit_rows.sampling_frame(connection, workspace, due)
            }


def actions_in(
    connection: Connection,
    workspace: str,
    conversation: str,
    places: tuple[int, int],
    policy: Policy,
    challengers: Sequence[OpenChallenger],
) -> dict[str, int]:
    """The strongest action from one place of a conversation to another: of the champion by its
    recorded probabilities, and of each challenger by its id.
    """
    begins, last = places
    recorded = {
        decision.seq: decision.probability
        for decision in outcome_context.decisions(connection, workspace, [conversation])
    }
    state, levels = EMPTY, dict.fromkeys((CHAMPION, *(x.row.id for x in challengers)), CONTINUE)
    turns = conversation_rows.transcript(connection, workspace, conversation, last)
    for place, turn in enumerate(turns, 1):
        state = step(state, turn.message)
        if place < begins or not turn.scored or place not in recorded:
            continue
        probabilities = {x.row.id: x.model_state.score(state).probability for x in challengers}
        for name, p in (probabilities | {CHAMPION: recorded[place]}).items():
            levels[name] = max(levels[name], LEVELS[decide(policy, state, p).action])
    return levels
