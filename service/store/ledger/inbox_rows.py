"""Rows of the inbox: events of other systems, each once, done in the order in which they happened.

What an event said goes when it is done: texts are in its conversation, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select

from service.store.database.statements import AnyOf, BulkInsert, CompiledSelect
from service.store.database.transactions import table
from service.store.tables import InboxEntry

_inbox = table(InboxEntry)
_ADD = BulkInsert(_inbox, skips=True)
_FINISH = BulkInsert(_inbox, changes=("status", "error", "done_at", "event"))
_KNOWN = CompiledSelect(
    select(_inbox.c.key).where(
        _inbox.c.connection_id == bindparam("connection_id"), AnyOf(_inbox.c.key, "keys")
    )
)
_FIRST = CompiledSelect(
    select(_inbox.c.id)
    .where(
        _inbox.c.workspace == bindparam("workspace"),
        _inbox.c.conversation_id == bindparam("conversation"),
        _inbox.c.status == "waiting",
    )
    .order_by(_inbox.c.occurred_at, _inbox.c.id)
    .limit(1)
)


def add_new(
    connection: Connection, connection_id: str, rows: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Add the entries whose key has not come before; gives those."""
    keys = list({row["key"] for row in rows})
    known = {row.key for row in _KNOWN.rows(connection, connection_id=connection_id, keys=keys)}
    fresh: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["key"] not in known:
            fresh.setdefault(row["key"], row)
    _ADD.run(connection, list(fresh.values()))
    return list(fresh.values())


def first_waiting(connection: Connection, workspace: str, conversation: str) -> str | None:
    """The id of the entry whose turn it is in a conversation."""
    rows = _FIRST.rows(connection, workspace=workspace, conversation=conversation)
    return str(rows[0].id) if rows else None


def entry(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(_inbox).where(_inbox.c.id == name)).one_or_none()


def waiting_before(connection: Connection, at: float, most: int) -> Sequence[Row[Any]]:
    """Entries that wait and came before a moment: whoever received them has died."""
    return connection.execute(
        select(_inbox)
        .where(_inbox.c.status == "waiting", _inbox.c.at < at)
        .order_by(_inbox.c.occurred_at, _inbox.c.id)
        .limit(most)
    ).all()


def finish(connection: Connection, row: Mapping[str, Any], at: float, error: str | None) -> None:
    """An entry is done; `error` says what of it was refused."""
    status = "done" if error is None else "failed"
    done: dict[str, Any] = {"status": status, "error": error, "done_at": at, "event": {}}
    _FINISH.run(connection, [{**row, **done}])


def failed(connection: Connection, connection_id: str, most: int) -> Sequence[Row[Any]]:
    """Entries of which something was refused, the newest first."""
    return connection.execute(
        select(_inbox)
        .where(_inbox.c.connection_id == connection_id, _inbox.c.status == "failed")
        .order_by(_inbox.c.at.desc())
        .limit(most)
    ).all()


def remove_before(connection: Connection, at: float) -> None:
    """Delete entries that were done long ago: nobody repeats them any more."""
    connection.execute(
        delete(_inbox).where(_inbox.c.status.in_(("done", "failed")), _inbox.c.at < at)
    )
