"""Rows of challengers: requested, built by `jobs`, open and closed, with their state and
position.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from service.store.database.transactions import table
from service.store.tables import Challenger

_challenger = table(Challenger)
_COLUMNS = [column for column in _challenger.c if column.name != "state"]
ASKED, OPEN, CLOSED, FAILED = "asked", "open", "closed", "failed"
_ACTIVE = (ASKED, OPEN)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_challenger).values(**row))


def of_workspace(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    """The active challengers, requested or open, by slot."""
    return connection.execute(
        select(*_COLUMNS)
        .where(_challenger.c.workspace == workspace, _challenger.c.status.in_(_ACTIVE))
        .order_by(_challenger.c.slot)
    ).all()


def newest(connection: Connection, workspace: str, most: int = 50) -> Sequence[Row[Any]]:
    """Challengers of every status, the newest first."""
    return connection.execute(
        select(*_COLUMNS)
        .where(_challenger.c.workspace == workspace)
        .order_by(_challenger.c.id.desc())
        .limit(most)
    ).all()


def challenger(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    """All columns of a challenger but its state."""
    return connection.execute(
        select(*_COLUMNS).where(_challenger.c.workspace == workspace, _challenger.c.id == name)
    ).one_or_none()


def comparisons_begun(connection: Connection, workspace: str) -> int:
    """How many comparisons have ever begun in a workspace: one for each challenger and champion."""
    begun, greatest = connection.execute(
        select(
            func.count(_challenger.c.duel["against"].as_integer()),
            func.max(_challenger.c.duel["number"].as_integer()),
        ).where(_challenger.c.workspace == workspace)
    ).one()
    return max(int(begun), int(greatest or 0))


def state(connection: Connection, workspace: str, name: str) -> bytes | None:
    return connection.execute(
        select(_challenger.c.state).where(
            _challenger.c.workspace == workspace, _challenger.c.id == name
        )
    ).scalar_one_or_none()


def change(connection: Connection, workspace: str, name: str, **values: Any) -> bool:
    """Update an active challenger; False if it is active no more."""
    result = connection.execute(
        update(_challenger)
        .where(
            _challenger.c.workspace == workspace,
            _challenger.c.id == name,
            _challenger.c.status.in_(_ACTIVE),
        )
        .values(**values)
    )
    return bool(result.rowcount)


def close(connection: Connection, workspace: str, name: str, by: str, why: str) -> bool:
    """Close a challenger: its state is deleted, its results stay."""
    now = time.time()
    values = {"closed_by": by, "closed_why": why, "closed_at": now, "state": None}
    return change(connection, workspace, name, status=CLOSED, **values)
