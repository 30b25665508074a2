"""Reviews of audits by one reviewer: what waits for them, what they did, what they answered."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, exists, func, select

from service.store.database.transactions import table
from service.store.tables import Audit, Review

_audit = table(Audit)
_review = table(Review)


def count_waiting_for(connection: Connection, workspace: str, reviewer: str) -> int:
    """Drawn conversations that wait for a review which this reviewer has not given."""
    own_review = exists().where(_review.c.audit_id == _audit.c.id, _review.c.reviewer == reviewer)
    total: int = connection.execute(
        select(func.count()).where(
            _audit.c.workspace == workspace, _audit.c.status == "waiting", ~own_review
        )
    ).scalar_one()
    return total


def count_done_since(connection: Connection, workspace: str, reviewer: str, since: float) -> int:
    """Reviews that a reviewer has answered since a moment; those passed on are none."""
    total: int = connection.execute(
        select(func.count()).where(
            _review.c.workspace == workspace,
            _review.c.reviewer == reviewer,
            _review.c.at >= since,
            _review.c.verdict != "skipped",
        )
    ).scalar_one()
    return total


def answered_audit(
    connection: Connection, workspace: str, audit_id: str, reviewer: str
) -> Any | None:
    """What a reviewer answered to an audit, beside what the model had said of it.

    None for anybody who has not answered it: before the answer nothing is shown.
    """
    return connection.execute(
        select(
            _audit.c.id,
            _audit.c.conversation_id,
            _audit.c.probability,
            _audit.c.threshold,
            _review.c.verdict,
            _review.c.first_needed_message_id,
        )
        .select_from(_audit.join(_review, _review.c.audit_id == _audit.c.id))
        .where(
            _audit.c.workspace == workspace,
            _audit.c.id == audit_id,
            _review.c.workspace == workspace,
            _review.c.reviewer == reviewer,
            _review.c.verdict != "skipped",
        )
    ).one_or_none()
