"""Rows of judgements, and the decisions about which the judge could be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from service.store.database.transactions import table
from service.store.reports.counts import first_id
from service.store.tables import Conversation, Decision, Judgement, MessageRow

_conversation = table(Conversation)
_decision = table(Decision)
_judgement = table(Judgement)
_message = table(MessageRow)
DAY_SECONDS = 86_400


def unjudged(
    connection: Connection, since: float, most: int, workspaces: Sequence[str] = ()
) -> Sequence[Row[Any]]:
    """The newest decisions by the model since a moment, each the last of an open conversation that
    no person has, about which nobody was asked; of these workspaces, or of all.
    """
    joined = and_(
        _conversation.c.workspace == _decision.c.workspace,
        _conversation.c.id == _decision.c.conversation_id,
    )
    later = _decision.alias("later")
    is_passed = (
        select(later.c.id)
        .where(
            later.c.workspace == _decision.c.workspace,
            later.c.conversation_id == _decision.c.conversation_id,
            later.c.seq > _decision.c.seq,
        )
        .exists()
    )
    is_asked = (
        select(_judgement.c.id)
        .where(
            _judgement.c.workspace == _decision.c.workspace,
            _judgement.c.conversation_id == _decision.c.conversation_id,
            _judgement.c.decision_id == _decision.c.id,
        )
        .exists()
    )
    query = select(_decision).select_from(_decision.join(_conversation, joined))
    if workspaces:
        query = query.where(_decision.c.workspace.in_(workspaces))
    return connection.execute(
        query.where(
            _decision.c.id >= first_id("d", since),
            _decision.c.at >= since,
            _decision.c.probability.is_not(None),
            _decision.c.by_rule.is_(False),
            _decision.c.action.in_(("continue", "offer")),
            _conversation.c.status == "open",
            _conversation.c.handoff_id.is_(None),
            _conversation.c.held_out.is_(False),
            ~is_passed,
            ~is_asked,
        )
        .order_by(_decision.c.id.desc())
        .limit(most)
    ).all()


def last_turns(
    connection: Connection, workspace: str, conversation: str, until: int, most: int
) -> Sequence[Any]:
    """The last turns of people and bot up to a place, in order."""
    rows = connection.execute(
        select(
            _message.c.id,
            _message.c.author,
            _message.c.text,
            _message.c.language,
            _message.c.edits,
            _message.c.removed,
        )
        .where(
            _message.c.workspace == workspace,
            _message.c.conversation_id == conversation,
            _message.c.seq <= until,
            _message.c.author != "system",
        )
        .order_by(_message.c.seq.desc())
        .limit(most)
    ).all()
    return rows[::-1]


def asked_today(connection: Connection, workspace: str, now: float) -> int:
    """How often the judge was asked for a workspace in the last 24 hours, whatever came of it."""
    count: int = connection.execute(
        select(func.count()).where(
            _judgement.c.workspace == workspace,
            _judgement.c.asked_at > now - DAY_SECONDS,
            _judgement.c.status != "cached",
        )
    ).scalar_one()
    return count


def known_probability(connection: Connection, workspace: str, digest: str) -> float | None:
    """What was answered to the same transcript before."""
    probability: float | None = connection.execute(
        select(_judgement.c.probability)
        .where(
            _judgement.c.workspace == workspace,
            _judgement.c.digest == digest,
            _judgement.c.status == "answered",
        )
        .limit(1)
    ).scalar_one_or_none()
    return probability


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_judgement).values(**row))


def change(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(_judgement).where(_judgement.c.id == name).values(**values))


def remove_before(connection: Connection, at: float) -> None:
    connection.execute(delete(_judgement).where(_judgement.c.asked_at < at))
