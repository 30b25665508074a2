"""Tables of the outbox: events, the webhooks that want them, and their deliveries."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Index,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, time_column

UNDISPATCHED = text("NOT dispatched")
"""Events of the outbox whose deliveries are yet to be made: few at any time."""


class OutboxEvent(SQLModel, table=True):
    """Something that happened, for bots and webhooks (transactional outbox); `seq` is the message
    whose text goes with it. `dispatched`: its deliveries are made.
    """

    __tablename__ = "outbox_event"
    __table_args__ = (
        Index("outbox_of_workspace", "workspace", "at"),
        Index(
            "outbox_undispatched",
            "at",
            "id",
            sqlite_where=UNDISPATCHED,
            postgresql_where=UNDISPATCHED,
        ),
    )
    id: str = Field(primary_key=True)
    workspace: str
    type: str
    conversation_id: str | None
    seq: int | None
    data: dict[str, Any] = json_column()
    dispatched: bool
    at: float = time_column()


class Webhook(SQLModel, table=True):
    """Where events are sent: an address, the types it wants (all, if none are named), its sealed
    secret, and while it rotates the one before. `disabled_why`: nothing is sent any more.
    """

    __table_args__ = (Index("webhook_of_workspace", "workspace", "id"),)
    id: str = Field(primary_key=True)
    workspace: str
    url: str
    types: list[Any] = json_column()
    with_text: bool
    secret: str
    previous_secret: str | None
    previous_until: float | None = time_column(nullable=True)
    created_by: str
    created_at: float = time_column()
    disabled_at: float | None = time_column(nullable=True)
    disabled_why: str | None


class Delivery(SQLModel, table=True):
    """An event on its way to a webhook: waiting until `due_at`, sending, done or failed."""

    __table_args__ = (
        Index("delivery_due", "status", "due_at"),
        Index("delivery_of_webhook", "webhook_id", "created_at"),
        UniqueConstraint("webhook_id", "event_id"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    webhook_id: str
    event_id: str
    type: str
    status: str
    attempts: int
    due_at: float = time_column()
    created_at: float = time_column()
    tried_at: float | None = time_column(nullable=True)
    done_at: float | None = time_column(nullable=True)
    http_status: int | None
    error: str | None
