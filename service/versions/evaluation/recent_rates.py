"""The rates of what was really decided, of late and since the promotion, without reading it again.

The sums since the promotion travel in the reports, each with the position up to which it goes: an
evaluation adds what is new to those of the last, so it costs the same however long the ledger is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from experiments.evaluation.decision_costs import DecisionCosts, JudgedOutcome, RateSums, rates
from learning.ledger.model_state import Entry, ModelState
from service.store.database.transactions import Store
from service.store.labels import outcome_context

RECENT = 1000
"""Outcomes that the newest rates speak of."""


class RecentRates:
    """Rates of one workspace after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rates(
        self,
        workspace: str,
        began: Entry,
        champion: ModelState,
        facts: Mapping[int, JudgedOutcome],
        terms: DecisionCosts,
        last: Mapping[str, Any],
    ) -> dict[str, Any]:
        """`since_switch`: of what was decided since the champion's promotion; `recent`: around the
        newest outcomes. `last` is the last report.
        """
        now = time.time()
        kept = last.get("rates") or {}
        if kept.get("since") != began.position:
            kept = {"since": began.position, "position": began.position, "at": began.at, "sums": {}}
        sums = RateSums(**kept["sums"])
        for fact in facts.values():
            if fact.position > kept["position"] and fact.decided_at >= began.at:
                sums.add(fact)
        newest = list(facts.values())[-RECENT:]
        late = RateSums()
        for fact in newest:
            late.add(fact)
        with self._store.read() as connection:
            sums.kept += outcome_context.count_sampled(
                connection, workspace, float(kept["at"]), now
            )
            if newest:
                late.kept = outcome_context.count_sampled(
                    connection, workspace, newest[0].decided_at, now
                )
        return {
            "since": began.position,
            "position": champion.position,
            "at": now,
            "sums": asdict(sums),
            "since_switch": rates(sums, terms),
            "recent": rates(late, terms),
        }
