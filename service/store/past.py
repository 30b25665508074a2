"""What a past time holds, for looking at it again: decisions, ways and truths, bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, select

from service.store.database import table
from service.store.figures import first_id
from service.tables import Audit, Conversation, Decision, Handoff, Outcome

_conversation = table(Conversation)
_decision = table(Decision)
_handoff = table(Handoff)
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
            _decision.c.answer,
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
    """Of these conversations: whether they closed and ever escalated, and their audit if drawn."""
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
    """The outcomes that hold for these conversations and their handoffs, the newest last."""
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


def answers(connection: Connection, workspace: str, most: int = 20_000) -> Sequence[Any]:
    """Answers to the newest offers, with what came to be known: of the handoff, if accepted, else
    of the conversation (`source` tells whether by an audit, with its propensity).
    """
    opened = and_(
        _handoff.c.workspace == _decision.c.workspace, _handoff.c.decision_id == _decision.c.id
    )
    audited = and_(
        _audit.c.workspace == _decision.c.workspace,
        _audit.c.conversation_id == _decision.c.conversation_id,
    )
    return connection.execute(
        select(
            _decision.c.conversation_id,
            _decision.c.answer,
            _handoff.c.id.label("handoff_id"),
            _audit.c.propensity,
            _audit.c.verdict,
        )
        .select_from(_decision.outerjoin(_handoff, opened).outerjoin(_audit, audited))
        .where(
            _decision.c.workspace == workspace,
            _decision.c.action == "offer",
            _decision.c.answer.is_not(None),
        )
        .order_by(_decision.c.id.desc())
        .limit(most)
    ).all()
