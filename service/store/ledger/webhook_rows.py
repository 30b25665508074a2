"""Rows of webhooks and of their deliveries, and which of those are due."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from service.store.database.transactions import table
from service.store.tables import Delivery, Webhook

_webhook = table(Webhook)
_delivery = table(Delivery)
OPEN = ("waiting", "sending")


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_webhook).values(**row))


def webhook(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_webhook).where(_webhook.c.workspace == workspace, _webhook.c.id == name)
    ).one_or_none()


def of_workspace(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_webhook).where(_webhook.c.workspace == workspace).order_by(_webhook.c.id)
    ).all()


def of_workspaces(connection: Connection, workspaces: Collection[str]) -> Sequence[Row[Any]]:
    """The webhooks of these workspaces to which something is sent."""
    return connection.execute(
        select(_webhook).where(
            _webhook.c.workspace.in_(workspaces), _webhook.c.disabled_at.is_(None)
        )
    ).all()


def change(connection: Connection, workspace: str, name: str, **values: Any) -> None:
    connection.execute(
        update(_webhook)
        .where(_webhook.c.workspace == workspace, _webhook.c.id == name)
        .values(**values)
    )


def remove(connection: Connection, workspace: str, name: str) -> None:
    """Delete a webhook and its deliveries."""
    connection.execute(
        delete(_delivery).where(_delivery.c.workspace == workspace, _delivery.c.webhook_id == name)
    )
    connection.execute(
        delete(_webhook).where(_webhook.c.workspace == workspace, _webhook.c.id == name)
    )


def add_deliveries(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(insert(_delivery), list(rows))


def due(
    connection: Connection, now: float, most: int, busy: Collection[str] = ()
) -> Sequence[Row[Any]]:
    """Deliveries to be tried now, the oldest first, none of these webhooks. One that is `sending`
    when its time comes was cut off by a crash.
    """
    return connection.execute(
        select(_delivery)
        .where(
            _delivery.c.status.in_(OPEN),
            _delivery.c.due_at <= now,
            _delivery.c.webhook_id.not_in(busy),
        )
        .order_by(_delivery.c.due_at, _delivery.c.id)
        .limit(most)
    ).all()


def deliveries(
    connection: Connection, workspace: str, webhook_id: str, status: str | None, most: int
) -> Sequence[Row[Any]]:
    """Deliveries to a webhook, the newest first."""
    query = select(_delivery).where(
        _delivery.c.workspace == workspace, _delivery.c.webhook_id == webhook_id
    )
    if status is not None:
        query = query.where(_delivery.c.status == status)
    order = (_delivery.c.created_at.desc(), _delivery.c.id.desc())
    return connection.execute(query.order_by(*order).limit(most)).all()


def delivery(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_delivery).where(_delivery.c.workspace == workspace, _delivery.c.id == name)
    ).one_or_none()


def change_delivery(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(_delivery).where(_delivery.c.id == name).values(**values))


def fail_open(connection: Connection, webhook_id: str, why: str) -> None:
    """End what has yet to be delivered to a webhook."""
    connection.execute(
        update(_delivery)
        .where(_delivery.c.webhook_id == webhook_id, _delivery.c.status.in_(OPEN))
        .values(status="failed", error=why)
    )


def counts(connection: Connection, workspace: str) -> dict[tuple[str, str], int]:
    """Deliveries by webhook and status."""
    rows = connection.execute(
        select(_delivery.c.webhook_id, _delivery.c.status, func.count().label("number"))
        .where(_delivery.c.workspace == workspace)
        .group_by(_delivery.c.webhook_id, _delivery.c.status)
    )
    return {(row.webhook_id, row.status): row.number for row in rows}


def remove_before(connection: Connection, at: float) -> None:
    """Delete deliveries that ended long ago."""
    connection.execute(
        delete(_delivery).where(_delivery.c.status.in_(("done", "failed")), _delivery.c.due_at < at)
    )
