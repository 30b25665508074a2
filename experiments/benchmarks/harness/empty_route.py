"""The yardstick of throughput: a FastAPI route with a few typed fields that decides nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1, max_length=20_000)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: Text
    text: Text
    author: Literal["user", "bot"] = "user"
    at: datetime | None = None


class ScoreRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    conversation_id: Text
    message: Message
    history: list[Message] = []
    attributes: dict[str, str | bool | float] = {}


class Item(BaseModel):
    name: str
    value: float


class Answer(BaseModel):
    """About as many values as a decision's answer has."""

    decision_id: str = "d19ab2c3d4e5f60718293a4"
    action: Literal["continue", "offer", "escalate", "human_active"] = "continue"
    probability: float | None = 0.17348234
    uncertainty: float | None = 0.0423411
    thresholds: Item = Item(name="offer", value=0.41)
    triggers: list[Item] = []
    reasons: list[Item] = [Item(name="asked twice", value=0.41), Item(name="late", value=0.22)]
    handoff: Item | None = None
    version: int = 3
    position: int = 202


def application() -> FastAPI:
    """The yardstick as an ASGI application."""
    app = FastAPI()
    answer = Answer()

    @app.post("/v1/score", response_model=Answer)
    async def score(_body: ScoreRequest) -> Answer:
        return answer

    @app.get("/readyz")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    return app
