"""Results of the MCP tools (their output schemas); none says what will stop being so."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class CheckResult(BaseModel):
    """What the bot does now."""

    action: str = Field(description="continue, offer, escalate or human_active")
    probability: float | None = Field(description="That a person is needed; null with a person")
    reasons: list[str]
    decision_id: str | None
    handoff_id: str | None
    what_to_do: str
    as_of: str = Field(description="When this was decided, ISO 8601")


class HandOverResult(BaseModel):
    """A handoff that is open."""

    handoff_id: str
    status: str
    team: str
    people_there: bool = Field(description="Whether the team was there when it was opened")
    promised_at: str | None = Field(description="When its team gets to it, where not at once")


class OfferResult(BaseModel):
    """The handoff that an accepted offer opened."""

    handoff_id: str | None


class StatusResult(BaseModel):
    """Whether a person has the conversation."""

    human_active: bool
    status: str = Field(description="Of the newest handoff; none where there never was one")
    claimed_by: str | None
    next_look_seconds: int = Field(description="When to look again, at the earliest")


class TurnsResult(BaseModel):
    """Turns that were appended."""

    appended: int
    human_active: bool


class CloseResult(BaseModel):
    """A conversation that is closed."""

    status: str


class OutcomeResult(BaseModel):
    """An outcome on record."""

    outcome_id: str


class VerdictResult(BaseModel):
    """A verdict on record; `effect`: whether it teaches now, or waits."""

    outcome_id: str
    effect: str


class WaitingHandoff(BaseModel):
    """A handoff that waits for a person."""

    handoff_id: str
    conversation_id: str
    team: str
    priority: int = Field(description="1 is served first, 4 last")
    opened_at: str
    reason: str | None


class WaitingResult(BaseModel):
    """The queue, the most urgent and oldest first."""

    handoffs: list[WaitingHandoff]


class PacketResult(BaseModel):
    """The whole context of a handoff."""

    packet: dict[str, Any]
