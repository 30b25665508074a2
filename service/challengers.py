"""Challengers that an alarm opened: followed in the shadow, and compared with the champion.

Where one would have decided otherwise, half of the kept conversations are audited; so what it
would have saved is soon known, with an interval that holds however often one looks. It serves
when somebody promotes it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from learning import checkpoint
from learning.audit import DISAGREEMENT
from learning.conversation import EMPTY, step
from learning.ledger import Standing, Without
from learning.promotion import Learning, gains
from learning.window import paired
from service.audits import AT_ONCE
from service.standing import advance
from service.store import audits as audit_rows
from service.store import conversations, ledger
from service.store import versions as rows
from service.store.database import Store

OPENED = "challenger: "
"""How the reason of a challenger's version begins."""

ENTRIES_MAX = 500
"""Most ledger entries that one look learns, so that no look takes long."""


@dataclass(slots=True)
class _Duel:
    """What a challenger would have saved, as far as it was counted."""

    version: int
    position: int
    evidence: Learning


class Challengers:
    """The newest challenger of each workspace, brought forward when asked for; of one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._standings: dict[str, Standing] = {}
        self._duels: dict[str, _Duel] = {}

    def newest(self, workspace: str, served: int, until: int) -> Standing | None:
        """The newest challenger opened since version `served` came; None where there is none, or
        where it has yet to learn more than one look's share.
        """
        with self._store.read() as connection:
            row = rows.newest_because(connection, workspace, OPENED, served)
            if row is None:
                self._standings.pop(workspace, None)
                return None
            kept = self._standings.get(workspace)
            if kept is None or kept.version != row.number or kept.half_learned:
                data = rows.state(connection, workspace, row.number)
                kept = checkpoint.load(data or b"")
                kept.version, kept.learn_from = row.number, row.position
                kept.without = Without.of(row.without)
                self._standings[workspace] = kept
        most = min(until, kept.position + ENTRIES_MAX)
        advance(self._store, workspace, kept, most, through_switches=True)
        return kept if kept.position >= until else None

    def disagreeing(self, workspace: str, challenger: Standing, bar: float) -> frozenset[str]:
        """Conversations whose coins are about to be tossed and which a challenger would have
        handed over (in the shadow, also the other way round). Looked up before any lock is held.
        """
        now = time.time()
        with self._store.read() as connection:
            found = audit_rows.untossed(connection, workspace, now, AT_ONCE)
            return frozenset(
                row.id
                for row in found
                if (row.probability >= bar)
                != (_highest(connection, workspace, row, challenger) >= bar)
            )

    def compared(self, workspace: str, champion: Standing, challenger: Standing) -> dict[str, Any]:
        """What the challenger would have saved per judged conversation since it was opened.

        Outcomes with a propensity below that of a disagreement were drawn before it was known of,
        and say nothing here.
        """
        costs = champion.policy.costs
        duel = self._duels.get(workspace)
        if duel is None or duel.version != challenger.version:
            bound = max(costs.unneeded, costs.missed) / DISAGREEMENT
            duel = _Duel(challenger.version, challenger.learn_from, Learning(bound))
            self._duels[workspace] = duel
        a, b = paired(
            champion.window.scores(since=duel.position),
            challenger.window.scores(since=duel.position),
        )
        bar = champion.policy.costing.escalate
        with self._store.read() as connection:
            for position, gain in gains(a, b, bar, costs.unneeded, costs.missed):
                entry = ledger.entry(connection, workspace, position)
                propensity = float(entry.body.get("propensity") or 1.0) if entry else 0.0
                if propensity >= DISAGREEMENT:
                    limit = duel.evidence.bound * DISAGREEMENT
                    duel.evidence.learn(max(-limit, min(limit, gain)), propensity)
        duel.position = champion.position
        low = duel.evidence.low
        return {
            "version": challenger.version,
            "recipe": challenger.recipe,
            "judged_conversations": duel.evidence.conversations,
            "saves_at_least": low if duel.evidence.conversations else None,
            "proven_better": duel.evidence.proven(),
            "sentence": _sentence(challenger.version, duel.evidence),
        }


def _highest(connection: Connection, workspace: str, row: Any, line: Standing) -> float:
    """The highest probability that a line gives to a scored message of a conversation."""
    state, highest = EMPTY, 0.0
    for turn in conversations.transcript(connection, workspace, row.id, row.length):
        state = step(state, turn.message)
        if turn.scored:
            highest = max(highest, line.score(state).probability)
    return highest


def _sentence(version: int, evidence: Learning) -> str:
    if evidence.proven():
        return (
            f"version {version} saves at least {evidence.low:.3g} per judged conversation; promote "
            f"it with POST /v1/versions/{version}/promote"
        )
    judged = evidence.conversations
    return f"after {judged} judged conversations version {version} is not proven better"
