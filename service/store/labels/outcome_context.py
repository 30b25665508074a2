"""Context of outcomes for evaluation: the decisions before them, first messages and audits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from learning.ledger.model_state import Entry
from service.store.database.transactions import table
from service.store.tables import (
    HELD_OUT,
    Audit,
    Conversation,
    Decision,
    LedgerRow,
    MessageRow,
    Outcome,
)

_audit = table(Audit)
_conversation = table(Conversation)
_decision = table(Decision)
_ledger = table(LedgerRow)
_message = table(MessageRow)
_outcome = table(Outcome)


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


def held_out_since(connection: Connection, workspace: str, most: int) -> float | None:
    """When the oldest of the newest conversations that were held out began, of at most so many;
    None where there is none.
    """
    newest = (
        select(_conversation.c.opened_at)
        .where(_conversation.c.workspace == workspace, HELD_OUT)
        .order_by(_conversation.c.opened_at.desc())
        .limit(most)
        .subquery()
    )
    since: float | None = connection.execute(select(func.min(newest.c.opened_at))).scalar_one()
    return since


def held_out(connection: Connection, workspace: str, since: float) -> list[Entry]:
    """The outcomes in force of conversations that were held out and began since, in their order."""
    began = select(_conversation.c.id).where(
        _conversation.c.workspace == workspace, HELD_OUT, _conversation.c.opened_at >= since
    )
    in_force = select(_outcome.c.position).where(
        _outcome.c.workspace == workspace,
        _outcome.c.retracted_at.is_(None),
        _outcome.c.conversation_id.in_(began),
    )
    rows = connection.execute(
        select(_ledger.c.position, _ledger.c.kind, _ledger.c.body, _ledger.c.actor, _ledger.c.at)
        .where(_ledger.c.workspace == workspace, _ledger.c.position.in_(in_force))
        .order_by(_ledger.c.position)
    )
    return [Entry(*row) for row in rows]


def decisions(connection: Connection, workspace: str, names: Sequence[str]) -> Sequence[Any]:
    """The scored decisions of these conversations, in the order of their messages."""
    return connection.execute(
        select(
            _decision.c.conversation_id,
            _decision.c.seq,
            _decision.c.action,
            _decision.c.probability,
            _decision.c.triggers,
            _decision.c.by_rule,
            _decision.c.team,
            _decision.c.held_out,
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


def caught(connection: Connection, workspace: str, names: Sequence[str]) -> Sequence[str]:
    """Of these conversations, those known to have been missed by other than their audit."""
    return (
        connection.execute(
            select(_outcome.c.conversation_id).where(
                _outcome.c.workspace == workspace,
                _outcome.c.conversation_id.in_(names),
                _outcome.c.handoff_id.is_(None),
                _outcome.c.verdict == "missed",
                _outcome.c.source != "audit",
                _outcome.c.retracted_at.is_(None),
            )
        )
        .scalars()
        .all()
    )
