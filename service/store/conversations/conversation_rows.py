"""Rows of conversations, messages and decisions: what every scored message reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, or_, select, update

from learning.conversation.state import BotReport, Message
from learning.ledger.model_state import Turn
from service.store.database import statements
from service.store.database.statements import AnyOf, BulkInsert, CompiledSelect
from service.store.database.transactions import table
from service.store.tables import Conversation, Decision, MessageRow

_conversation = table(Conversation)
_message = table(MessageRow)
_decision = table(Decision)

_CONVERSATIONS = CompiledSelect(
    select(_conversation)
    .where(
        _conversation.c.workspace == bindparam("workspace"),
        AnyOf(_conversation.c.id, "ids"),
    )
    .order_by(_conversation.c.id)
    .with_for_update()
)
_STORED_MESSAGES = CompiledSelect(
    select(
        _message.c.conversation_id,
        _message.c.id,
        _message.c.seq,
        _message.c.author,
        _message.c.text,
        _message.c.scored,
        _message.c.removed,
    ).where(
        _message.c.workspace == bindparam("workspace"),
        AnyOf(_message.c.conversation_id, "conversations"),
        AnyOf(_message.c.id, "ids"),
    )
)
_MESSAGES = CompiledSelect(
    select(_message)
    .where(
        _message.c.workspace == bindparam("workspace"),
        _message.c.conversation_id == bindparam("conversation"),
        _message.c.seq > bindparam("after"),
        _message.c.seq <= bindparam("until"),
    )
    .order_by(_message.c.seq)
)
COLUMNS = tuple(column.name for column in _conversation.columns)
_FIXED = ("workspace", "id", "opened_at", "tossed")  # sampling for audits writes `tossed` by itself
_CHANGING = tuple(name for name in COLUMNS if name not in _FIXED)
HISTORY = "history"
"""The status of an imported conversation (warm start), which Baton only learned from."""

_ADD, _CHANGE = BulkInsert(_conversation, skips=True), BulkInsert(_conversation, changes=_CHANGING)
_ADD_MESSAGE, _ADD_DECISION = BulkInsert(_message), BulkInsert(_decision)


def lock(connection: Connection, workspace: str, ids: Collection[str]) -> dict[str, Any]:
    """The conversations by id, locked until the transaction ends, in one order (no deadlocks)."""
    rows = _CONVERSATIONS.rows(connection, workspace=workspace, ids=list(ids))
    return {row.id: row for row in rows}


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add conversations that are not there yet."""
    _ADD.run(connection, rows)


def remove_empty(connection: Connection, workspace: str, name: str) -> None:
    """Delete a conversation that was added in this transaction and got no message."""
    connection.execute(
        delete(_conversation).where(
            _conversation.c.workspace == workspace,
            _conversation.c.id == name,
            _conversation.c.length == 0,
        )
    )


def stored_messages(
    connection: Connection, workspace: str, conversations: Collection[str], ids: Collection[str]
) -> Sequence[Any]:
    """Those of these messages, by id, that these conversations already have."""
    return _STORED_MESSAGES.rows(
        connection, workspace=workspace, conversations=list(conversations), ids=list(ids)
    )


def write_batch(
    connection: Connection,
    changed: Sequence[Mapping[str, Any]],
    messages: Sequence[Mapping[str, Any]],
    decisions: Sequence[Mapping[str, Any]],
) -> None:
    """Write the rows of a batch: changed conversations, new messages, new decisions."""
    statements.write(
        connection, [(_CHANGE, changed), (_ADD_MESSAGE, messages), (_ADD_DECISION, decisions)]
    )


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


def statuses(connection: Connection, workspace: str, ids: Collection[str]) -> dict[str, str]:
    """The status of each of these conversations that exists, by id."""
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


def lock_targets(workspace: str, name: str) -> Callable[[Connection], dict[str, list[str]]]:
    """What a request about a conversation locks: the conversation, if it exists."""

    def find(connection: Connection) -> dict[str, list[str]]:
        return {} if conversation(connection, workspace, name) is None else {name: []}

    return find


def conversation_ids(connection: Connection, workspace: str) -> Sequence[str]:
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
) -> Sequence[Any]:
    """A conversation's messages in order, from after one place up to another."""
    return _MESSAGES.rows(
        connection, workspace=workspace, conversation=name, after=after, until=until
    )


def declared_language(connection: Connection, workspace: str, name: str) -> str | None:
    """The language that the newest message with one was said to be in."""
    query = (
        select(_message.c.language)
        .where(
            _message.c.workspace == workspace,
            _message.c.conversation_id == name,
            _message.c.language.is_not(None),
        )
        .order_by(_message.c.seq.desc())
    )
    return connection.execute(query.limit(1)).scalar_one_or_none()


def text_chars(
    connection: Connection, workspace: str, name: str, after: int = 0, until: int = 2**31 - 1
) -> int:
    """How many characters the texts of a conversation have, from after one place to another."""
    query = select(func.coalesce(func.sum(func.length(_message.c.text)), 0)).where(
        _message.c.workspace == workspace,
        _message.c.conversation_id == name,
        _message.c.seq > after,
        _message.c.seq <= until,
    )
    return int(connection.execute(query).scalar_one())


def transcript(connection: Connection, workspace: str, name: str, until: int) -> list[Turn]:
    """The first `until` turns of a conversation, as `learning` folds them."""
    return [
        Turn(message_of(row), row.scored, row.removed or 0)
        for row in messages(connection, workspace, name, until=until)
    ]


def message_of(row: Any) -> Message:
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
        format=row.format,
        agent=row.agent,
        attachments=tuple((part["type"], part["name"]) for part in row.attachments or ()),
        advice=tuple(sorted((row.advice or {}).items())),
        edits=row.edits,
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
        "format": message.format,
        "agent": message.agent,
        "attachments": [{"type": kind, "name": name} for kind, name in message.attachments] or None,
        "advice": dict(message.advice) or None,
        "edits": message.edits,
        "removed": None,
        "redacted": " ".join(message.redacted) or None,
    }


def versions(connection: Connection, workspace: str, conversation: str, name: str) -> Sequence[Any]:
    """A message and the newer versions of it, oldest first."""
    return connection.execute(
        select(_message)
        .where(
            _message.c.workspace == workspace,
            _message.c.conversation_id == conversation,
            or_(_message.c.id == name, _message.c.edits == name),
        )
        .order_by(_message.c.seq)
    ).all()


def remove_words(
    connection: Connection, workspace: str, conversation: str, seqs: Sequence[int], position: int
) -> None:
    """Remove the words of messages: their places stay, and teach nothing."""
    connection.execute(
        update(_message)
        .where(
            _message.c.workspace == workspace,
            _message.c.conversation_id == conversation,
            _message.c.seq.in_(seqs),
        )
        .values(text="", attachments=None, event="removed", scored=False, removed=position)
    )


def count_removals(
    connection: Connection, workspace: str, conversation: str, after: int = 0
) -> int:
    """How often a message of a conversation was removed, as noted after a place."""
    total: int = connection.execute(
        select(func.count()).where(
            _message.c.workspace == workspace,
            _message.c.conversation_id == conversation,
            _message.c.seq > after,
            _message.c.author == "system",
            _message.c.event == "removed",
        )
    ).scalar_one()
    return total


def write_reasons(
    connection: Connection, workspace: str, decision: str, reasons: Sequence[Any]
) -> None:
    """Write a decision's reasons anew, without words that were removed."""
    connection.execute(
        update(_decision)
        .where(_decision.c.workspace == workspace, _decision.c.id == decision)
        .values(reasons=list(reasons))
    )


def newest_customer_place(connection: Connection, workspace: str, name: str) -> int | None:
    """The place of the customer's newest message."""
    place: int | None = connection.execute(
        select(func.max(_message.c.seq)).where(
            _message.c.workspace == workspace,
            _message.c.conversation_id == name,
            _message.c.author == "user",
            _message.c.removed.is_(None),
        )
    ).scalar_one()
    return place


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


def record_answer(connection: Connection, workspace: str, decision: str, answer: str) -> None:
    """Record the customer's answer to an offer."""
    connection.execute(
        update(_decision)
        .where(_decision.c.workspace == workspace, _decision.c.id == decision)
        .values(answer=answer)
    )
