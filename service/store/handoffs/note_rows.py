"""Rows of notes: what agents wrote on a handoff for each other, and to which team they moved it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from service.store.database.transactions import table
from service.store.tables import Note

_note = table(Note)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_note).values(**row))


def of_handoff(
    connection: Connection, workspace: str, handoff: Mapping[str, Any]
) -> Sequence[Row[Any]]:
    """The notes on a handoff, the oldest first."""
    return connection.execute(
        select(_note)
        .where(
            _note.c.workspace == workspace,
            _note.c.conversation_id == handoff["conversation_id"],
            _note.c.handoff_id == handoff["id"],
        )
        .order_by(_note.c.at, _note.c.id)
    ).all()


def count(connection: Connection, workspace: str, conversation: str) -> int:
    """The number of notes on the handoffs of a conversation."""
    total: int = connection.execute(
        select(func.count())
        .select_from(_note)
        .where(_note.c.workspace == workspace, _note.c.conversation_id == conversation)
    ).scalar_one()
    return total
