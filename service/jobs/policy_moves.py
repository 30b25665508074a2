"""Adaptive policy parameters, moved by entries in the ledger: the price of waiting, and the guard
on how many messages are offered a person.

Scoring changes nothing by itself, so a decision stays a pure function of policy, state and score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import structlog
from sqlalchemy import Connection

from learning.decision.policy import Policy
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.labels import outcome_context
from service.store.ledger import entries
from service.store.reports import counts

ACTOR = "jobs"
LOST_LAST = 0.5
"""What waiting costs once outcomes have come: about half of those who need a person now write again
(71 % of such messages are followed by another in the simulator)."""

LOST_OUTCOMES = 60.0
"""The price of waiting falls to a third of its way with so many outcomes: early offers explore."""

OUTCOMES_MAX = 600
SCORES, SCORES_MIN = 300, 50
"""Newest scores whose quantile is the floor of offers, and the fewest that tell one."""

NOTICEABLE = 0.02
"""The least change that is worth a ledger entry."""

_log = structlog.get_logger("baton.policy")


class PolicyMoves:
    """Moves `lost` and `offers.floor` of each workspace; one thread runs it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def move_all(self) -> None:
        """One pass over the workspaces."""
        with self._store.read() as connection:
            names = entries.workspaces(connection)
        for name in names:
            with isolate_errors(name):
                self.move(name)

    def move(self, workspace: str) -> None:
        """Move one workspace's policy where the change is noticeable."""
        with self._store.read() as connection:
            policy = Policy.from_ledger(entries.newest_policy(connection, workspace))
            if _moved(connection, workspace, policy) == policy:
                return
        with self._store.write() as connection:
            entries.lock_head(connection, workspace)
            policy = Policy.from_ledger(entries.newest_policy(connection, workspace))
            moved = _moved(connection, workspace, policy)
            if moved != policy:
                entries.append(
                    connection, workspace, "policy", moved.model_dump(mode="json"), ACTOR
                )
                _log.info(
                    "policy_moved", workspace=workspace, lost=moved.lost, floor=moved.offers.floor
                )


def _moved(connection: Connection, workspace: str, policy: Policy) -> Policy:
    lost = policy.lost
    if lost > LOST_LAST:
        outcomes = outcome_context.count_outcomes_since(connection, workspace, 0, OUTCOMES_MAX)
        lost = price_of_waiting(outcomes)
        if abs(lost - policy.lost) < NOTICEABLE and lost > LOST_LAST:
            lost = policy.lost
    moved = policy.model_copy(update={"lost": lost})
    scores = counts.newest_scores(connection, workspace, SCORES)
    floor = offer_floor(scores, moved)
    if abs(floor - policy.offers.floor) < NOTICEABLE:
        floor = policy.offers.floor
    offers = policy.offers.model_copy(update={"floor": floor})
    return moved.model_copy(update={"offers": offers})


def price_of_waiting(outcomes: int) -> float:
    """The share of `missed` that is lost by waiting, after so many outcomes."""
    if outcomes >= OUTCOMES_MAX:
        return LOST_LAST
    return round(LOST_LAST + (1.0 - LOST_LAST) * math.exp(-outcomes / LOST_OUTCOMES), 4)


def offer_floor(scores: Sequence[counts.PastScore], policy: Policy) -> float:
    """The least bar under which at most `offers.share_max` of these scores would be offers, those
    that a rule made counted; 0 where the costs see to it by themselves.
    """
    if len(scores) < SCORES_MIN:
        return policy.offers.floor
    bars = policy.cost_thresholds
    between = sorted(
        (
            p
            for p, first, by_rule in scores
            if bars.offer <= p < bars.escalate
            and (policy.offers.first_message or not first)
            and not by_rule
        ),
        reverse=True,
    )
    by_rules = sum(score.by_rule for score in scores)
    most = max(0, int(policy.offers.share_max * len(scores)) - by_rules)
    if len(between) <= most:
        return 0.0
    return round(min(between[most] + 1e-4, bars.escalate), 4)
