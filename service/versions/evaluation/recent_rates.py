"""Running totals of decision rates, recent and since the promotion, updated incrementally.

The sums since the promotion are carried in the reports, each with the position up to which it goes:
an evaluation adds what is new, so it costs the same however long the ledger is.
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
"""Outcomes in the recent rates."""


class RecentRates:
    """Decision rates of one workspace after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rates(
        self,
        workspace: str,
        champion_switch: Entry,
        champion: ModelState,
        outcomes: Mapping[int, JudgedOutcome],
        terms: DecisionCosts,
        last: Mapping[str, Any],
    ) -> dict[str, Any]:
        """`since_switch`: rates of what was decided since the champion's promotion; `recent`: of
        the newest outcomes. `last` is the last report.
        """
        now = time.time()
        previous = last.get("rates") or {}
        if previous.get("since") != champion_switch.position:
            previous = {
                "since": champion_switch.position,
                "position": champion_switch.position,
                "at": champion_switch.at,
                "sums": {},
            }
        sums = RateSums(**previous["sums"])
        for outcome in outcomes.values():
            if outcome.position > previous["position"] and outcome.decided_at >= champion_switch.at:
                sums.add(outcome)
        newest = list(outcomes.values())[-RECENT:]
        recent = RateSums()
        for outcome in newest:
            recent.add(outcome)
        with self._store.read() as connection:
            sums.kept += outcome_context.count_sampled(
                connection, workspace, float(previous["at"]), now
            )
            if newest:
                recent.kept = outcome_context.count_sampled(
                    connection, workspace, newest[0].decided_at, now
                )
        return {
            "since": champion_switch.position,
            "position": champion.position,
            "at": now,
            "sums": asdict(sums),
            "since_switch": rates(sums, terms),
            "recent": rates(recent, terms),
        }
