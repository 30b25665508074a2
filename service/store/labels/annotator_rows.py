"""Rows for annotator review: verdicts with their context, and the stored state of the panel."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from service.store.database.transactions import table
from service.store.tables import AnnotatorReview, Audit, Decision, Handoff, Outcome, Review

_rating = table(AnnotatorReview)
_handoff = table(Handoff)
_decision = table(Decision)
_review = table(Review)
_audit = table(Audit)
_outcome = table(Outcome)


def panel_state(connection: Connection, workspace: str, *, lock: bool = False) -> Row[Any] | None:
    """The panel's stored state and ledger position; with `lock`, for update."""
    query = select(_rating).where(_rating.c.workspace == workspace)
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def save_panel_state(
    connection: Connection, workspace: str, position: int, state: Mapping[str, Any], *, fresh: bool
) -> None:
    """Store the panel's state; `fresh` if none was stored before."""
    row = {"workspace": workspace, "position": position, "state": dict(state), "at": time.time()}
    if fresh:
        connection.execute(insert(_rating).values(**row))
    else:
        connection.execute(update(_rating).where(_rating.c.workspace == workspace).values(**row))


def handoff_decisions(
    connection: Connection, workspace: str, names: Sequence[str]
) -> dict[str, Any]:
    """Claim and decision (triggers, action, probability) of these handoffs, by id."""
    rows = connection.execute(
        select(
            _handoff.c.id,
            _handoff.c.claimed_by,
            _handoff.c.claimed_at,
            _decision.c.triggers,
            _decision.c.action,
            _decision.c.probability,
        )
        .select_from(_handoff.join(_decision, _decision.c.id == _handoff.c.decision_id))
        .where(_handoff.c.workspace == workspace, _handoff.c.id.in_(names))
    )
    return {row.id: row for row in rows}


def reviews(
    connection: Connection, workspace: str, after: Sequence[Any], until: float, most: int
) -> Sequence[Any]:
    """Answered reviews in order, after the cursor (time, audit, reviewer) and up to a time, with
    the model's probability and the ledger position of the audit's outcome.
    """
    at, audit, reviewer = after
    same = _review.c.at == at
    later = or_(
        _review.c.at > at,
        and_(same, _review.c.audit_id > audit),
        and_(same, _review.c.audit_id == audit, _review.c.reviewer > reviewer),
    )
    joined = and_(
        _outcome.c.workspace == _audit.c.workspace,
        _outcome.c.conversation_id == _audit.c.conversation_id,
        _outcome.c.handoff_id.is_(None),
    )
    return connection.execute(
        select(
            _review.c.at,
            _review.c.audit_id,
            _review.c.reviewer,
            _review.c.verdict,
            _audit.c.probability,
            _outcome.c.position,
        )
        .select_from(
            _review.join(_audit, _audit.c.id == _review.c.audit_id).outerjoin(_outcome, joined)
        )
        .where(
            _review.c.workspace == workspace,
            _review.c.verdict.in_(("missed", "fine", "unknowable")),
            _review.c.at <= until,
            later,
        )
        .order_by(_review.c.at, _review.c.audit_id, _review.c.reviewer)
        .limit(most)
    ).all()
