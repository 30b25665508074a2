"""Tables of handoffs, with the notes of agents."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Index,
    String,
    text,
)
from sqlmodel import Field, SQLModel

from service.store.tables.columns import time_column


class Handoff(SQLModel, table=True):
    """An episode with a person. `seq` is the message that led to it, `begins` its first.

    `version` and `fired` are those of its decision, as in `Conversation`.
    `promised_at`: when its team is there, if nobody of it was when it was opened. `changed_at`:
    when the row last changed; subscribers of the queue poll for what changed since.
    """

    __table_args__ = (
        Index("handoff_queue", "workspace", "status", "priority", "opened_at"),
        Index("handoff_of_conversation", "workspace", "conversation_id"),
        Index("handoff_news", "workspace", "changed_at"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    decision_id: str | None
    begins: int
    seq: int
    by_rule: bool
    version: int
    fired: str
    team: str
    priority: int
    status: str
    claimed_by: str | None
    opened_at: float = time_column()
    claimed_at: float | None = time_column(nullable=True)
    claim_expires_at: float | None = time_column(nullable=True)
    ended_at: float | None = time_column(nullable=True)
    promised_at: float | None = time_column(nullable=True)
    changed_at: float = time_column()
    opened_by: str = Field(
        sa_column=Column(String, nullable=False, server_default=text("'decision'"))
    )
    reason: str | None
    opening_note: str | None
    raised_at: float | None = time_column(nullable=True)


class Note(SQLModel, table=True):
    """An agent's note on a handoff for other agents, or the `team` they moved it to, or both."""

    __tablename__ = "remark"
    __table_args__ = (Index("remark_of_conversation", "workspace", "conversation_id"),)
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    handoff_id: str
    agent: str
    team: str | None
    text: str | None
    at: float = time_column()


class CannedReply(SQLModel, table=True):
    """A text that agents reply with often, kept by its name."""

    __tablename__ = "canned_reply"
    workspace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    text: str
    made_by: str
    changed_at: float = time_column()
