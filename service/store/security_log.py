"""Security log (audit log): who signed in, was refused, made or revoked keys, read transcripts,
exported, erased or promoted. It is append-only: the database itself refuses to change a row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from service.store.database.transactions import table
from service.store.tables import SecurityEvent

CHARS_MAX = 200
COMMAND_LINE = "command line"
_event = table(SecurityEvent)


def event(
    kind: str,
    actor: str,
    subject: str = "",
    *,
    workspace: str | None = None,
    address: str = "",
    count: int = 1,
) -> dict[str, Any]:
    """One event, of now; `count` of a kind alike may be one."""
    row = {"kind": kind, "actor": actor, "subject": subject[:CHARS_MAX], "address": address}
    return row | {"workspace": workspace, "count": count, "at": time.time()}


def append(connection: Connection, events: Sequence[dict[str, Any]]) -> None:
    if events:
        connection.execute(insert(_event), list(events))


def newest(connection: Connection, count: int) -> Sequence[Row[Any]]:
    """The newest events, oldest of them first."""
    rows = connection.execute(select(_event).order_by(_event.c.id.desc()).limit(count)).all()
    return rows[::-1]


def after(connection: Connection, number: int, count: int = 1000) -> Sequence[Row[Any]]:
    """Events after one, in their order."""
    query = select(_event).where(_event.c.id > number).order_by(_event.c.id).limit(count)
    return connection.execute(query).all()
