"""Request and response schemas that routes share: ids, texts, turns, errors.

Every limit of a request has its number here. Responses are built as plain JSON; a response's model
is its OpenAPI description alone, beside the route that makes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

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

TEXT_CHARS_MAX = 20_000
CUT_MARK = " [cut]"
"""Ends a text that was longer."""

TEXTS_CHARS_MAX, BATCH_TEXTS_CHARS_MAX = 128_000, 512_000
"""All texts of one request together, and of a batch, each as it is kept."""

ATTACHMENTS_MAX = 20
HISTORY_MAX = 200
BATCH_MAX = 256
ATTRIBUTES_MAX = 50


_INVISIBLE = re.compile("[\x80-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Controls, overrides of direction, zero width, separators of lines: an id with one shows as
another.
"""


_SURROGATE = re.compile("[\ud800-\udfff]")


def about(description: str, *examples: Any) -> Any:
    """A field's description and examples, as OpenAPI shows them."""
    return Field(description=description, examples=list(examples) or None)


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character U+0000; remove it")
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError("must not contain half a character (a lone surrogate); remove it")
    return text


def _cut(text: str) -> str:
    if len(text) <= TEXT_CHARS_MAX:
        return text
    return text[: TEXT_CHARS_MAX - len(CUT_MARK)] + CUT_MARK


def require_texts(texts: Iterable[str]) -> None:
    """Raises PydanticCustomError where all texts of a request together are too long."""
    total = sum(map(len, texts))
    if total > TEXTS_CHARS_MAX:
        why = f"the texts have {total} characters together; the limit is {TEXTS_CHARS_MAX}"
        raise PydanticCustomError("texts_too_long", why)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must say something")
    return text.strip()


def _not_reserved(name: str) -> str:
    if name.startswith("baton:") or name in (".", ".."):
        raise ValueError('must not start with "baton:" nor be "." or ".."; choose another id')
    if any(character < " " or character == "\x7f" for character in name):
        raise ValueError("must not contain control characters; remove them")
    if not name.isascii() and _INVISIBLE.search(name):
        raise ValueError("must not contain control or invisible characters; remove them")
    if not name.strip():
        raise ValueError("must not be blank; give it a name")
    return name


def _attribute_value(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        wants = "text of at most 500 characters without U+0000, a finite number, true or false"
        raise PydanticCustomError("attribute_value", "should be " + wants) from error


def _in_range(moment: datetime) -> datetime:
    if moment.year < 1971 or moment.year > 2999:
        raise ValueError("must lie between the years 1971 and 2999, as ISO 8601 or epoch seconds")
    return moment


Id = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_not_reserved)]
Text = Annotated[str, AfterValidator(_without_nul), AfterValidator(_cut)]
ShortText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_without_nul)]
RequiredNote = Annotated[
    str, Field(max_length=4000), AfterValidator(_without_nul), AfterValidator(_not_blank)
]
NoteText = Annotated[str, Field(max_length=4000), AfterValidator(_without_nul)]
Moment = Annotated[datetime, AfterValidator(_in_range)]
Value = Annotated[
    Annotated[str, Field(max_length=500), AfterValidator(_without_nul)] | bool | float,
    WrapValidator(_attribute_value),
]
Language = Annotated[
    Annotated[str, Field(max_length=35), AfterValidator(_without_nul)] | None,
    about("Language tag (BCP 47); recognised from the text where it is left out.", "en"),
]


AdviserName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Advice = Annotated[
    dict[AdviserName, Annotated[float, Field(ge=0, le=1)]],
    Field(max_length=8),
    about("Probabilities from elsewhere that a person is needed, by name.", {"judge": 0.7}),
]


CHARS_MAX = 2**24
"""No body holds more characters."""


class RequestModel(BaseModel):
    """Base of all requests: unknown fields are refused by name.

    Pydantic looks for lone surrogates in strings with a bound only, so each has one.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=CHARS_MAX)


class Acting(RequestModel):
    """What a person does, who may be another than the key's holder."""

    agent: Annotated[
        ShortText | None,
        about("With a connector's key: the agent of its system who does it.", "dana"),
    ] = None


class Report(RequestModel):
    """What the bot reports of its own work at a turn."""

    intent: Annotated[ShortText | None, about("The intent it recognised.", "refund_status")] = None
    confidence: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None, about("How sure it is of the intent.", 0.42)
    ] = None
    fallback: Annotated[bool, about("It did not understand.", True)] = False
    tool_error: Annotated[
        Annotated[str, Field(max_length=500), AfterValidator(_without_nul)] | None,
        about("What a tool or system that it called answered wrongly.", "order system timed out"),
    ] = None
    attempt: Annotated[
        ShortText | None, about("What it tried, for the agent to read.", "looked up the order")
    ] = None


class Attachment(RequestModel):
    """Something that came with a message; Baton does not read it."""

    type: Annotated[ShortText, about("What it is.", "image")]
    name: Annotated[ShortText | None, about("Its name.", "receipt.jpg")] = None


Attachments = Annotated[
    list[Attachment],
    Field(max_length=ATTACHMENTS_MAX),
    about("What came with it; alone they are a message, too.", [{"type": "image"}]),
]
Format = Annotated[
    Literal["text", "html", "markdown", "email"] | None,
    about("How the text is written; recognised where it is left out.", "text"),
]


class Said(RequestModel):
    """What was said at a turn: a text, attachments, or both."""

    text: Annotated[Text, about("What was said.", "I want to talk to a person")] = ""
    format: Format = None
    attachments: Attachments = []

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.attachments and "text" not in self.model_fields_set:
            raise ValueError("needs text, or attachments")
        return self


class Turn(Said):
    """A turn of the conversation, without a score."""

    id: Annotated[Id, about("Its id, unique in the conversation.", "m-2")]
    author: Annotated[
        Literal["user", "bot", "agent", "system"], about("Who said it; user: the customer.", "bot")
    ]
    at: Annotated[
        Moment | None, about("When it was said; now, if left out.", "2026-11-28T09:30:00Z")
    ] = None
    language: Language = None
    bot: Annotated[Report | None, about("What the bot reports of its work at this turn.")] = None
    agent: Annotated[
        ShortText | None,
        about("The person who speaks, or to whom a system turn says it was assigned.", "Ana"),
    ] = None
    event: Annotated[
        Literal["assigned", "unassigned"] | None,
        about("What a system turn records: a person has it, or no longer.", "assigned"),
    ] = None

    @model_validator(mode="after")
    def _people_only_where_they_are(self) -> Turn:
        if self.agent is not None and self.author not in ("agent", "system"):
            raise ValueError("agent goes only with author agent or system")
        if self.event is not None and self.author != "system":
            raise ValueError("event goes only with author system")
        if self.event == "assigned" and self.agent is None:
            raise ValueError("event assigned names its agent")
        return self


class ScoredMessage(Said):
    """The message to decide about: the customer's, or the bot's own."""

    id: Annotated[Id, about("Its id: the same id again gets the same decision.", "m-3")]
    author: Annotated[Literal["user", "bot"], about("Who said it; user: the customer.", "user")] = (
        "user"
    )
    at: Annotated[
        Moment | None, about("When it was said; now, if left out.", "2026-11-28T09:30:00Z")
    ] = None
    language: Language = None


class EditedMessage(Said):
    """What a message of the customer says now, instead of what it said."""

    at: Annotated[
        Moment | None, about("When it was edited; now, if left out.", "2026-11-28T09:30:00Z")
    ] = None
    language: Language = None
    bot: Annotated[Report | None, about("What the bot reports of its work at this message.")] = None


class Error(BaseModel):
    """What was wrong, in which field, and what to do about it."""

    code: Annotated[str, about("A plain code for programs.", "message_differs")]
    message: Annotated[
        str, about("What was wrong, for people.", "message 'm-3' is already recorded")
    ]
    field: Annotated[str | None, about("The field it is about.", "message.id")] = None
    hint: Annotated[
        str | None, about("What to do about it.", "a corrected text is a new message")
    ] = None


class ErrorAnswer(BaseModel):
    """A refused request: nothing of it was written."""

    error: Annotated[Error, about("What was wrong.")]


def message(
    turn: ScoredMessage | Turn | EditedMessage,
    report: Report | None,
    attributes: dict[str, Any] | None = None,
    advice: dict[str, float] | None = None,
    *,
    edits: str | None = None,
) -> Message:
    """A message as it is folded; `at` 0 stands for the moment it is stored."""
    bot = None
    if report is not None:
        bot = BotReport(
            intent=report.intent,
            confidence=report.confidence,
            fallback=report.fallback,
            tool_error=report.tool_error,
            attempt=report.attempt,
        )
    return Message(
        id="" if isinstance(turn, EditedMessage) else turn.id,
        author="user" if isinstance(turn, EditedMessage) else turn.author,
        text=turn.text,
        at=seconds(turn.at) if turn.at is not None else 0.0,
        language=turn.language,
        bot=bot,
        attributes=tuple(sorted((attributes or {}).items())),
        event=turn.event if isinstance(turn, Turn) else None,
        agent=turn.agent if isinstance(turn, Turn) else None,
        format=turn.format,
        attachments=tuple((part.type, part.name) for part in turn.attachments),
        advice=tuple(sorted((advice or {}).items())),
        edits=edits,
    )


def seconds(moment: datetime) -> float:
    """Seconds since the epoch; a moment without a zone is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment(at: float | None) -> str | None:
    """ISO 8601, UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def timed(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON: every time in it as ISO 8601."""
    return {
        name: moment(value) if name == "at" or name.endswith("_at") else value
        for name, value in row.items()
    }


class HandoffOutcome(Acting):
    """Was the escalation needed, and since which message?"""

    verdict: Annotated[
        Literal["needed", "not_needed", "unknowable"],
        about("Whether a person was needed; unknowable teaches nothing.", "needed"),
    ]
    first_needed_message_id: Annotated[
        Id | None, about("The customer's message since which a person was needed.", "m-3")
    ] = None
    team: Annotated[ShortText | None, about("Whose work it was.", "billing")] = None
    reason: Annotated[
        ShortText | None, about("Why, in a few words.", "only a person may do this")
    ] = None
    note: Annotated[
        NoteText | None, about("Anything else worth keeping.", "asked for a refund twice")
    ] = None

    @model_validator(mode="after")
    def _since_only_if_needed(self) -> HandoffOutcome:
        if self.first_needed_message_id is not None and self.verdict != "needed":
            raise ValueError("first_needed_message_id goes only with verdict needed")
        return self

    def verdict_of(self, agent: str) -> Verdict:
        """The verdict as this agent gives it."""
        return Verdict(
            self.verdict,
            "agent",
            agent,
            self.first_needed_message_id,
            self.team,
            self.reason,
            self.note,
        )
