"""Tables of access: workspaces, keys, users, sessions, the security log; and leases."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, time_column


class Workspace(SQLModel, table=True):
    """`head` is the ledger's newest position, `versions` the newest version's number."""

    id: str = Field(primary_key=True)
    mode: str
    head: int = 0
    versions: int = 0
    created_at: float = time_column()


class Key(SQLModel, table=True):
    """A bearer key; only its SHA-256 is kept. `name` is the user's id, or a bot's name. `sealed` is
    its secret for some minutes, encrypted with its maker's, for a repeated request.
    """

    id: str = Field(primary_key=True)
    workspace: str = Field(index=True)
    role: str
    name: str
    hash: str = Field(unique=True)
    created_at: float = time_column()
    revoked_at: float | None = time_column(nullable=True)
    expires_at: float | None = time_column(nullable=True)
    last_used_at: float | None = time_column(nullable=True)
    made_by: str | None
    sealed: str | None


class User(SQLModel, table=True):
    """A person; the id is actor and annotator, whatever key or sign-in they come by.

    `email` is how a provider of OpenID Connect first knows them, `subject` its issuer and its id of
    them from then on.
    """

    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str
    teams: list[str] = json_column()
    role: str
    made_by: str
    created_at: float = time_column()
    email: str | None = Field(default=None, index=True)
    subject: str | None = Field(default=None, index=True)
    removed_at: float | None = time_column(nullable=True)


class Presence(SQLModel, table=True):
    """When somebody was last in the console (`place` empty), or at a handoff's page (its id)."""

    workspace: str = Field(primary_key=True)
    user_id: str = Field(primary_key=True)
    place: str = Field(primary_key=True)
    seen_at: float = time_column()


class SecurityEvent(SQLModel, table=True):
    """A line of the security log; triggers refuse to change or remove it."""

    __tablename__ = "security_event"
    id: int | None = Field(default=None, primary_key=True)
    at: float = time_column()
    workspace: str | None
    kind: str
    actor: str
    subject: str
    address: str
    count: int


class Session(SQLModel, table=True):
    """Somebody signed in to the console with a key; only the cookie's SHA-256 is kept."""

    hash: str = Field(primary_key=True)
    key_id: str = Field(index=True)
    created_at: float = time_column()
    expires_at: float = time_column()


class Lease(SQLModel, table=True):
    """A lease by name (leader election): one `holder` until `expires_at`."""

    name: str = Field(primary_key=True)
    holder: str
    expires_at: float = time_column()


class IdempotencyRecord(SQLModel, table=True):
    """The stored response to a request that carried an Idempotency-Key."""

    __tablename__ = "remembered"
    workspace: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: str
    answer: dict[str, Any] = json_column()
    at: float = time_column()
