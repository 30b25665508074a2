"""Remarks: what agents wrote on a handoff for each other, and to which team they moved it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from service.store.database.transactions import table
from service.store.tables import Note

_remark = table(Note)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_remark).values(**row))


def of_handoff(
    connection: Connection, workspace: str, handoff: Mapping[str, Any]
) -> Sequence[Row[Any]]:
    """In the order they were made."""
    return connection.execute(
        select(_remark)
        .where(
            _remark.c.workspace == workspace,
            _remark.c.conversation_id == handoff["conversation_id"],
            _remark.c.handoff_id == handoff["id"],
        )
        .order_by(_remark.c.at, _remark.c.id)
    ).all()


def count(connection: Connection, workspace: str, conversation: str) -> int:
    """How many remarks the handoffs of a conversation have."""
    total: int = connection.execute(
        select(func.count())
        .select_from(_remark)
        .where(_remark.c.workspace == workspace, _remark.c.conversation_id == conversation)
    ).scalar_one()
    return total
