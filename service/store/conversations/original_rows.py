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
_PLACE = ("workspace", "conversation_id", "seq")


def sealed(connection: Connection, workspace: str, conversation: str) -> dict[str, str]:
    """The encrypted originals of a conversation, by message."""
    rows = connection.execute(
        select(_message.c.id, _original.c.sealed)
        .join(_original, and_(*(_message.c[name] == _original.c[name] for name in _PLACE)))
        .where(_message.c.workspace == workspace, _message.c.conversation_id == conversation)
    )
    return {row.id: row.sealed for row in rows}


def newest(connection: Connection, workspace: str) -> str | None:
    """The one that was encrypted last in a workspace."""
    sealed: str | None = connection.execute(
        select(_original.c.sealed)
        .join(_message, and_(*(_message.c[name] == _original.c[name] for name in _PLACE)))
        .where(_original.c.workspace == workspace)
        .order_by(_message.c.at.desc())
        .limit(1)
    ).scalar_one_or_none()
    return sealed


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
    old = (
        select(_message.c.id)
        .where(
            *(_message.c[name] == _original.c[name] for name in _PLACE),
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
