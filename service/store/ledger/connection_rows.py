"""Rows of connections, and of the conversations that other systems have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from service.store.database.statements import BulkInsert, CompiledSelect
from service.store.database.transactions import table
from service.store.tables import ConnectionDelivery, ConnectionRow, ConversationLink, InboxEntry

HEARD_SECONDS = 600.0
"""So late it may be noted that a conversation was heard of."""

_connection = table(ConnectionRow)
_link = table(ConversationLink)
_inbox = table(InboxEntry)
_delivery = table(ConnectionDelivery)
_SAVE_LINK = BulkInsert(_link, changes=("state", "heard_at"))
_LINK = CompiledSelect(
    select(_link).where(
        _link.c.workspace == bindparam("workspace"),
        _link.c.conversation_id == bindparam("conversation"),
    )
)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_connection).values(**row))


def by_id(connection: Connection, name: str) -> Row[Any] | None:
    """A connection, whichever workspace it belongs to: its events name nothing else."""
    return connection.execute(select(_connection).where(_connection.c.id == name)).one_or_none()


def of_workspace(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_connection)
        .where(_connection.c.workspace == workspace)
        .order_by(_connection.c.created_at, _connection.c.id)
    ).all()


def of_workspaces(connection: Connection, workspaces: Collection[str]) -> Sequence[Row[Any]]:
    """The connections of these workspaces to which something is sent."""
    return connection.execute(
        select(_connection).where(
            _connection.c.workspace.in_(workspaces), _connection.c.disabled_at.is_(None)
        )
    ).all()


def enabled(connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(select(_connection).where(_connection.c.disabled_at.is_(None))).all()


def change(connection: Connection, workspace: str, name: str, **values: Any) -> None:
    connection.execute(
        update(_connection)
        .where(_connection.c.workspace == workspace, _connection.c.id == name)
        .values(**values)
    )


def mark_well(connection: Connection, name: str) -> None:
    """A call succeeded: the connection does not fail any more."""
    connection.execute(
        update(_connection)
        .where(_connection.c.id == name, _connection.c.failing_since.is_not(None))
        .values(failing_since=None)
    )


def remove(connection: Connection, workspace: str, name: str) -> None:
    """Delete a connection with its inbox, links and deliveries; conversations stay."""
    for rows in (_inbox, _link, _delivery):
        connection.execute(
            delete(rows).where(rows.c.workspace == workspace, rows.c.connection_id == name)
        )
    connection.execute(
        delete(_connection).where(_connection.c.workspace == workspace, _connection.c.id == name)
    )


def link(connection: Connection, workspace: str, conversation: str) -> Any | None:
    rows = _LINK.rows(connection, workspace=workspace, conversation=conversation)
    return rows[0] if rows else None


def save_link(connection: Connection, row: Mapping[str, Any]) -> None:
    _SAVE_LINK.run(connection, [row])


def links(
    connection: Connection, workspaces: Collection[str], conversations: Collection[str]
) -> dict[tuple[str, str], Any]:
    """Links of these conversations, by workspace and conversation."""
    rows = connection.execute(
        select(_link).where(
            _link.c.workspace.in_(workspaces), _link.c.conversation_id.in_(conversations)
        )
    )
    return {(row.workspace, row.conversation_id): row for row in rows}


def quiet_links(
    connection: Connection, connection_id: str, after: float, until: float, most: int
) -> Sequence[Row[Any]]:
    """Links last heard of between two moments, the oldest first."""
    return connection.execute(
        select(_link)
        .where(
            _link.c.connection_id == connection_id,
            _link.c.heard_at > after,
            _link.c.heard_at <= until,
        )
        .order_by(_link.c.heard_at)
        .limit(most)
    ).all()


def health(connection: Connection, workspace: str) -> dict[str, dict[str, Any]]:
    """By connection: when it was last heard of, how many events wait and since when, and
    deliveries by status.
    """
    found: dict[str, dict[str, Any]] = {}
    heard = connection.execute(
        select(_inbox.c.connection_id, func.max(_inbox.c.at).label("at"))
        .where(_inbox.c.workspace == workspace)
        .group_by(_inbox.c.connection_id)
    )
    for row in heard:
        found.setdefault(row.connection_id, {})["heard_at"] = row.at
    waiting = connection.execute(
        select(
            _inbox.c.connection_id, func.min(_inbox.c.at).label("since"), func.count().label("n")
        )
        .where(_inbox.c.workspace == workspace, _inbox.c.status == "waiting")
        .group_by(_inbox.c.connection_id)
    )
    for row in waiting:
        found.setdefault(row.connection_id, {}).update(waiting=row.n, waiting_since=row.since)
    sent = connection.execute(
        select(
            _delivery.c.connection_id,
            _delivery.c.status,
            func.count().label("n"),
            func.min(_delivery.c.created_at).label("since"),
        )
        .where(_delivery.c.workspace == workspace)
        .group_by(_delivery.c.connection_id, _delivery.c.status)
    )
    for row in sent:
        of = found.setdefault(row.connection_id, {})
        of.setdefault("deliveries", {})[row.status] = row.n
        if row.status in ("waiting", "sending"):
            of["sending_since"] = min(row.since, of.get("sending_since", row.since))
    return found
