"""Context of outcomes for evaluation: the decisions before them, first messages and audits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, or_, select

from learning.ledger.model_state import Entry
from service.store.conversations.reopening_rows import is_late
from service.store.database.transactions import table
from service.store.tables import Audit, Conversation, Decision, LedgerRow, MessageRow

_audit = table(Audit)
_conversation = table(Conversation)
_decision = table(Decision)
_ledger = table(LedgerRow)
_message = table(MessageRow)


def outcomes(connection: Connection, workspace: str, after: int, most: int) -> list[Entry]:
    """The newest outcomes after a position, at most so many, in their order."""
    columns = (_ledger.c.position, _ledger.c.kind, _ledger.c.body, _ledger.c.actor, _ledger.c.at)
    rows = connection.execute(
        select(*columns)
        .where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "outcome",
            _ledger.c.position > after,
        )
        .order_by(_ledger.c.position.desc())
        .limit(most)
    )
    return [Entry(*row) for row in reversed(rows.all())]


def count_outcomes_since(connection: Connection, workspace: str, after: int, most: int) -> int:
    """The number of outcomes after a position, counted up to `most`."""
    newer = (
        select(_ledger.c.position)
        .where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "outcome",
            _ledger.c.position > after,
        )
        .limit(most)
        .subquery()
    )
    total: int = connection.execute(select(func.count()).select_from(newer)).scalar_one()
    return total


def decisions(connection: Connection, workspace: str, names: Sequence[str]) -> Sequence[Any]:
    """The scored decisions of these conversations, in the order of their messages."""
    return connection.execute(
        select(
            _decision.c.conversation_id,
            _decision.c.seq,
            _decision.c.action,
            _decision.c.triggers,
            _decision.c.by_rule,
            _decision.c.team,
            _decision.c.at,
        )
        .where(
            _decision.c.workspace == workspace,
            _decision.c.conversation_id.in_(names),
            _decision.c.probability.is_not(None),
        )
        .order_by(_decision.c.conversation_id, _decision.c.seq)
    ).all()


def first_messages(connection: Connection, workspace: str, names: Sequence[str]) -> Sequence[Any]:
    """Language and attributes of each conversation's first message."""
    return connection.execute(
        select(_message.c.conversation_id, _message.c.language, _message.c.attributes).where(
            _message.c.workspace == workspace,
            _message.c.conversation_id.in_(names),
            _message.c.seq == 1,
        )
    ).all()


def audits(connection: Connection, workspace: str, names: Sequence[str]) -> Sequence[Any]:
    """The audits of these conversations: status and propensities."""
    return connection.execute(
        select(
            _audit.c.conversation_id,
            _audit.c.status,
            _audit.c.propensity,
            _audit.c.uniform,
            _audit.c.uniform_propensity,
        ).where(_audit.c.workspace == workspace, _audit.c.conversation_id.in_(names))
    ).all()


def count_sampled(connection: Connection, workspace: str, since: float, until: float) -> int:
    """The number of kept conversations sampled after one moment and up to another."""
    joined = (_conversation.c.workspace == _audit.c.workspace) & (
        _conversation.c.id == _audit.c.conversation_id
    )
    total: int = connection.execute(
        select(func.count())
        .select_from(_audit.join(_conversation, joined))
        .where(
            _audit.c.workspace == workspace,
            _audit.c.status.in_(("passed", "waiting", "answered")),
            _audit.c.drawn_at > since,
            _audit.c.drawn_at <= until,
            or_(~_conversation.c.escalated, is_late(workspace)),
        )
    ).scalar_one()
    return total
