"""Yardstick of throughput: a FastAPI route that takes what `/v1/score` takes and decides nothing.

The request's shapes are written out as anyone would write them, and stay so whatever the service
does to read its own faster; a test holds their fields to the service's OpenAPI description. The
answer has fields of its own. The service's checks in Python (no U+0000 in a text, no reserved id)
are left out: the yardstick is the quicker.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(min_length=1, max_length=200)]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Report(Shape):
    intent: Id | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    fallback: bool = False
    tool_error: Annotated[str, Field(max_length=500)] | None = None
    attempt: Id | None = None


class Turn(Shape):
    id: Id
    author: Literal["user", "bot", "agent", "system"]
    text: Annotated[str, Field(max_length=20_000)]
    at: datetime | None = None
    language: Annotated[str, Field(max_length=35)] | None = None
    bot: Report | None = None


class Scored(Shape):
    id: Id
    text: Annotated[str, Field(max_length=20_000)]
    author: Literal["user", "bot"] = "user"
    at: datetime | None = None
    language: Annotated[str, Field(max_length=35)] | None = None


class ScoreRequest(Shape):
    conversation_id: Id
    message: Scored
    bot: Report | None = None
    history: Annotated[list[Turn], Field(max_length=200)] = []
    attributes: Annotated[dict[Id, str | bool | float], Field(max_length=50)] = {}


class Line(BaseModel):
    text: str
    weight: float


class Answer(BaseModel):
    """As many fields and bytes as a decision has, under names of its own."""

    id: str
    action: Literal["continue", "offer", "escalate", "human_active"]
    share: float | None
    spread: float | None
    bars: dict[str, float]
    marks: list[Line]
    lines: list[Line]
    person: Line | None
    version: int
    position: int


ANSWER = Answer(
    id="d19ab2c3d4e5f60718293a4f5061728",
    action="continue",
    share=0.17348234,
    spread=0.0423411,
    bars={"offer": 0.41, "escalate": 0.62},
    marks=[],
    lines=[
        Line(text="the customer has now asked twice", weight=0.41),
        Line(text="words: refund, late", weight=0.22),
    ],
    person=None,
    version=3,
    position=202,
)


def application() -> FastAPI:
    """The yardstick as an ASGI application."""
    app = FastAPI()

    @app.post("/v1/score", response_model=Answer)
    async def score(_asked: ScoreRequest) -> Answer:
        return ANSWER

    @app.get("/readyz")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    return app
