"""Change log (events for people): alarms, recommendations, switches, challengers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, insert, select

from service.store.database.transactions import table
from service.store.tables import Event

Kind = Literal[
    "alarm",
    "recommendation",
    "promotion",
    "rollback",
    "challenger_opened",
    "challenger_closed",
    "challenger_failed",
    "agent_suspected",
]
_event = table(Event)


def add(connection: Connection, workspace: str, kind: Kind, facts: Mapping[str, Any]) -> str:
    """Append an event; gives its id, which sorts by time."""
    name = f"n{time.time_ns() // 1000:x}{secrets.token_hex(4)}"
    row = {"id": name, "workspace": workspace, "kind": kind, "facts": dict(facts)}
    connection.execute(insert(_event).values(**row, at=time.time()))
    return name


def after(
    connection: Connection, workspace: str, last: str = "", most: int = 200
) -> Sequence[Row[Any]]:
    """The events after an event id (cursor), in order, at most `most`."""
    return connection.execute(
        select(_event)
        .where(_event.c.workspace == workspace, _event.c.id > last)
        .order_by(_event.c.id)
        .limit(most)
    ).all()


def newest(
    connection: Connection, workspace: str, kind: Kind | None = None, most: int = 50
) -> Sequence[Row[Any]]:
    """The latest events, the newest first."""
    query = select(_event).where(_event.c.workspace == workspace)
    if kind is not None:
        query = query.where(_event.c.kind == kind)
    return connection.execute(query.order_by(_event.c.id.desc()).limit(most)).all()
