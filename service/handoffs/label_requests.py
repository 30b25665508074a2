"""Which answers Baton asks an agent for: few in a day, those that would teach most, none of them
in the way. Whoever wants to tell more may; what nobody tells teaches nothing and is fine.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from learning.decision.label_requests import LabelRequestPolicy, value
from service.store.handoffs import handoff_rows

DAY_SECONDS = 86_400.0
AGE_SECONDS_MAX = 3 * DAY_SECONDS
"""Later an agent no longer remembers well what it was like."""
CANDIDATES_MAX = 500


def open_label_requests(
    connection: Connection, workspace: str, agent: str, limit: LabelRequestPolicy, now: float
) -> dict[str, Any]:
    """An agent's handoffs without an outcome, the most valuable first, as many as may be asked.

    Answers given within a day count against the limit, asked for or not.
    """
    told = handoff_rows.count_outcomes(connection, workspace, agent, now - DAY_SECONDS)
    left = max(0, limit.per_agent_per_day - told)
    since = now - AGE_SECONDS_MAX
    found = (
        handoff_rows.without_outcome(connection, workspace, agent, since, CANDIDATES_MAX)
        if left
        else []
    )
    valued = [_label_request(row) for row in found]
    valued.sort(key=lambda question: -question["value"])
    return {
        "limit": limit.per_agent_per_day,
        "answered": told,
        "left": left,
        "questions": valued[:left],
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
        "value": value(row.probability, row.uncertainty, by_rule_alone=alone),
    }
