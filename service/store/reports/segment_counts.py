"""Counts by segment, from which rates are computed: conversations, known misses, audits, handoffs.

Everything is grouped by columns of the conversation (`by`), so that whatever the segments are, each
conversation, audit, known miss and handoff is in exactly one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from service.store.conversations import reopening_rows
from service.store.conversations.conversation_rows import HISTORY
from service.store.database.transactions import table
from service.store.labels import audit_rows
from service.store.tables import Audit, Conversation, Handoff, Outcome

_audit = table(Audit)
_conversation = table(Conversation)
_handoff = table(Handoff)
_outcome = table(Outcome)

GroupBy = tuple[ColumnElement[Any], ...]

SEGMENT_COLUMNS: GroupBy = (
    _conversation.c.language,
    _conversation.c.version,
    _conversation.c.team,
    _conversation.c.fired,
)

HELD_OUT: GroupBy = (_conversation.c.held_out,)


def by_span(span_seconds: float, origin: float) -> GroupBy:
    """Grouping by the span of time in which conversations began, counted from `origin`."""
    number = func.floor((_conversation.c.opened_at - origin) / span_seconds)
    return (number.label("span"),)


def _in_scope(workspace: str, since: float) -> ColumnElement[bool]:
    return and_(
        _conversation.c.workspace == workspace,
        _conversation.c.status != HISTORY,
        _conversation.c.opened_at >= since,
    )


def _kept() -> ColumnElement[bool]:
    """The condition of a kept conversation: closed and never escalated, removed text or not."""
    return and_(_conversation.c.closed_at.is_not(None), ~_conversation.c.escalated)


def conversations(
    connection: Connection, workspace: str, by: GroupBy, since: float = 0.0
) -> Sequence[Any]:
    """Numbers of conversations by segment: all, closed, ever escalated, kept (closed and never
    escalated) and `late` (kept until a reopening showed a miss); and when the first and the last
    began.
    """
    closed = _conversation.c.closed_at.is_not(None)
    return connection.execute(
        select(
            *by,
            func.count().label("all"),
            func.count(case((closed, 1))).label("closed"),
            func.count(case((_conversation.c.escalated, 1))).label("escalated"),
            func.count(case((_kept(), 1))).label("kept"),
            func.count(case((reopening_rows.is_late(workspace), 1))).label("late"),
            func.min(_conversation.c.opened_at).label("first"),
            func.max(_conversation.c.opened_at).label("last"),
        )
        .where(_in_scope(workspace, since))
        .group_by(*by)
    ).all()


def caught(
    connection: Connection, workspace: str, by: GroupBy, since: float = 0.0
) -> Sequence[Any]:
    """Known misses among kept and late conversations by segment and source, audits left out."""
    joined = and_(
        _conversation.c.workspace == _outcome.c.workspace,
        _conversation.c.id == _outcome.c.conversation_id,
    )
    return connection.execute(
        select(*by, _outcome.c.source, func.count().label("caught"))
        .select_from(_outcome.join(_conversation, joined))
        .where(
            _outcome.c.workspace == workspace,
            _outcome.c.handoff_id.is_(None),
            _outcome.c.retracted_at.is_(None),
            _outcome.c.verdict == "missed",
            _outcome.c.source != "audit",
            _in_scope(workspace, since),
            or_(_kept(), reopening_rows.is_late(workspace)),
        )
        .group_by(*by, _outcome.c.source)
    ).all()


def audited(
    connection: Connection, workspace: str, by: GroupBy, since: float = 0.0
) -> Sequence[Any]:
    """Counts and weight sums of the uniform audit sample of kept conversations, by segment; those
    with a known miss left out.
    """
    joined = and_(
        _conversation.c.workspace == _audit.c.workspace,
        _conversation.c.id == _audit.c.conversation_id,
    )
    conditions = {
        "found_missed": _audit.c.verdict == "missed",
        "found_fine": _audit.c.verdict == "fine",
        "unknowable": _audit.c.verdict == "unknowable",
        "pending": and_(_audit.c.status == "waiting", _audit.c.verdict.is_(None)),
    }
    return connection.execute(
        select(
            *by,
            *(
                func.count(case((condition, 1))).label(name)
                for name, condition in conditions.items()
            ),
            *audit_rows.weight_sums(_audit.c.uniform),
        )
        .select_from(_audit.join(_conversation, joined))
        .where(
            _audit.c.workspace == workspace,
            _audit.c.uniform,
            ~audit_rows.is_caught(),
            _in_scope(workspace, since),
            _kept(),
        )
        .group_by(*by)
    ).all()


def handoffs(
    connection: Connection, workspace: str, by: GroupBy, since: float = 0.0
) -> Sequence[Any]:
    """Handoffs by segment, verdict in force (None without one), the chance with which it was
    `asked` for at random (None if it was not), `by_rule`, `opened_by`, status, and
    by their own team, version and triggers (`own_...`).
    """
    joined = and_(
        _conversation.c.workspace == _handoff.c.workspace,
        _conversation.c.id == _handoff.c.conversation_id,
    )
    holds = and_(
        _outcome.c.workspace == _handoff.c.workspace,
        _outcome.c.conversation_id == _handoff.c.conversation_id,
        _outcome.c.handoff_id == _handoff.c.id,
        _outcome.c.retracted_at.is_(None),
    )
    own = (_handoff.c.team, _handoff.c.version, _handoff.c.fired)
    others = (
        _handoff.c.by_rule,
        _handoff.c.opened_by,
        _handoff.c.status,
        _outcome.c.verdict,
        _outcome.c.asked,
    )
    return connection.execute(
        select(
            *by,
            *(column.label(f"own_{column.name}") for column in own),
            *others,
            func.count().label("total"),
        )
        .select_from(_handoff.join(_conversation, joined).outerjoin(_outcome, holds))
        .where(_handoff.c.workspace == workspace, _in_scope(workspace, since))
        .group_by(*by, *own, *others)
    ).all()
