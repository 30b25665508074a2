"""Rows of deliveries to connections: calls to other systems, in order within a conversation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from service.store.database.transactions import table
from service.store.tables import ConnectionDelivery

_delivery = table(ConnectionDelivery)
OPEN = ("waiting", "sending")


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(insert(_delivery), list(rows))


def due(
    connection: Connection, now: float, most: int, busy: Collection[str] = ()
) -> Sequence[Row[Any]]:
    """The first open delivery of each conversation, where it is to be tried now; none of these
    connections. One that is `sending` when its time comes was cut off by a crash.
    """
    earlier = _delivery.alias("earlier")
    is_behind = (
        select(earlier.c.id)
        .where(
            earlier.c.connection_id == _delivery.c.connection_id,
            earlier.c.conversation_id == _delivery.c.conversation_id,
            earlier.c.place < _delivery.c.place,
            earlier.c.status.in_(OPEN),
        )
        .exists()
    )
    return connection.execute(
        select(_delivery)
        .where(
            _delivery.c.status.in_(OPEN),
            _delivery.c.due_at <= now,
            _delivery.c.connection_id.not_in(busy),
            ~is_behind,
        )
        .order_by(_delivery.c.due_at, _delivery.c.place)
        .limit(most)
    ).all()


def next_open(connection: Connection, connection_id: str, conversation: str) -> Row[Any] | None:
    """The first open delivery of a conversation."""
    return connection.execute(
        select(_delivery)
        .where(
            _delivery.c.connection_id == connection_id,
            _delivery.c.conversation_id == conversation,
            _delivery.c.status.in_(OPEN),
        )
        .order_by(_delivery.c.place)
        .limit(1)
    ).one_or_none()


def delivery(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_delivery).where(_delivery.c.workspace == workspace, _delivery.c.id == name)
    ).one_or_none()


def change(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(_delivery).where(_delivery.c.id == name).values(**values))


def deliveries(
    connection: Connection, workspace: str, connection_id: str, status: str | None, most: int
) -> Sequence[Row[Any]]:
    """Deliveries to a connection, the newest first."""
    query = select(_delivery).where(
        _delivery.c.workspace == workspace, _delivery.c.connection_id == connection_id
    )
    if status is not None:
        query = query.where(_delivery.c.status == status)
    order = (_delivery.c.created_at.desc(), _delivery.c.place.desc())
    return connection.execute(query.order_by(*order).limit(most)).all()


def without_echo(
    connection: Connection,
    connection_id: str,
    conversation: str,
    types: Collection[str],
    call: str | None,
    since: float,
) -> Row[Any] | None:
    """A call of ours, of this name or any, whose effect has yet to be heard of: tried since a
    moment.
    """
    query = select(_delivery) if call is None else select(_delivery).where(_delivery.c.call == call)
    return connection.execute(
        query.where(
            _delivery.c.connection_id == connection_id,
            _delivery.c.conversation_id == conversation,
            _delivery.c.type.in_(types),
            _delivery.c.echoed_at.is_(None),
            _delivery.c.tried_at >= since,
        )
        .order_by(_delivery.c.place)
        .limit(1)
    ).one_or_none()


def remove_before(connection: Connection, at: float) -> None:
    """Delete deliveries that ended long ago."""
    connection.execute(
        delete(_delivery).where(
            _delivery.c.status.in_(("done", "failed", "uncertain")), _delivery.c.due_at < at
        )
    )
