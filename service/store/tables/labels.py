"""Tables of labels: outcomes, audits and the reviews of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Double, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, time_column


class Outcome(SQLModel, table=True):
    """A label as it is now. `asked`: the chance with which a draw asked for it, if one did."""

    __table_args__ = (
        Index("outcome_of_conversation", "workspace", "conversation_id"),
        Index("outcome_of_agent", "workspace", "agent", "at"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    handoff_id: str | None
    verdict: str
    first_needed_message_id: str | None
    source: str
    agent: str
    team: str | None
    reason: str | None
    note: str | None
    fingerprint: str
    position: int
    at: float = time_column()
    retracted_at: float | None = time_column(nullable=True)
    asked: float | None = time_column(nullable=True)


class Audit(SQLModel, table=True):
    """The two draws (uniform, targeted) of a kept conversation, made once, and its review if drawn.

    `status` is passed (not drawn), waiting or answered; `wanted` reviews are requested. The model's
    score (`probability`, `threshold`) is not shown before the answer: the review is blind.
    `disagreement`: that draw's chance; `actions`: of champion and challengers, as levels 0 to 2.
    """

    __table_args__ = (
        Index("audit_queue", "workspace", "status", "drawn_at"),
        UniqueConstraint("workspace", "conversation_id"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    status: str
    uniform: bool
    targeted: bool
    uniform_propensity: float = time_column()
    targeted_propensity: float = time_column()
    propensity: float = time_column()
    seed: str
    probability: float = time_column()
    threshold: float = time_column()
    version: int
    position: int
    length: int
    wanted: int
    reviews: int
    verdict: str | None
    drawn_at: float = time_column()
    offered_to: str | None
    offered_until: float = time_column()
    answered_at: float | None = time_column(nullable=True)
    disagreement: float = Field(sa_column=Column(Double, nullable=False, server_default=text("0")))
    actions: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))


class Review(SQLModel, table=True):
    """One reviewer's answer to one audit; `skipped` if they could not answer it."""

    __table_args__ = (Index("review_of_reviewer", "workspace", "reviewer", "at"),)
    audit_id: str = Field(primary_key=True)
    reviewer: str = Field(primary_key=True)
    workspace: str
    verdict: str
    first_needed_message_id: str | None
    note: str | None
    at: float = time_column()


class AnnotatorReview(SQLModel, table=True):
    """The stored annotator panel of a workspace, updated up to a ledger position
    (`service.outcomes.annotator_review`).
    """

    __tablename__ = "rating"
    workspace: str = Field(primary_key=True)
    position: int
    state: dict[str, Any] = json_column()
    at: float = time_column()


class InferredLabel(SQLModel, table=True):
    """What an event of another system suggests of a conversation, at a message of the customer's;
    `outcome_id`: what it taught.
    """

    __tablename__ = "inferred_label"
    __table_args__ = (Index("inferred_of_workspace", "workspace", "kind", "at"),)
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    handoff_id: str | None
    kind: str
    message_id: str
    outcome_id: str | None
    at: float = time_column()
