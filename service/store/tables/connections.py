"""Tables of connections: other systems, what came from them (inbox), the conversations they have,
and what is sent to them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, time_column

WAITING = text("status = 'waiting'")
"""Entries of the inbox that have yet to be done: few at any time."""

OPEN = text("status IN ('waiting', 'sending')")
"""Deliveries that have not ended: few at any time."""


class ConnectionRow(SQLModel, table=True):
    """Another system that Baton hears from and acts on. `secrets` is sealed JSON; `previous_secret`
    verifies what comes until a time, while the secret rotates.
    """

    __tablename__ = "connection"
    __table_args__ = (Index("connection_of_workspace", "workspace", "id"),)
    id: str = Field(primary_key=True)
    workspace: str
    kind: str
    name: str
    config: dict[str, Any] = json_column()
    secrets: str
    previous_secret: str | None
    previous_until: float | None = time_column(nullable=True)
    created_by: str
    created_at: float = time_column()
    disabled_at: float | None = time_column(nullable=True)
    failing_since: float | None = time_column(nullable=True)
    failure: str | None
    failed_at: float | None = time_column(nullable=True)


class InboxEntry(SQLModel, table=True):
    """An event of another system, by its key once; `event` is empty when it is done."""

    __tablename__ = "inbox_entry"
    __table_args__ = (
        UniqueConstraint("connection_id", "key"),
        Index(
            "inbox_waiting",
            "workspace",
            "conversation_id",
            "occurred_at",
            sqlite_where=WAITING,
            postgresql_where=WAITING,
        ),
        Index("inbox_of_connection", "connection_id", "at"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    connection_id: str
    key: str
    conversation_id: str
    occurred_at: float = time_column()
    event: dict[str, Any] = json_column()
    status: str
    error: str | None
    at: float = time_column()
    done_at: float | None = time_column(nullable=True)


class ConversationLink(SQLModel, table=True):
    """A conversation as another system has it; `state` is what its kind knows of it."""

    __tablename__ = "conversation_link"
    __table_args__ = (Index("links_of_connection", "connection_id", "heard_at"),)
    workspace: str = Field(primary_key=True)
    conversation_id: str = Field(primary_key=True)
    connection_id: str
    native_id: str
    state: dict[str, Any] = json_column()
    heard_at: float = time_column()


class ConnectionDelivery(SQLModel, table=True):
    """A call to another system: waiting until `due_at`, sending, done, failed, or uncertain, which
    is not repeated. `place` is its order in its conversation.
    """

    __tablename__ = "connection_delivery"
    __table_args__ = (
        Index("calls_open", "due_at", sqlite_where=OPEN, postgresql_where=OPEN),
        Index("calls_of_conversation", "connection_id", "conversation_id", "place"),
        Index("calls_of_connection", "connection_id", "created_at"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    connection_id: str
    conversation_id: str
    event_id: str
    type: str
    call: str
    repeat: str
    place: str
    status: str
    attempts: int
    due_at: float = time_column()
    created_at: float = time_column()
    tried_at: float | None = time_column(nullable=True)
    done_at: float | None = time_column(nullable=True)
    echoed_at: float | None = time_column(nullable=True)
    http_status: int | None
    error: str | None
