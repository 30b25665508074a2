"""Counts for the quality page: decisions, handoffs and misses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, case, func, select

from learning.ledger.lessons import WEAK_SOURCES
from service.store.conversations.conversation_rows import HISTORY
from service.store.database.transactions import table
from service.store.tables import Conversation, Decision, Evaluation, Handoff, MessageRow, Outcome

_conversation = table(Conversation)
_decision = table(Decision)
_evaluation = table(Evaluation)
_handoff = table(Handoff)
_message = table(MessageRow)
_outcome = table(Outcome)
EXCERPT_CHARS_MAX = 160


def decision_counts(
    connection: Connection, workspace: str, since: float, until: float
) -> tuple[int, int]:
    """The numbers of decisions and of handoffs after one moment and up to another.

    In shadow mode no handoff is opened: there it is the decisions to escalate. Ids begin with their
    time, so only that time's index range is read.
    """
    span = (_decision.c.id >= first_id("d", since), _decision.c.at > since, _decision.c.at <= until)
    decisions, escalated = connection.execute(
        select(func.count(), func.count(case((_decision.c.action == "escalate", 1)))).where(
            _decision.c.workspace == workspace, _decision.c.probability.is_not(None), *span
        )
    ).one()
    handoffs: int = connection.execute(
        select(func.count()).where(
            _handoff.c.workspace == workspace,
            _handoff.c.id >= first_id("h", since),
            _handoff.c.opened_at > since,
            _handoff.c.opened_at <= until,
        )
    ).scalar_one()
    return decisions, max(handoffs, escalated)


class PastScore(NamedTuple):
    """A score, whether it was of a conversation's first message, and whether a rule offered."""

    probability: float
    first: bool
    by_rule: bool = False


def newest_scores(connection: Connection, workspace: str, most: int) -> list[PastScore]:
    """The newest scores."""
    rows = connection.execute(
        select(_decision.c.probability, _decision.c.seq, _decision.c.action, _decision.c.triggers)
        .where(_decision.c.workspace == workspace, _decision.c.probability.is_not(None))
        .order_by(_decision.c.id.desc())
        .limit(most)
    )
    return [
        PastScore(
            row.probability,
            row.seq == 1,
            row.action == "offer" and any(one["kind"] != "model" for one in row.triggers),
        )
        for row in rows
    ]


def first_id(kind: str, since: float) -> str:
    """A lower bound of the ids of rows made after a moment (ids sort by time)."""
    return f"{kind}{max(0, int((since - 60) * 1e6)):x}"


def caught(connection: Connection, workspace: str, since: float = 0.0) -> Sequence[Row[Any]]:
    """Outcomes of kept conversations by verdict, those of audits and silence left out.

    With `since`, of those that closed from that moment on.
    """
    joined = and_(
        _conversation.c.workspace == _outcome.c.workspace,
        _conversation.c.id == _outcome.c.conversation_id,
        _conversation.c.status == "closed",
        ~_conversation.c.escalated,
        _conversation.c.closed_at >= since,
    )
    return connection.execute(
        select(_outcome.c.verdict, func.count().label("total"))
        .select_from(_outcome.join(_conversation, joined))
        .where(
            _outcome.c.workspace == workspace,
            _outcome.c.handoff_id.is_(None),
            _outcome.c.retracted_at.is_(None),
            _outcome.c.source.not_in(("audit", *WEAK_SOURCES)),
        )
        .group_by(_outcome.c.verdict)
    ).all()


def newest_missed(connection: Connection, workspace: str, since: float, most: int) -> Sequence[Any]:
    """What was found since a moment to have been missed, the newest first: by whom, how, and what
    the conversation began with.
    """
    seq = select(func.min(_message.c.seq)).where(
        _message.c.workspace == _outcome.c.workspace,
        _message.c.conversation_id == _outcome.c.conversation_id,
        _message.c.author == "user",
        _message.c.text != "",
    )
    first = and_(
        _message.c.workspace == _outcome.c.workspace,
        _message.c.conversation_id == _outcome.c.conversation_id,
        _message.c.seq == seq.correlate(_outcome).scalar_subquery(),
    )
    query = (
        select(
            _outcome.c.conversation_id,
            _outcome.c.source,
            _outcome.c.agent,
            _outcome.c.at,
            func.substr(_message.c.text, 1, EXCERPT_CHARS_MAX).label("said"),
        )
        .outerjoin(_message, first)
        .where(
            _outcome.c.workspace == workspace,
            _outcome.c.verdict == "missed",
            _outcome.c.handoff_id.is_(None),
            _outcome.c.retracted_at.is_(None),
            _outcome.c.source.not_in(WEAK_SOURCES),
            _outcome.c.at >= since,
        )
    )
    return connection.execute(query.order_by(_outcome.c.at.desc()).limit(most)).all()


def any_conversation(connection: Connection, workspace: str) -> bool:
    query = select(_conversation.c.id).where(_conversation.c.workspace == workspace)
    return connection.execute(query.limit(1)).first() is not None


def languages(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    """Conversations by the language they are in, as far as it is known."""
    return connection.execute(
        select(_conversation.c.spoken, func.count().label("total"))
        .where(_conversation.c.workspace == workspace, _conversation.c.status != HISTORY)
        .group_by(_conversation.c.spoken)
        .order_by(_conversation.c.spoken)
    ).all()


def actions(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    """Decisions by version and action."""
    by = (_decision.c.version, _decision.c.action)
    return connection.execute(
        select(*by, func.count().label("total"))
        .where(_decision.c.workspace == workspace)
        .group_by(*by)
        .order_by(*by)
    ).all()


def last_report(connection: Connection, workspace: str) -> dict[str, Any] | None:
    """The report of the last evaluation, as plain JSON."""
    report: dict[str, Any] | None = connection.execute(
        select(_evaluation.c.report)
        .where(_evaluation.c.workspace == workspace)
        .order_by(_evaluation.c.position.desc(), _evaluation.c.at.desc())
        .limit(1)
    ).scalar_one_or_none()
    return report
