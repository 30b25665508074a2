"""Rows of outcomes (labels) as they are now; what they taught, and when, is in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from service.store.database.statements import BulkInsert
from service.store.database.transactions import table
from service.store.tables import Outcome

_outcome = table(Outcome)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_outcome).values(**row))


_ADD = BulkInsert(_outcome)


def add_all(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    _ADD.run(connection, rows)


def outcome(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_outcome).where(_outcome.c.workspace == workspace, _outcome.c.id == name)
    ).one_or_none()


def current(
    connection: Connection, workspace: str, conversation: str, handoff: str | None
) -> Row[Any] | None:
    """The outcome in force for a handoff, or (`handoff` None) for the conversation as a whole."""
    return connection.execute(
        select(_outcome)
        .where(
            _outcome.c.workspace == workspace,
            _outcome.c.conversation_id == conversation,
            _outcome.c.handoff_id == handoff
            if handoff is not None
            else _outcome.c.handoff_id.is_(None),
            _outcome.c.retracted_at.is_(None),
        )
        .order_by(_outcome.c.at.desc())
        .limit(1)
    ).one_or_none()


def of_conversation(
    connection: Connection, workspace: str, conversation: str
) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_outcome)
        .where(_outcome.c.workspace == workspace, _outcome.c.conversation_id == conversation)
        .order_by(_outcome.c.at)
    ).all()


def count_since(connection: Connection, workspace: str, agent: str, since: float) -> int:
    """How many outcomes somebody gave since a moment."""
    query = select(func.count()).where(
        _outcome.c.workspace == workspace, _outcome.c.agent == agent, _outcome.c.at > since
    )
    return int(connection.execute(query).scalar_one())


def fingerprints(
    connection: Connection, workspace: str, conversations: Sequence[str], source: str
) -> dict[str, str]:
    """The fingerprints of these conversations' outcomes of one source."""
    rows = connection.execute(
        select(_outcome.c.conversation_id, _outcome.c.fingerprint).where(
            _outcome.c.workspace == workspace,
            _outcome.c.conversation_id.in_(conversations),
            _outcome.c.source == source,
        )
    )
    return {row.conversation_id: row.fingerprint for row in rows}


def change(connection: Connection, workspace: str, name: str, **values: Any) -> None:
    connection.execute(
        update(_outcome)
        .where(_outcome.c.workspace == workspace, _outcome.c.id == name)
        .values(**values)
    )
