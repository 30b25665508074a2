"""Contract of a connector: domain events that another system's events become, commands that Baton
sends out, and the pure functions between. Unknown fields and events are ignored, never an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from learning.conversation.state import BotReport

ID_CHARS_MAX = 60
"""A longer id of another system, or one with other than plain characters, is hashed."""

TEXT_CHARS_MAX = 20_000
CUT_MARK = " [cut]"

Author = Literal["user", "bot", "agent", "system"]


class NotVerifiedError(ValueError):
    """A request is not proven to come from the other system; the message says why."""


class NotUnderstoodError(ValueError):
    """A verified body is not of the shape that this kind sends."""


# What another system's event becomes.


@dataclass(frozen=True, slots=True)
class MessageAdded:
    """Somebody wrote. A private note is shown to people alone: it is no turn."""

    id: str
    author: Author
    text: str
    agent: str | None = None
    at: float | None = None
    language: str | None = None
    attachments: tuple[tuple[str, str | None], ...] = ()
    format: Literal["text", "html", "markdown", "email"] | None = None
    bot: BotReport | None = None


@dataclass(frozen=True, slots=True)
class AgentJoined:
    """A person has it: it was assigned to them, or opened for people."""

    agent: str | None
    how: Literal["assigned", "opened"]


@dataclass(frozen=True, slots=True)
class AgentLeft:
    """It was given back: to the bot, or to nobody in particular."""

    to: Literal["bot", "nobody"]


@dataclass(frozen=True, slots=True)
class ConversationEnded:
    by: Literal["agent", "bot", "customer", "clock", "unknown"]


@dataclass(frozen=True, slots=True)
class ConversationRated:
    """The customer's rating, from 1 to 5."""

    rating: int
    about: Literal["bot", "person", "unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class VerdictGiven:
    """What a person stated; `since` is a turn's number as the packet shows it."""

    verdict: Literal["needed", "not_needed", "unknowable"]
    how: str
    agent: str | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class MessageEdited:
    message: MessageAdded


@dataclass(frozen=True, slots=True)
class MessageRemoved:
    id: str


@dataclass(frozen=True, slots=True)
class DeliveryEchoed:
    """Our own call came back: it has had its effect."""

    delivery: str


DomainEvent = (
    MessageAdded
    | AgentJoined
    | AgentLeft
    | ConversationEnded
    | ConversationRated
    | VerdictGiven
    | MessageEdited
    | MessageRemoved
    | DeliveryEchoed
)

# What Baton sends out.


@dataclass(frozen=True, slots=True)
class HandOver:
    """A person is to have it. Without a packet only control, team and priority are moved."""

    cause: str
    team: str | None = None
    priority: int | None = None
    packet: Packet | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """An agent's words to the customer, or Baton's own (an offer)."""

    cause: str
    text: str
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class GiveBack:
    cause: str


Command = HandOver | Say | GiveBack


@dataclass(frozen=True, slots=True)
class Packet:
    """What an agent is told of a handoff."""

    conversation_id: str
    handoff_id: str
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the other system, below its base URL. `natural`: repeating changes nothing;
    `marked`: it carries our delivery id, which comes back; `once`: a customer would see it twice.
    """

    name: str
    path: str
    body: Any
    repeat: Literal["natural", "marked", "once"]
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"


# Between them.


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event that came: the key by which a repeat is known, its conversation as the other system
    calls it (or as Baton does: `is_own_id`), and when it happened.
    """

    key: str
    conversation: str
    event: Mapping[str, Any]
    occurred_at: float | None = None
    is_own_id: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """What a verified request holds, and what it is answered with."""

    arrivals: Sequence[Arrival] = ()
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """Domain events of an event, and what is known of the conversation after it."""

    events: Sequence[DomainEvent] = ()
    link: Mapping[str, Any] = field(default_factory=dict)


class KindConfig(BaseModel):
    """What of a connection's configuration is no secret. `says_words`: it says Baton's own words
    (an offer, a callback, in a crisis) to the customer, for no bot does.
    """

    model_config = ConfigDict(extra="forbid")
    base_url: str = ""
    idle_hours: float = 24.0
    says_words: bool = False


Headers = Mapping[str, str]
Verify = Callable[[Headers, bytes, Sequence[str], float, Any], Any]
Arrive = Callable[[Any, Any], Arrived]
Read = Callable[[Mapping[str, Any], Mapping[str, Any], Any], Reading]
Write = Callable[[Command, str, Mapping[str, Any], Any], Sequence[Call]]
Authorize = Callable[[Mapping[str, str], Any], Mapping[str, str]]
Respond = Callable[[Mapping[str, Any], Mapping[str, Any] | None], tuple[int, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of connector. `verify(headers, raw, secrets, now, config)` gives the verified body;
    `arrive(verified, config)` what it holds; `read(event, link, config)` domain events;
    `write(command, conversation, link, config)` calls. Messages that are read do not depend on the
    link. `inbound` names the secret that verifies, `outbound` those that calls need. Of the scope
    `workspace` are kinds that are told of every handoff, whatever connection it came by. `refusal`
    reads what an answer 200 refuses. `asks` tells an agent how to give a verdict there. A kind with
    `respond(event, decision)` is called at each turn and answered with the decision, so its events
    pass no inbox.
    """

    name: str
    config: type[KindConfig]
    verify: Verify
    arrive: Arrive
    read: Read
    write: Write
    authorize: Authorize
    inbound: str
    outbound: tuple[str, ...] = ()
    makes_secret: bool = False
    scope: Literal["conversation", "workspace"] = "conversation"
    refusal: Callable[[bytes], str | None] | None = None
    respond: Respond | None = None
    asks: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.inbound, *self.outbound)


def delivery_id(cause: str, call: str) -> str:
    """The id of a delivery: the same for the same cause and call, whoever makes it."""
    digest = hashlib.sha256(f"{cause}\0{call}".encode()).hexdigest()
    return "y" + digest[:24]


def safe_id(given: Any) -> str:
    """An id of another system as Baton takes it: as it is where it is short and plain."""
    text = str(given)
    if 0 < len(text) <= ID_CHARS_MAX and text.isascii() and text.isprintable() and " " not in text:
        return text if text not in (".", "..") else f"={text}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def kept_text(given: Any, attachments: Sequence[tuple[str, str | None]] = ()) -> str:
    """A text as Baton keeps it: without half characters and NUL, cut; what came with no text is
    named.
    """
    text = given if isinstance(given, str) else ""
    text = text.replace("\x00", "").encode("utf-8", "replace").decode()
    if not text.strip():
        return " ".join(f"[{kind}]" for kind, _ in attachments)
    if len(text) > TEXT_CHARS_MAX:
        return text[: TEXT_CHARS_MAX - len(CUT_MARK)] + CUT_MARK
    return text


def word(given: Any) -> str:
    """A text that names something, or an empty one where something else stands."""
    return given if isinstance(given, str) else ""


def mapping(given: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one where something else stands."""
    return given if isinstance(given, dict) else {}
