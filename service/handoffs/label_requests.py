"""Label requests (active learning): which handoffs' outcomes an agent is asked for.

At most the policy's number in a day: first those that were drawn at random, whose answers speak of
all handoffs, then the most informative. An agent may give more outcomes than are asked for; one
that is never given teaches nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from learning.decision.label_requests import LabelRequestPolicy, label_value
from learning.estimation.audit_sampling import uniform_variate
from service.store.handoffs import handoff_rows

DAY_SECONDS = 86_400.0
AGE_SECONDS_MAX = 3 * DAY_SECONDS
"""Older handoffs are not asked about: their agent no longer remembers them well."""
CANDIDATES_MAX = 500


def random_number(handoff: str) -> float:
    """Reproducible pseudorandom number of a handoff: it is drawn where this is below the share."""
    return uniform_variate("label request", "uniform", handoff)


def drawn_chance(handoff: str, policy: LabelRequestPolicy) -> float | None:
    """The chance with which a handoff was drawn to be asked about; None if it was not."""
    share = policy.uniform_share
    return share if random_number(handoff) < share else None


def open_label_requests(
    connection: Connection, workspace: str, agent: str, policy: LabelRequestPolicy, now: float
) -> dict[str, Any]:
    """The agent's handoffs without an outcome, those drawn at random and then the most informative,
    within today's limit.

    Outcomes given within the last day count against the limit, requested or not.
    """
    answered = handoff_rows.count_outcomes(connection, workspace, agent, now - DAY_SECONDS)
    left = max(0, policy.per_agent_per_day - answered)
    since = now - AGE_SECONDS_MAX
    rows = (
        handoff_rows.without_outcome(connection, workspace, agent, since, CANDIDATES_MAX)
        if left
        else []
    )
    requests = [_label_request(row, policy) for row in rows]
    requests.sort(key=_order)
    return {
        "limit": policy.per_agent_per_day,
        "answered": answered,
        "left": left,
        "questions": requests[:left],
    }


def _order(request: dict[str, Any]) -> tuple[bool, float]:
    """The drawn ones by their random numbers, so that a limit leaves out none by what it is."""
    name = request["handoff_id"]
    return not request["drawn"], random_number(name) if request["drawn"] else -request["value"]


def _label_request(row: Any, policy: LabelRequestPolicy) -> dict[str, Any]:
    scored = row.probability is not None
    alone = row.by_rule and scored and row.probability < row.escalate_threshold
    return {
        "handoff_id": row.id,
        "conversation_id": row.conversation_id,
        "message_id": row.message_id,
        "status": row.status,
        "opened_at": row.opened_at,
        "probability": row.probability,
        "drawn": drawn_chance(row.id, policy) is not None,
        "value": label_value(row.probability, row.uncertainty, by_rule_alone=alone),
    }
