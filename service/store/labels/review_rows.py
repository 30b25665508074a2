"""Rows of one reviewer's audits: those that wait for them, and their answers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, exists, func, select

from service.store.database.transactions import table
from service.store.tables import Audit, Review

_audit = table(Audit)
_review = table(Review)


def count_waiting_for(connection: Connection, workspace: str, reviewer: str) -> int:
    """The number of audits that wait for a review and that this reviewer has not reviewed."""
    own_review = exists().where(_review.c.audit_id == _audit.c.id, _review.c.reviewer == reviewer)
    total: int = connection.execute(
        select(func.count()).where(
            _audit.c.workspace == workspace, _audit.c.status == "waiting", ~own_review
        )
    ).scalar_one()
    return total


def count_done_since(connection: Connection, workspace: str, reviewer: str, since: float) -> int:
    """The number of reviews that a reviewer has answered since a moment, skipped ones left out."""
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
    """A reviewer's answer to an audit, with the model's score.

    None for anybody who has not answered it: the review is blind.
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
