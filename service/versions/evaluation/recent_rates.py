"""Decision rates since the promotion and around the newest outcomes, counted as `/v1/quality` does.

Everything is counted in the database as it is now, caught misses in one place and once, so report,
MLflow and console agree to the digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from experiments.evaluation.decision_costs import (
    HoldoutSample,
    JudgedOutcome,
    Population,
    RateSums,
    rates,
)
from experiments.evaluation.windows import RECENT as RECENT_COMPARED
from learning.estimation.decision_loss import DecisionLoss
from learning.ledger.model_state import Entry, ModelState
from service.store.labels import outcome_context
from service.store.reports import segment_counts
from service.versions.evaluation.judged_context import held_out_outcomes

RECENT = 1000
"""Outcomes in the recent rates."""


HELD_OUT_MAX = 10_000
"""Newest conversations that were held out, of which is told."""


def load_holdout(connection: Connection, workspace: str) -> HoldoutSample | None:
    """The newest conversations in which rules alone decided; None without any."""
    since = outcome_context.held_out_since(connection, workspace, HELD_OUT_MAX)
    if since is None:
        return None
    outcomes, said = held_out_outcomes(connection, workspace, since)
    kept = caught = handed_over = 0
    for row in segment_counts.conversations(connection, workspace, segment_counts.HELD_OUT, since):
        kept += (row.kept + row.late) * row.held_out
    for row in segment_counts.caught(connection, workspace, segment_counts.HELD_OUT, since):
        caught += row.caught * row.held_out
    for row in segment_counts.handoffs(connection, workspace, segment_counts.HELD_OUT, since):
        handed_over += row.total * row.held_out
    return HoldoutSample(outcomes, said, Population(kept, caught, handed_over))


def count_rates(connection: Connection, workspace: str, since: float) -> RateSums:
    """The sums of the conversations that began since a moment."""
    sums = RateSums()
    for row in segment_counts.conversations(connection, workspace, (), since):
        sums.kept, sums.late, sums.escalated = row.kept, row.late, row.escalated
    for row in segment_counts.caught(connection, workspace, (), since):
        sums.caught += row.caught
    for row in segment_counts.audited(connection, workspace, (), since):
        sums.audited += row.found_missed + row.found_fine
        sums.weight += row.weight
        sums.squares += row.squares
        sums.weight_missed += row.weight_missed
    for row in segment_counts.handoffs(connection, workspace, (), since):
        sums.add_handoffs(row.verdict, row.total, by_rule=row.by_rule)
    return sums


def decision_rates(
    connection: Connection,
    workspace: str,
    champion_switch: Entry,
    champion: ModelState,
    outcomes: Sequence[JudgedOutcome],
    terms: DecisionLoss,
) -> dict[str, Any]:
    """`since_switch`: rates of the conversations that began since the champion's promotion;
    `recent`: of those since the first of the newest outcomes.
    """
    since = count_rates(connection, workspace, champion_switch.at)
    recent = count_rates(connection, workspace, _first_decided(outcomes[-RECENT:]))
    return {
        "since": champion_switch.position,
        "position": champion.position,
        "sums": asdict(since),
        "since_switch": rates(since, terms),
        "recent": rates(recent, terms),
        "holds_for": {"since_switch": "every look", "recent": "one look"},
    }


def count_populations(
    connection: Connection, workspace: str, since: int, outcomes: Sequence[JudgedOutcome]
) -> dict[str, Population]:
    """How many conversations there were since the first of each window's; `since` is the position
    of the last switch.
    """
    windows = {
        "recent": outcomes[-RECENT_COMPARED:],
        "since_switch": [fact for fact in outcomes if fact.position > since],
        "every": outcomes,
    }
    populations = {}
    for name, facts in windows.items():
        sums = count_rates(connection, workspace, _first_decided(facts))
        populations[name] = Population(sums.kept + sums.late, sums.caught, sums.handoffs)
    return populations


def _first_decided(outcomes: Sequence[JudgedOutcome]) -> float:
    return min((fact.decided_at for fact in outcomes), default=0.0)
