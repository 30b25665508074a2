"""Deliveries to connections, made of events in the transaction that marks those as dispatched.

Words are not in them: a call is written again when it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from service.connections.calls.commands import TYPES, cause_of, command_of
from service.connections.kinds.catalogue import KINDS
from service.connections.kinds.contract import delivery_id
from service.store.ledger import call_rows, connection_rows


def make_calls(connection: Connection, events: Sequence[Any], now: float) -> None:
    """Make the deliveries that follow from events."""
    events = [event for event in events if event.type in TYPES and event.conversation_id]
    if not events:
        return
    workspaces = {event.workspace for event in events}
    targets = [
        row for row in connection_rows.of_workspaces(connection, workspaces) if row.kind in KINDS
    ]
    if not targets:
        return
    conversations = {event.conversation_id for event in events}
    links = connection_rows.links(connection, workspaces, conversations)
    rows: list[dict[str, Any]] = []
    for number, event in enumerate(events):
        link = links.get((event.workspace, event.conversation_id))
        for target in targets:
            if target.workspace == event.workspace:
                rows += _calls(event, number, target, link, now)
    call_rows.add(connection, rows)


def _calls(event: Any, number: int, target: Any, link: Any, now: float) -> list[dict[str, Any]]:
    kind = KINDS[target.kind]
    is_linked = link is not None and link.connection_id == target.id
    if kind.scope == "conversation" and not is_linked:
        return []
    command = command_of(event, target.id, kind)
    if command is None:
        return []
    try:
        config = kind.config.model_validate(target.config)
    except ValidationError:
        return []  # of another build: nothing is known of what it asks for
    native, state = (link.native_id, link.state) if is_linked else ("", {})
    return [
        {
            "id": delivery_id(cause_of(event.id, target.id), call.name),
            "workspace": event.workspace,
            "connection_id": target.id,
            "conversation_id": event.conversation_id,
            "event_id": event.id,
            "type": event.type,
            "call": call.name,
            "repeat": call.repeat,
            "place": f"{now:017.6f}.{number:04d}.{place:02d}",
            "status": "waiting",
            "attempts": 0,
            "due_at": now,
            "created_at": now,
            "tried_at": None,
            "done_at": None,
            "echoed_at": None,
            "http_status": None,
            "error": None,
        }
        for place, call in enumerate(kind.write(command, native, state, config))
    ]
