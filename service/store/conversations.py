"""Conversations, their messages and decisions: what every scored message reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from learning.conversation import BotReport, Message
from learning.ledger import Turn
from service.store.database import Bulk, insert_new, table
from service.tables import Conversation, Decision, MessageRow

_conversation = table(Conversation)
_message = table(MessageRow)
_decision = table(Decision)

_CONVERSATIONS = (
    select(_conversation)
    .where(
        _conversation.c.workspace == bindparam("workspace"),
        _conversation.c.id.in_(bindparam("ids", expanding=True)),
    )
    .order_by(_conversation.c.id)
    .with_for_update()
)
_KNOWN = select(
    _message.c.conversation_id,
    _message.c.id,
    _message.c.seq,
    _message.c.author,
    _message.c.text,
    _message.c.scored,
).where(
    _message.c.workspace == bindparam("workspace"),
    _message.c.conversation_id.in_(bindparam("conversations", expanding=True)),
    _message.c.id.in_(bindparam("ids", expanding=True)),
)
_MESSAGES = (
    select(_message)
    .where(
        _message.c.workspace == bindparam("workspace"),
        _message.c.conversation_id == bindparam("conversation"),
        _message.c.seq > bindparam("after"),
        _message.c.seq <= bindparam("until"),
    )
    .order_by(_message.c.seq)
)
_UPDATE = (
    update(_conversation)
    .where(
        _conversation.c.workspace == bindparam("of_workspace"),
        _conversation.c.id == bindparam("of_id"),
    )
    .values(
        {
            name: bindparam(name)
            for name in (
                "length",
                "begins",
                "status",
                "resolution",
                "handoff_id",
                "escalated",
                "last_at",
                "closed_at",
                "language",
                "version",
                "team",
                "fired",
            )
        }
    )
)


HISTORY = "history"
"""The status of a conversation that another system had, and that Baton only learned from."""

_CHANGE, _ADD_MESSAGE, _ADD_DECISION = (
    Bulk(_UPDATE),
    Bulk(insert(_message)),
    Bulk(insert(_decision)),
)


def lock(connection: Connection, workspace: str, ids: Collection[str]) -> dict[str, Row[Any]]:
    """The conversations by id, locked until the transaction ends, always in one order."""
    rows = connection.execute(_CONVERSATIONS, {"workspace": workspace, "ids": list(ids)})
    return {row.id: row for row in rows}


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add conversations that are not there yet."""
    connection.execute(insert_new(connection, Conversation), rows)


def remove_empty(connection: Connection, workspace: str, name: str) -> None:
    """Take back a conversation that was added in this transaction and got no message."""
    connection.execute(
        delete(_conversation).where(
            _conversation.c.workspace == workspace,
            _conversation.c.id == name,
            _conversation.c.length == 0,
        )
    )


def known(
    connection: Connection, workspace: str, conversations: Collection[str], ids: Collection[str]
) -> Sequence[Any]:
    """Which of these message ids these conversations already have."""
    given = {"workspace": workspace, "conversations": list(conversations), "ids": list(ids)}
    return connection.execute(_KNOWN, given).all()


def write(
    connection: Connection,
    changed: Sequence[Mapping[str, Any]],
    messages: Sequence[Mapping[str, Any]],
    decisions: Sequence[Mapping[str, Any]],
) -> None:
    """The rows of a batch: changed conversations, new messages, new decisions."""
    _CHANGE.run(connection, changed)
    _ADD_MESSAGE.run(connection, messages)
    _ADD_DECISION.run(connection, decisions)


def mark_scored(connection: Connection, workspace: str, conversation: str, seq: int) -> None:
    connection.execute(
        update(_message)
        .where(
            _message.c.workspace == workspace,
            _message.c.conversation_id == conversation,
            _message.c.seq == seq,
        )
        .values(scored=True)
    )


def standing(connection: Connection, workspace: str, ids: Collection[str]) -> dict[str, str]:
    """Those of the conversations that are there, each with its status."""
    rows = connection.execute(
        select(_conversation.c.id, _conversation.c.status).where(
            _conversation.c.workspace == workspace, _conversation.c.id.in_(list(ids))
        )
    )
    return {row.id: row.status for row in rows}


def conversation(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_conversation).where(
            _conversation.c.workspace == workspace, _conversation.c.id == name
        )
    ).one_or_none()


def if_there(workspace: str, name: str) -> Callable[[Connection], dict[str, list[str]]]:
    """A conversation as something to be locked, unless there is none."""

    def find(connection: Connection) -> dict[str, list[str]]:
        return {} if conversation(connection, workspace, name) is None else {name: []}

    return find


def names(connection: Connection, workspace: str) -> Sequence[str]:
    """Every conversation's id, in the order they began."""
    return (
        connection.execute(
            select(_conversation.c.id)
            .where(_conversation.c.workspace == workspace)
            .order_by(_conversation.c.opened_at, _conversation.c.id)
        )
        .scalars()
        .all()
    )


def messages(
    connection: Connection, workspace: str, name: str, *, after: int = 0, until: int = 2**31 - 1
) -> Sequence[Row[Any]]:
    """A conversation's messages in order, from after one place up to another."""
    given = {"workspace": workspace, "conversation": name, "after": after, "until": until}
    return connection.execute(_MESSAGES, given).all()


def transcript(connection: Connection, workspace: str, name: str, until: int) -> list[Turn]:
    """The first turns of a conversation, as the learning folds them."""
    return [
        Turn(message_of(row), row.scored)
        for row in messages(connection, workspace, name, until=until)
    ]


def message_of(row: Row[Any]) -> Message:
    attributes = row.attributes or {}
    return Message(
        id=row.id,
        author=row.author,
        text=row.text,
        at=row.at,
        language=row.language,
        bot=BotReport(**row.bot) if row.bot else None,
        attributes=tuple(sorted(attributes.items())),
        event=row.event,
    )


def message_row(
    workspace: str, conversation: str, seq: int, message: Message, scored: bool
) -> dict[str, Any]:
    report = message.bot
    return {
        "workspace": workspace,
        "conversation_id": conversation,
        "seq": seq,
        "id": message.id,
        "author": message.author,
        "text": message.text,
        "at": message.at,
        "language": message.language,
        "bot": None
        if report is None
        else {name: getattr(report, name) for name in report.__slots__},
        "attributes": dict(message.attributes) or None,
        "event": message.event,
        "scored": scored,
    }


def decision(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_decision).where(_decision.c.workspace == workspace, _decision.c.id == name)
    ).one_or_none()


def decision_at(
    connection: Connection, workspace: str, conversation: str, seq: int
) -> Row[Any] | None:
    return connection.execute(
        select(_decision).where(
            _decision.c.workspace == workspace,
            _decision.c.conversation_id == conversation,
            _decision.c.seq == seq,
        )
    ).one_or_none()


def decisions(connection: Connection, workspace: str, conversation: str) -> Sequence[Row[Any]]:
    """A conversation's decisions, in the order of their messages."""
    return connection.execute(
        select(_decision)
        .where(_decision.c.workspace == workspace, _decision.c.conversation_id == conversation)
        .order_by(_decision.c.seq)
    ).all()


def answer(connection: Connection, workspace: str, decision: str, given: str) -> None:
    """Record the customer's answer to an offer."""
    connection.execute(
        update(_decision)
        .where(_decision.c.workspace == workspace, _decision.c.id == decision)
        .values(answer=given)
    )
