"""Transactional outbox: events for bots and webhooks, written in the transaction of what they tell.

Events of one conversation are in their order. No text stands in them: who is told an agent's words
gets them from the message itself, so that what was removed is nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, and_, delete, select, update

from service.runtime.ids import new_id
from service.store.database.clock import database_time
from service.store.database.statements import BulkInsert
from service.store.database.transactions import table
from service.store.tables import MessageRow, OutboxEvent

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
_HANDOFF_FIELDS = ("status", "team", "priority", "claimed_by", "opened_by")
_event = table(OutboxEvent)
_message = table(MessageRow)
_ADD = BulkInsert(_event)
_WITH_TEXT = select(_event, _message.c.text).outerjoin(
    _message,
    and_(
        _message.c.workspace == _event.c.workspace,
        _message.c.conversation_id == _event.c.conversation_id,
        _message.c.seq == _event.c.seq,
    ),
)


def add(
    connection: Connection,
    workspace: str,
    kind: EventType,
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


def by_id(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        _WITH_TEXT.where(_event.c.workspace == workspace, _event.c.id == name)
    ).one_or_none()


def event_data(row: Any, *, with_text: bool) -> dict[str, Any]:
    """An event as bots and webhooks get it; `text` is null where it was removed meanwhile."""
    data: dict[str, Any] = {"event_id": row.id, "conversation_id": row.conversation_id}
    data |= row.data
    data["at"] = datetime.fromtimestamp(row.at, UTC).isoformat()
    return data | ({"text": row.text} if with_text and row.seq is not None else {})


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
