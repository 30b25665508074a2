"""Decision history with labels, for off-policy evaluation and previews of a policy; bounded
queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, select

from learning.ledger.lessons import WEAK_SOURCES
from service.store.database.transactions import table
from service.store.reports.counts import first_id
from service.store.tables import Audit, Conversation, Decision, Handoff, MessageRow, Outcome

_conversation = table(Conversation)
_decision = table(Decision)
_handoff = table(Handoff)
_message = table(MessageRow)
_outcome = table(Outcome)
_audit = table(Audit)


def decisions(connection: Connection, workspace: str, since: float, most: int) -> Sequence[Any]:
    """The newest scored decisions since a moment, the newest first."""
    return connection.execute(
        select(
            _decision.c.conversation_id,
            _decision.c.seq,
            _decision.c.action,
            _decision.c.probability,
            _decision.c.triggers,
            _decision.c.route,
            _decision.c.answer,
            _decision.c.held_out,
            _decision.c.at,
        )
        .where(
            _decision.c.workspace == workspace,
            _decision.c.id >= first_id("d", since),
            _decision.c.at >= since,
            _decision.c.probability.is_not(None),
        )
        .order_by(_decision.c.id.desc())
        .limit(most)
    ).all()


def conversations(connection: Connection, workspace: str, names: Sequence[str]) -> Sequence[Any]:
    """Status of these conversations, whether they were ever escalated, and their audit if drawn."""
    audited = and_(
        _audit.c.workspace == _conversation.c.workspace,
        _audit.c.conversation_id == _conversation.c.id,
        _audit.c.status != "passed",
    )
    return connection.execute(
        select(
            _conversation.c.id,
            _conversation.c.status,
            _conversation.c.escalated,
            _audit.c.verdict,
            _audit.c.propensity,
        )
        .select_from(_conversation.outerjoin(_audit, audited))
        .where(_conversation.c.workspace == workspace, _conversation.c.id.in_(names))
    ).all()


def verdicts(connection: Connection, workspace: str, names: Sequence[str]) -> Sequence[Any]:
    """The outcomes in force for these conversations and their handoffs, the newest last."""
    return connection.execute(
        select(
            _outcome.c.conversation_id,
            _outcome.c.handoff_id,
            _outcome.c.verdict,
            _outcome.c.source,
        )
        .where(
            _outcome.c.workspace == workspace,
            _outcome.c.conversation_id.in_(names),
            _outcome.c.retracted_at.is_(None),
        )
        .order_by(_outcome.c.at)
    ).all()


def answers(connection: Connection, workspace: str, most: int) -> Sequence[Any]:
    """The answers to the newest offers, by conversation, the newest first."""
    return connection.execute(
        select(_decision.c.conversation_id, _decision.c.answer)
        .where(
            _decision.c.workspace == workspace,
            _decision.c.action == "offer",
            _decision.c.answer.is_not(None),
        )
        .order_by(_decision.c.id.desc())
        .limit(most)
    ).all()


def judged_handoffs(connection: Connection, workspace: str, most: int) -> Sequence[Any]:
    """The newest labelled handoffs: first and deciding message, triggers, verdict."""
    return connection.execute(
        select(
            _handoff.c.conversation_id,
            _handoff.c.begins,
            _handoff.c.seq,
            _decision.c.triggers,
            _outcome.c.verdict,
        )
        .select_from(
            _outcome.join(_handoff, _handoff.c.id == _outcome.c.handoff_id).join(
                _decision, _decision.c.id == _handoff.c.decision_id
            )
        )
        .where(
            _outcome.c.workspace == workspace,
            _handoff.c.workspace == workspace,
            _outcome.c.retracted_at.is_(None),
            _outcome.c.verdict.in_(("needed", "not_needed")),
        )
        .order_by(_outcome.c.position.desc())
        .limit(most)
    ).all()


def judged_kept(connection: Connection, workspace: str, most: int) -> Sequence[Any]:
    """The newest labels of kept conversations, with the propensity of those audited."""
    audited = and_(
        _audit.c.workspace == _outcome.c.workspace,
        _audit.c.conversation_id == _outcome.c.conversation_id,
        _outcome.c.source == "audit",
    )
    return connection.execute(
        select(_outcome.c.conversation_id, _outcome.c.verdict, _audit.c.propensity)
        .select_from(_outcome.outerjoin(_audit, audited))
        .where(
            _outcome.c.workspace == workspace,
            _outcome.c.handoff_id.is_(None),
            _outcome.c.retracted_at.is_(None),
            _outcome.c.verdict.in_(("missed", "fine")),
            _outcome.c.source.not_in(WEAK_SOURCES),
        )
        .order_by(_outcome.c.position.desc())
        .limit(most)
    ).all()


def customer_messages(
    connection: Connection, workspace: str, names: Sequence[str]
) -> Sequence[Any]:
    """The customers' messages in these conversations: place and text."""
    return connection.execute(
        select(_message.c.conversation_id, _message.c.seq, _message.c.text).where(
            _message.c.workspace == workspace,
            _message.c.conversation_id.in_(names),
            _message.c.author == "user",
        )
    ).all()


def triggers(connection: Connection, workspace: str, names: Sequence[str]) -> Sequence[Any]:
    """The triggers of each decision in these conversations."""
    return connection.execute(
        select(_decision.c.conversation_id, _decision.c.triggers).where(
            _decision.c.workspace == workspace, _decision.c.conversation_id.in_(names)
        )
    ).all()


def closed(connection: Connection, workspace: str, most: int) -> Sequence[Any]:
    """The conversations that closed last, the newest first."""
    return connection.execute(
        select(_conversation.c.id, _conversation.c.last_at)
        .where(_conversation.c.workspace == workspace, _conversation.c.status == "closed")
        .order_by(_conversation.c.last_at.desc(), _conversation.c.id)
        .limit(most)
    ).all()
