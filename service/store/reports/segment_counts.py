"""What rates are made of, counted apart by what conversations have in common.

Everything is grouped by columns of the conversation (`by`), so that whatever the parts are, each
conversation, audit, caught miss and handoff is in exactly one of them.
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


def by_span(span_seconds: float, origin: float) -> GroupBy:
    """By the span of time in which they began, counted from a moment."""
    number = func.floor((_conversation.c.opened_at - origin) / span_seconds)
    return (number.label("span"),)


def _in_scope(workspace: str, since: float) -> ColumnElement[bool]:
    return and_(
        _conversation.c.workspace == workspace,
        _conversation.c.status != HISTORY,
        _conversation.c.opened_at >= since,
    )


def _kept() -> ColumnElement[bool]:
    """Closed and never escalated; one whose text was removed since stays one."""
    return and_(_conversation.c.closed_at.is_not(None), ~_conversation.c.escalated)


def conversations(
    connection: Connection, workspace: str, by: GroupBy, since: float = 0.0
) -> Sequence[Any]:
    """All that were Baton's to decide, closed, ever escalated, and closed without ever being so;
    `late` ones, which were until their customers came back and are known to have been missed; and
    when the first and the last of them began.
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
    """Kept and late conversations that are known to have been missed, by other than their audit;
    also by the source that told so.
    """
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
    """What the uniform coin drew among kept conversations that no complaint caught."""
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
    """Handoffs with the verdict that holds (None while none does), also by what was theirs: the
    team that has them, the version that opened them, what fired for them (`own_...`), `by_rule`
    and status.
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
    others = (_handoff.c.by_rule, _handoff.c.status, _outcome.c.verdict)
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
