"""Tables of conversations: their messages, decisions and reopenings."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Index,
    UniqueConstraint,
    false,
    text,
)
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, time_column

NOT_YET_SAMPLED = text("status = 'closed' AND NOT escalated AND NOT tossed")
"""Kept, closed conversations that were not sampled for audits yet: a partial index, so that finding
them takes no longer when many have ever closed."""


ANSWERED = text("answer IS NOT NULL")
"""Decisions to offer a person that the customer answered: few among all decisions."""


HELD_OUT = text("held_out")
"""Conversations in which rules alone decide: at most one in twenty."""


class Conversation(SQLModel, table=True):
    """`length` counts its messages; `begins` is the first place after the last handoff.

    The last four say what it is counted under: the `language` of its first message, the `version`
    and `team` of its newest decision or, once it was handed over, of its newest handoff, and the
    names of all triggers that `fired` in it, sorted, with a space between. `offer_id` is the
    decision to offer a person that the customer has yet to answer. `tossed` says that it was
    sampled after its end: drawn for an audit or not. `spoken` is the code of the language it is in,
    declared or recognised. `held_out` says that rules alone decide in it, drawn at its first
    decision with the chance `holdout`; that is null where nothing was drawn.
    """

    __table_args__ = (
        Index("conversation_by_status", "workspace", "status", "last_at"),
        Index(
            "conversation_untossed",
            "workspace",
            "closed_at",
            "id",
            sqlite_where=NOT_YET_SAMPLED,
            postgresql_where=NOT_YET_SAMPLED,
        ),
        Index(
            "conversation_held_out",
            "workspace",
            "opened_at",
            sqlite_where=HELD_OUT,
            postgresql_where=HELD_OUT,
        ),
    )
    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    length: int
    begins: int
    status: str
    resolution: str | None
    handoff_id: str | None
    escalated: bool
    opened_at: float = time_column()
    last_at: float = time_column()
    closed_at: float | None = time_column(nullable=True)
    language: str | None
    version: int | None
    team: str | None
    fired: str | None
    offer_id: str | None
    tossed: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=false()))
    spoken: str | None
    holdout: float | None = time_column(nullable=True)
    held_out: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=false()))


class MessageRow(SQLModel, table=True):
    """A turn, at its place `seq` (from 1) in the conversation, as it was folded.

    `edits` is the id of the message that it is a newer version of. `removed` is the ledger position
    at which its words were removed. `redacted` are the kinds of personal data that were replaced
    in it, with a space between.
    """

    __tablename__ = "message"
    __table_args__ = (UniqueConstraint("workspace", "conversation_id", "id"),)
    workspace: str = Field(primary_key=True)
    conversation_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    id: str
    author: str
    text: str
    at: float = time_column()
    language: str | None
    bot: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    attributes: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    event: str | None
    scored: bool
    agent: str | None
    format: str | None
    attachments: list[Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    advice: dict[str, float] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    edits: str | None
    removed: int | None
    redacted: str | None


class Original(SQLModel, table=True):
    """What a redacted message said, encrypted; only where the policy keeps it."""

    workspace: str = Field(primary_key=True)
    conversation_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    sealed: str


class Decision(SQLModel, table=True):
    """The decision about a message. One made while a person had the conversation has no
    probability.

    `route` says how the team was chosen, and what the model suggested, where one was chosen. `say`
    are the words that the bot may show. `held_out`: rules alone decided. `reopened`: its message
    came to a conversation that was closed.
    """

    __table_args__ = (
        UniqueConstraint("workspace", "conversation_id", "seq"),
        Index(
            "decision_answered",
            "workspace",
            "id",
            sqlite_where=ANSWERED,
            postgresql_where=ANSWERED,
        ),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    seq: int
    message_id: str
    action: str
    probability: float | None = time_column(nullable=True)
    uncertainty: float | None = time_column(nullable=True)
    offer_threshold: float = time_column()
    escalate_threshold: float = time_column()
    triggers: list[Any] = json_column()
    reasons: list[Any] = json_column()
    handoff: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    team: str
    priority: int
    route: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    by_rule: bool
    version: int
    position: int
    build: str
    answer: str | None
    at: float = time_column()
    say: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    language: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    held_out: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=false()))
    reopened: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=false()))


class Reopening(SQLModel, table=True):
    """A reopening: a customer came back to a conversation that was closed and never escalated.

    `length` is its number of messages at its end, `at` when they came back. `status` is open until
    it is judged: missed or passed.
    """

    __table_args__ = (Index("reopening_by_status", "workspace", "status"),)
    workspace: str = Field(primary_key=True)
    conversation_id: str = Field(primary_key=True)
    length: int = Field(primary_key=True)
    resolution: str | None
    status: str
    closed_at: float = time_column()
    at: float = time_column()


class Judgement(SQLModel, table=True):
    """A question to the judge about a decision: asking (or cut off), answered, cached, unreadable
    or failed. `digest` is that of the adviser's name and of the transcript that it was shown.
    """

    __table_args__ = (
        Index("judgements_of_workspace", "workspace", "asked_at"),
        Index("judgement_by_digest", "workspace", "digest"),
        Index("judgements_of_conversation", "workspace", "conversation_id"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    decision_id: str
    adviser: str
    digest: str
    status: str
    probability: float | None = time_column(nullable=True)
    asked_at: float = time_column()
