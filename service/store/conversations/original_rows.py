"""Originals of redacted messages, encrypted: rows that no transcript and no export reads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from service.store.database.statements import BulkInsert
from service.store.database.transactions import table
from service.store.tables import MessageRow, Original

_original = table(Original)
_message = table(MessageRow)
ADD = BulkInsert(_original)


def sealed(connection: Connection, workspace: str, conversation: str) -> dict[str, str]:
    """The encrypted originals of a conversation, by message."""
    place = ("workspace", "conversation_id", "seq")
    rows = connection.execute(
        select(_message.c.id, _original.c.sealed)
        .join(_original, and_(*(_message.c[name] == _original.c[name] for name in place)))
        .where(_message.c.workspace == workspace, _message.c.conversation_id == conversation)
    )
    return {row.id: row.sealed for row in rows}


def remove(
    connection: Connection,
    workspace: str,
    conversations: Collection[str],
    seqs: Collection[int] | None = None,
) -> None:
    """Remove those of conversations, or of these places in them."""
    which: list[ColumnElement[bool]] = [
        _original.c.workspace == workspace,
        _original.c.conversation_id.in_(list(conversations)),
    ]
    if seqs is not None:
        which.append(_original.c.seq.in_(list(seqs)))
    connection.execute(delete(_original).where(*which))


def remove_replies(connection: Connection, workspace: str, at: float) -> None:
    """Remove those of agents' turns from before a moment."""
    place = ("workspace", "conversation_id", "seq")
    old = (
        select(_message.c.id)
        .where(
            *(_message.c[name] == _original.c[name] for name in place),
            _message.c.author == "agent",
            _message.c.at < at,
        )
        .exists()
    )
    connection.execute(delete(_original).where(_original.c.workspace == workspace, old))


def row(workspace: str, conversation: str, seq: int, sealed: str) -> dict[str, Any]:
    return {
        "workspace": workspace,
        "conversation_id": conversation,
        "seq": seq,
        "sealed": sealed,
    }
