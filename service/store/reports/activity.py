"""Activity since a moment, for the dashboard: conversations that ended and handoffs that
were opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from service.store.database.transactions import table
from service.store.reports.counts import first_id
from service.store.tables import Conversation, Handoff, Outcome

ROWS_MAX = 20_000
"""Rows of a kind that are read, the newest first."""

_conversation = table(Conversation)
_handoff = table(Handoff)
_outcome = table(Outcome)


def ended_conversations(connection: Connection, workspace: str, since: float) -> Sequence[Any]:
    """Conversations that closed or were escalated: time of the last message, and which of both."""
    return connection.execute(
        select(_conversation.c.last_at, _conversation.c.escalated)
        .where(
            _conversation.c.workspace == workspace,
            _conversation.c.status.in_(("open", "closed", "removed")),
            _conversation.c.last_at >= since,
            or_(_conversation.c.status != "open", _conversation.c.escalated),
        )
        .order_by(_conversation.c.last_at.desc())
        .limit(ROWS_MAX)
    ).all()


def opened_handoffs(connection: Connection, workspace: str, since: float) -> Sequence[Any]:
    """Handoffs opened since a moment, with the verdict in force, the newest first."""
    holds = and_(
        _outcome.c.workspace == _handoff.c.workspace,
        _outcome.c.conversation_id == _handoff.c.conversation_id,
        _outcome.c.handoff_id == _handoff.c.id,
        _outcome.c.retracted_at.is_(None),
    )
    return connection.execute(
        select(
            _handoff.c.opened_at,
            _handoff.c.claimed_at,
            _handoff.c.promised_at,
            _handoff.c.status,
            _handoff.c.by_rule,
            _outcome.c.verdict,
        )
        .select_from(_handoff.outerjoin(_outcome, holds))
        .where(
            _handoff.c.workspace == workspace,
            _handoff.c.id >= first_id("h", since),
            _handoff.c.opened_at >= since,
        )
        .order_by(_handoff.c.id.desc())
        .limit(ROWS_MAX)
    ).all()
