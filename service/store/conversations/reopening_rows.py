"""Rows of reopenings: customers who came back to a conversation that was closed and kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from service.store.database.transactions import insert_if_absent, table
from service.store.tables import Conversation, Decision, Outcome, Reopening

_conversation = table(Conversation)
_decision = table(Decision)
_outcome = table(Outcome)
_reopening = table(Reopening)
_of_conversation = and_(
    _conversation.c.workspace == _reopening.c.workspace,
    _conversation.c.id == _reopening.c.conversation_id,
)
_missed = and_(
    _outcome.c.workspace == _reopening.c.workspace,
    _outcome.c.conversation_id == _reopening.c.conversation_id,
    _outcome.c.handoff_id.is_(None),
    _outcome.c.verdict == "missed",
    _outcome.c.source != "audit",
    _outcome.c.retracted_at.is_(None),
)
_kept = and_(_conversation.c.closed_at.is_not(None), ~_conversation.c.escalated)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    insert_if_absent(connection, Reopening, dict(row) | {"status": "open"})


def draw_at_next_end(connection: Connection, workspace: str, name: str) -> None:
    """Have a conversation drawn for an audit again once it has ended again."""
    connection.execute(
        update(_conversation)
        .where(_conversation.c.workspace == workspace, _conversation.c.id == name)
        .values(tossed=False)
    )


def due(connection: Connection, workspace: str, closed_before: float, most: int) -> Sequence[Any]:
    """Open reopenings that can be judged: the conversation has ended again or gone to a person, or
    it closed before `closed_before`; `until` is its length when it ended next.
    """
    later = _reopening.alias()
    ended_next = (
        select(func.min(later.c.length))
        .where(
            later.c.workspace == _reopening.c.workspace,
            later.c.conversation_id == _reopening.c.conversation_id,
            later.c.length > _reopening.c.length,
        )
        .scalar_subquery()
    )
    over = or_(
        _conversation.c.status != "open",
        _conversation.c.escalated,
        _reopening.c.closed_at < closed_before,
    )
    return connection.execute(
        select(_reopening, func.coalesce(ended_next, _conversation.c.length).label("until"))
        .select_from(_reopening.join(_conversation, _of_conversation))
        .where(_reopening.c.workspace == workspace, _reopening.c.status == "open", over)
        .order_by(_reopening.c.at, _reopening.c.conversation_id)
        .limit(most)
    ).all()


def set_status(connection: Connection, row: Any, status: str) -> bool:
    """Set the status of an open reopening; False if it is open no more."""
    result = connection.execute(
        update(_reopening)
        .where(
            _reopening.c.workspace == row.workspace,
            _reopening.c.conversation_id == row.conversation_id,
            _reopening.c.length == row.length,
            _reopening.c.status == "open",
        )
        .values(status=status)
    )
    return bool(result.rowcount)


def decisions(connection: Connection, workspace: str, conversation: str) -> Sequence[Any]:
    """The scored decisions of a conversation: place, action and time."""
    return connection.execute(
        select(_decision.c.seq, _decision.c.action, _decision.c.at).where(
            _decision.c.workspace == workspace,
            _decision.c.conversation_id == conversation,
            _decision.c.probability.is_not(None),
        )
    ).all()


def is_late(workspace: str) -> ColumnElement[bool]:
    """The condition of a late miss: kept, closed and missed, and then reopened; it is open still or
    was escalated since, and counts among the missed conversations all the same.
    """
    missed = (
        select(_reopening.c.conversation_id)
        .select_from(_reopening.join(_outcome, _missed))
        .where(_reopening.c.workspace == workspace)
    )
    return and_(_conversation.c.id.in_(missed), ~_kept)


def count_late(connection: Connection, workspace: str, since: float = 0.0) -> int:
    """The number of late misses (see `is_late`), of those that closed from `since` on."""
    distinct = func.count(func.distinct(_reopening.c.conversation_id))
    total: int = connection.execute(
        select(distinct)
        .select_from(_reopening.join(_conversation, _of_conversation).join(_outcome, _missed))
        .where(_reopening.c.workspace == workspace, _reopening.c.closed_at >= since, ~_kept)
    ).scalar_one()
    return total


def close_open(connection: Connection, workspace: str, conversations: Collection[str]) -> None:
    """Close open reopenings of these conversations, whose text is removed, as passed."""
    connection.execute(
        update(_reopening)
        .where(
            _reopening.c.workspace == workspace,
            _reopening.c.conversation_id.in_(conversations),
            _reopening.c.status == "open",
        )
        .values(status="passed")
    )
