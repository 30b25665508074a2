"""Rows of canned replies: the texts that agents of a workspace reply with often, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from service.store.database.transactions import insert_if_absent, table
from service.store.tables import CannedReply

REPLIES_MAX = 200
"""Most canned replies of a workspace."""

_reply = table(CannedReply)


def put(connection: Connection, row: Mapping[str, Any]) -> None:
    """Keep a reply; one of the same name is replaced."""
    if not insert_if_absent(connection, CannedReply, row):
        remove(connection, row["workspace"], row["name"])
        insert_if_absent(connection, CannedReply, row)


def remove(connection: Connection, workspace: str, name: str) -> None:
    connection.execute(delete(_reply).where(_reply.c.workspace == workspace, _reply.c.name == name))


def of_workspace(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    """All of a workspace, by name."""
    query = select(_reply).where(_reply.c.workspace == workspace)
    return connection.execute(query.order_by(_reply.c.name).limit(REPLIES_MAX)).all()


def count(connection: Connection, workspace: str) -> int:
    query = select(func.count()).select_from(_reply).where(_reply.c.workspace == workspace)
    total: int = connection.execute(query).scalar_one()
    return total
