"""The shapes that requests share: ids, texts, messages. Every limit has its number here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from learning.conversation.state import BotReport, Message
from service.outcomes.verdict import Verdict
from service.web.access.keys import Principal

TEXT_CHARS_MAX = 20_000
HISTORY_MAX = 200
BATCH_MAX = 256
ATTRIBUTES_MAX = 50


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character U+0000; remove it")
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("must say something")
    return text.strip()


def _free(name: str) -> str:
    if name.startswith("baton:") or name in (".", ".."):
        raise ValueError('must not start with "baton:" nor be "." or ".."; choose another id')
    if any(character < " " or character == "\x7f" for character in name):
        raise ValueError("must not contain control characters; remove them")
    return name


def _plain(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        wants = "text of at most 500 characters without U+0000, a finite number, true or false"
        raise PydanticCustomError("attribute_value", "should be " + wants) from error


def _epoch(moment: datetime) -> datetime:
    if moment.year < 1971 or moment.year > 2999:
        raise ValueError("must lie between the years 1971 and 2999, as ISO 8601 or epoch seconds")
    return moment


Id = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_free)]
Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX), AfterValidator(_storable)]
ShortText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]
Said = Annotated[str, Field(max_length=4000), AfterValidator(_storable), AfterValidator(_said)]
NoteText = Annotated[str, Field(max_length=4000), AfterValidator(_storable)]
Moment = Annotated[datetime, AfterValidator(_epoch)]
Value = Annotated[
    Annotated[str, Field(max_length=500), AfterValidator(_storable)] | bool | float,
    WrapValidator(_plain),
]


class RequestModel(BaseModel):
    """A request's shape: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Report(RequestModel):
    """What the bot reports of its own work at a turn."""

    intent: ShortText | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    fallback: bool = False
    tool_error: Annotated[str, Field(max_length=500), AfterValidator(_storable)] | None = None
    attempt: ShortText | None = None


class Turn(RequestModel):
    """A turn of the conversation, without a score."""

    id: Id
    author: Literal["user", "bot", "agent", "system"]
    text: Text
    at: Moment | None = None
    language: Annotated[str, Field(max_length=35), AfterValidator(_storable)] | None = None
    bot: Report | None = None


class ScoredMessage(RequestModel):
    """The message to decide about: the customer's, or the bot's own."""

    id: Id
    text: Text
    author: Literal["user", "bot"] = "user"
    at: Moment | None = None
    language: Annotated[str, Field(max_length=35), AfterValidator(_storable)] | None = None


class Error(BaseModel):
    """What was wrong, in which field, and what to do about it."""

    code: str
    message: str
    field: str | None = None
    hint: str | None = None


class ErrorAnswer(BaseModel):
    error: Error


def message(
    shape: ScoredMessage | Turn,
    report: Report | None,
    attributes: dict[str, Any] | None = None,
) -> Message:
    """A message as it is folded; `at` 0 stands for the moment it is stored."""
    given = None
    if report is not None:
        given = BotReport(
            intent=report.intent,
            confidence=report.confidence,
            fallback=report.fallback,
            tool_error=report.tool_error,
            attempt=report.attempt,
        )
    return Message(
        id=shape.id,
        author=shape.author,
        text=shape.text,
        at=seconds(shape.at) if shape.at is not None else 0.0,
        language=shape.language,
        bot=given,
        attributes=tuple(sorted((attributes or {}).items())),
    )


def seconds(moment: datetime) -> float:
    """Seconds since the epoch; a moment without a zone is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment(at: float | None) -> str | None:
    """ISO 8601, UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def timed(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people: every time in it as ISO 8601."""
    return {
        name: moment(value) if name == "at" or name.endswith("_at") else value
        for name, value in row.items()
    }


class HandoffOutcome(RequestModel):
    """Was the escalation needed, and since which message?"""

    verdict: Literal["needed", "not_needed", "unknowable"]
    first_needed_message_id: Id | None = None
    team: ShortText | None = None
    reason: ShortText | None = None
    note: NoteText | None = None

    @model_validator(mode="after")
    def _since_only_if_needed(self) -> HandoffOutcome:
        if self.first_needed_message_id is not None and self.verdict != "needed":
            raise ValueError("first_needed_message_id goes only with verdict needed")
        return self

    def found(self, principal: Principal) -> Verdict:
        return Verdict(
            self.verdict,
            "agent",
            principal.name,
            self.first_needed_message_id,
            self.team,
            self.reason,
            self.note,
        )
