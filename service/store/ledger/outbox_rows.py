"""Transactional outbox: events for bots and webhooks, written in the transaction of what they tell.

Events of one conversation are in their order. No text stands in them: who is told an agent's words
gets them from the message itself, so that what was removed is nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from sqlalchemy import Connection, Row, and_, delete, select, update

from service.runtime.ids import new_id
from service.runtime.sealing import Sealer, UnsealError
from service.store.database.clock import database_time
from service.store.database.statements import BulkInsert
from service.store.database.transactions import table
from service.store.tables import MessageRow, Original, OutboxEvent

EventType = Literal[
    "handoff.opened",
    "handoff.raised",
    "handoff.claimed",
    "handoff.assigned",
    "handoff.returned",
    "handoff.resolved",
    "handoff.unanswered",
    "handoff.abandoned",
    "message.agent",
    "decision.escalated",
    "decision.offered",
    "outcome.recorded",
    "outcome.corrected",
    "outcome.retracted",
    "version.switched",
    "connection.failing",
]
Words = Literal["words"]
WORDS: Words = "words"
"""Baton's own words, for the connection that says them: nobody else is told."""

_log = structlog.get_logger("baton.outbox")
_HANDOFF_FIELDS = ("status", "team", "priority", "claimed_by", "opened_by")
_event = table(OutboxEvent)
_message = table(MessageRow)
_original = table(Original)
_ADD = BulkInsert(_event)
_PLACE = ("workspace", "conversation_id", "seq")
_WITH_TEXT = (
    select(_event, _message.c.text, _original.c.sealed)
    .outerjoin(_message, and_(*(_message.c[name] == _event.c[name] for name in _PLACE)))
    .outerjoin(_original, and_(*(_original.c[name] == _event.c[name] for name in _PLACE)))
)


def add(
    connection: Connection,
    workspace: str,
    kind: EventType | Words,
    data: Mapping[str, Any],
    *,
    conversation: str | None = None,
    seq: int | None = None,
) -> None:
    """Append an event; `seq` names the message whose text goes with it where that is wanted."""
    row = {
        "id": new_id("e"),
        "workspace": workspace,
        "type": kind,
        "conversation_id": conversation,
        "seq": seq,
        "data": dict(data),
        "dispatched": False,
        "at": database_time(connection),
    }
    _ADD.run(connection, [row])


def add_handoff_event(
    connection: Connection, kind: EventType, row: Mapping[str, Any], **more: Any
) -> None:
    """Append what happened to a handoff, whose row is as it is from now on."""
    data = {"handoff_id": row["id"]} | {name: row[name] for name in _HANDOFF_FIELDS} | more
    add(connection, row["workspace"], kind, data, conversation=row["conversation_id"])


def since(
    connection: Connection, workspace: str, at: float, types: Collection[str], most: int
) -> Sequence[Row[Any]]:
    """Events of these types after a moment, in order, at most `most`, each with its text."""
    return connection.execute(
        _WITH_TEXT.where(
            _event.c.workspace == workspace, _event.c.at > at, _event.c.type.in_(types)
        )
        .order_by(_event.c.at, _event.c.id)
        .limit(most)
    ).all()


def replies(
    connection: Connection, workspace: str, conversation: str, sealer: Sealer
) -> dict[int, str | None]:
    """What agents wrote to the customer, for the bot to say, by the place of their turns."""
    rows = connection.execute(
        _WITH_TEXT.where(
            _event.c.workspace == workspace,
            _event.c.conversation_id == conversation,
            _event.c.type == "message.agent",
            _original.c.sealed.is_not(None),
        )
    )
    return {row.seq: words(row, sealer, says=True) for row in rows if row.data.get("deliver")}


def by_id(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        _WITH_TEXT.where(_event.c.workspace == workspace, _event.c.id == name)
    ).one_or_none()


def words(row: Any, sealer: Sealer | None, *, says: bool) -> str | None:
    """An event's text: as the agent wrote it for who `says` it to the customer, redacted as the
    policy has it for all others; None where it was removed meanwhile.
    """
    if not says or row.text is None or row.sealed is None or sealer is None:
        text: str | None = row.text
        return text
    try:
        return sealer.unseal(row.sealed)
    except UnsealError as error:
        _log.warning("reply_said_redacted", event=row.id, why=str(error))
        return str(row.text)


def event_data(row: Any, sealer: Sealer | None, *, with_text: bool) -> dict[str, Any]:
    """An event as bots and webhooks get it, with the `words` where they are wanted."""
    data: dict[str, Any] = {"event_id": row.id, "conversation_id": row.conversation_id}
    data |= row.data
    data["at"] = datetime.fromtimestamp(row.at, UTC).isoformat()
    if with_text and row.seq is not None:
        data["text"] = words(row, sealer, says=bool(row.data.get("deliver")))
    return data


def undispatched(connection: Connection, most: int) -> Sequence[Any]:
    """Events whose deliveries have yet to be made, oldest first."""
    return connection.execute(
        select(_event)
        .where(_event.c.dispatched.is_(False))
        .order_by(_event.c.at, _event.c.id)
        .limit(most)
    ).all()


def mark_dispatched(connection: Connection, ids: Collection[str]) -> None:
    connection.execute(update(_event).where(_event.c.id.in_(ids)).values(dispatched=True))


KEPT_SECONDS = 7 * 86_400
"""How long events and ended deliveries stay: longer than all retries take."""


def remove_before(connection: Connection, workspace: str, at: float) -> None:
    """Delete events that were told long ago."""
    connection.execute(
        delete(_event).where(
            _event.c.workspace == workspace, _event.c.at < at, _event.c.dispatched.is_(True)
        )
    )
