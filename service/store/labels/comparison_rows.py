"""Rows for the comparison of lines: sampled conversations and handoffs in the order of the world,
and the verdicts in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from learning.ledger.lessons import WEAK_SOURCES
from service.store.database.transactions import table
from service.store.tables import NOT_YET_SAMPLED, Audit, Conversation, Decision, Handoff, Outcome

_audit = table(Audit)
_conversation = table(Conversation)
_decision = table(Decision)
_handoff = table(Handoff)
_outcome = table(Outcome)


_OF_HANDOFF = and_(
    _outcome.c.workspace == _handoff.c.workspace,
    _outcome.c.conversation_id == _handoff.c.conversation_id,
    _outcome.c.handoff_id == _handoff.c.id,
    _outcome.c.retracted_at.is_(None),
)


def sampled_until(connection: Connection, workspace: str, latest: float) -> float:
    """The moment up to which every kept conversation that closed was sampled, at most `latest`."""
    oldest: float | None = connection.execute(
        select(func.min(_conversation.c.closed_at)).where(
            _conversation.c.workspace == workspace, NOT_YET_SAMPLED
        )
    ).scalar_one()
    return latest if oldest is None else min(latest, oldest)


def sampled(
    connection: Connection, workspace: str, after: float, until: float, most: int
) -> Sequence[Any]:
    """The conversations sampled after a moment, in order: `ended` is when they closed."""
    closed_before = _conversation.c.closed_at < _audit.c.drawn_at
    ended = case((closed_before, _conversation.c.closed_at), else_=_audit.c.drawn_at)
    return connection.execute(
        select(
            _audit.c.id,
            _audit.c.conversation_id,
            _audit.c.status,
            _audit.c.propensity,
            _audit.c.disagreement,
            _audit.c.actions,
            ended.label("ended"),
        )
        .select_from(
            _audit.join(
                _conversation,
                and_(
                    _conversation.c.workspace == _audit.c.workspace,
                    _conversation.c.id == _audit.c.conversation_id,
                ),
            )
        )
        .where(
            _audit.c.workspace == workspace,
            _audit.c.status.in_(("passed", "waiting", "answered")),
            _audit.c.drawn_at > after,
            ended > after,
            ended <= until,
        )
        .order_by(ended, _audit.c.id)
        .limit(most)
    ).all()


def handed_over(
    connection: Connection, workspace: str, after: float, until: float, most: int
) -> Sequence[Any]:
    """The handoffs opened after a moment, in order, with the ledger position of their verdict."""
    return connection.execute(
        select(
            _handoff.c.id,
            _handoff.c.conversation_id,
            _handoff.c.begins,
            _handoff.c.seq,
            _handoff.c.by_rule,
            _handoff.c.opened_at.label("ended"),
            _decision.c.action,
            _outcome.c.position,
        )
        .select_from(
            _handoff.outerjoin(_decision, _decision.c.id == _handoff.c.decision_id).outerjoin(
                _outcome, _OF_HANDOFF
            )
        )
        .where(
            _handoff.c.workspace == workspace,
            _handoff.c.opened_at > after,
            _handoff.c.opened_at <= until,
        )
        .order_by(_handoff.c.opened_at, _handoff.c.id)
        .limit(most)
    ).all()


def verdicts(connection: Connection, workspace: str, names: Sequence[str]) -> dict[str, str]:
    """The verdict in force of these handoffs and audits, by id; of an audit, a person's before the
    review's.
    """
    handoffs = connection.execute(
        select(_handoff.c.id, _outcome.c.verdict)
        .select_from(_handoff.join(_outcome, _OF_HANDOFF))
        .where(_handoff.c.workspace == workspace, _handoff.c.id.in_(names))
    )
    told = and_(
        _outcome.c.workspace == _audit.c.workspace,
        _outcome.c.conversation_id == _audit.c.conversation_id,
        _outcome.c.handoff_id.is_(None),
        _outcome.c.retracted_at.is_(None),
        _outcome.c.source.not_in(WEAK_SOURCES),
    )
    audits = connection.execute(
        select(_audit.c.id, func.coalesce(_outcome.c.verdict, _audit.c.verdict))
        .select_from(_audit.outerjoin(_outcome, told))
        .where(_audit.c.workspace == workspace, _audit.c.id.in_(names))
    )
    return {name: verdict for name, verdict in (*handoffs, *audits) if verdict is not None}
