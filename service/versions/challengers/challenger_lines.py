"""Challengers: the lines that follow the ledger beside the champion.

Where one would have decided otherwise, half of the kept conversations are audited as far as the
budget goes, so what it would have saved is soon known
(`service.versions.evaluation.challenger_comparison`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from learning.conversation.state import EMPTY, step
from learning.decision.promotion_terms import CHALLENGERS_MAX
from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions, ModelState
from service.runtime.lru import lru_put
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store
from service.store.labels import audit_rows
from service.store.ledger import challenger_rows
from service.versions.model_lines import FROZEN_ENTRIES, advance_shadow

ENTRIES_MAX = 500
"""Most ledger entries that one look learns, so that no look takes long."""

ENDED_AT_ONCE = 500
"""Conversations that ended, looked at in one pass for whether a challenger would differ."""


@dataclass(slots=True)
class OpenChallenger:
    """An open challenger as far as it has come; `facts` is its row."""

    facts: Any
    standing: ModelState

    @property
    def role(self) -> str:
        return f"challenger-{self.facts.slot}"


class ChallengerLines:
    """The open challengers of each workspace, brought forward when asked for; of one thread."""

    def __init__(self, store: Store, workspaces: int = 64) -> None:
        self._store, self._most = store, workspaces * CHALLENGERS_MAX
        self._kept: dict[str, ModelState] = {}

    def open(self, workspace: str, until: int) -> list[OpenChallenger]:
        """Those open, by slot, brought forward by one look's share."""
        with self._store.read() as connection:
            found = [
                r
                for r in challenger_rows.of_workspace(connection, workspace)
                if r.status == challenger_rows.OPEN
            ]
        followers = [OpenChallenger(row, self._standing(workspace, row, until)) for row in found]
        for one in followers:
            most = min(until, one.standing.position + ENTRIES_MAX)
            advance_shadow(self._store, workspace, one.standing, most)
        return followers

    def _standing(self, workspace: str, row: Any, until: int) -> ModelState:
        kept = self._kept.get(row.id)
        if kept is None or kept.half_learned:
            with self._store.read() as connection:
                kept = checkpoint.load(challenger_rows.state(connection, workspace, row.id) or b"")
            kept.without = Exclusions.of(row.without)
            kept.learn_from = row.position
            kept.version, kept.frozen = row.version, row.frozen
            if row.frozen:
                kept.position = max(kept.position, until - FROZEN_ENTRIES)
        return lru_put(self._kept, row.id, kept, self._most)

    def disagreeing(
        self, workspace: str, followers: Iterable[OpenChallenger], bar: float
    ) -> Mapping[str, list[int]]:
        """Conversations whose coins are about to be tossed and which a challenger would have
        handed over (in the shadow, also the other way round), with the versions that would.
        Looked up before any lock is held.
        """
        lines = list(followers)
        if not lines:
            return {}
        with self._store.read() as connection:
            found: dict[str, list[int]] = {}
            ended = audit_rows.ended(connection, workspace, time.time(), ENDED_AT_ONCE)
            for row in audit_rows.untossed(connection, workspace, ended):
                highest = _highest_probabilities(connection, workspace, row, [x.standing for x in lines])
                up = row.probability >= bar
                differ = [
                    one.standing.version
                    for one, p in zip(lines, highest, strict=True)
                    if (p >= bar) != up
                ]
                if differ:
                    found[row.id] = differ
            return found


def _highest_probabilities(
    connection: Connection, workspace: str, row: Any, lines: list[ModelState]
) -> list[float]:
    """The highest probability that each line gives to a scored message of a conversation."""
    state, highest = EMPTY, [0.0] * len(lines)
    for turn in conversation_rows.transcript(connection, workspace, row.id, row.length):
        state = step(state, turn.message)
        if turn.scored:
            scored = [line.score(state).probability for line in lines]
            highest = [max(pair) for pair in zip(highest, scored, strict=True)]
    return highest
