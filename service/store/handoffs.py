"""Handoffs: the queue, one episode, and its changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from service.store.database import table
from service.tables import Handoff

_handoff = table(Handoff)
_ONE = select(_handoff).where(
    _handoff.c.workspace == bindparam("of_workspace"), _handoff.c.id == bindparam("of_id")
)
_ADD = insert(_handoff)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(_ADD, dict(row))


def handoff(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(_ONE, {"of_workspace": workspace, "of_id": name}).one_or_none()


def change(connection: Connection, workspace: str, name: str, **values: Any) -> None:
    connection.execute(
        update(_handoff)
        .where(_handoff.c.workspace == workspace, _handoff.c.id == name)
        .values(**values)
    )


def queue(
    connection: Connection,
    workspace: str,
    *,
    status: str | None = None,
    team: str | None = None,
    most: int = 200,
) -> Sequence[Row[Any]]:
    """Handoffs, the most urgent and then the oldest first."""
    wanted = select(_handoff).where(_handoff.c.workspace == workspace)
    if status is not None:
        wanted = wanted.where(_handoff.c.status == status)
    if team is not None:
        wanted = wanted.where(_handoff.c.team == team)
    order = (_handoff.c.priority, _handoff.c.opened_at, _handoff.c.id)
    return connection.execute(wanted.order_by(*order).limit(most)).all()


def of_conversation(
    connection: Connection, workspace: str, conversation: str
) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_handoff)
        .where(_handoff.c.workspace == workspace, _handoff.c.conversation_id == conversation)
        .order_by(_handoff.c.opened_at)
    ).all()


def of_decision(connection: Connection, workspace: str, decision: str) -> Row[Any] | None:
    """The handoff that a decision opened."""
    return connection.execute(
        select(_handoff).where(
            _handoff.c.workspace == workspace, _handoff.c.decision_id == decision
        )
    ).one_or_none()


def overdue(
    connection: Connection, status: str, column: str, before: float, workspace: str
) -> Sequence[Row[Any]]:
    """Handoffs in a status whose time in `column` is before a moment."""
    wanted = select(_handoff).where(
        _handoff.c.workspace == workspace,
        _handoff.c.status == status,
        _handoff.c[column] < before,
    )
    return connection.execute(wanted.order_by(_handoff.c[column]).limit(500)).all()
