"""Label requests (active learning): which handoffs' outcomes an agent is asked for.

At most the policy's number in a day, the most informative first. An agent may give more outcomes
than are asked for; one that is never given teaches nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from learning.decision.label_requests import LabelRequestPolicy, label_value
from service.store.handoffs import handoff_rows

DAY_SECONDS = 86_400.0
AGE_SECONDS_MAX = 3 * DAY_SECONDS
"""Older handoffs are not asked about: their agent no longer remembers them well."""
CANDIDATES_MAX = 500


def open_label_requests(
    connection: Connection, workspace: str, agent: str, policy: LabelRequestPolicy, now: float
) -> dict[str, Any]:
    """The agent's handoffs without an outcome, the most informative first, within today's limit.

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
    requests = [_label_request(row) for row in rows]
    requests.sort(key=lambda request: -request["value"])
    return {
        "limit": policy.per_agent_per_day,
        "answered": answered,
        "left": left,
        "questions": requests[:left],
    }


def _label_request(row: Any) -> dict[str, Any]:
    scored = row.probability is not None
    alone = row.by_rule and scored and row.probability < row.escalate_threshold
    return {
        "handoff_id": row.id,
        "conversation_id": row.conversation_id,
        "message_id": row.message_id,
        "status": row.status,
        "opened_at": row.opened_at,
        "probability": row.probability,
        "value": label_value(row.probability, row.uncertainty, by_rule_alone=alone),
    }
