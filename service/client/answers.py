"""Typed responses of the API as frozen dataclasses; fields that a newer Baton adds are ignored."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
LOCAL = "local"
"""Metadata of a field that the client fills in itself."""

Action = Literal["continue", "offer", "escalate", "human_active"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which probability on a person is offered, and called."""

    offer: float
    escalate: float


@dataclass(frozen=True, slots=True)
class Trigger:
    """What spoke for a person."""

    kind: str
    name: str
    message_ids: list[str]


@dataclass(frozen=True, slots=True)
class DecisionReason:
    """Why, in words."""

    text: str
    weight: float
    code: str | None = None
    params: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class HandoffSummary:
    """The open handoff of a conversation, as its decisions name it."""

    id: str
    team: str
    priority: int
    raised: bool = False
    promised_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """Words that the bot may show, in the customer's language."""

    kind: Literal["crisis", "offer", "callback"]
    text: str
    promised_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the bot does now. `degraded`: Baton did not answer, and the client decided."""

    decision_id: str | None
    action: Action
    probability: float | None
    uncertainty: float | None
    thresholds: Thresholds | None
    triggers: list[Trigger]
    reasons: list[DecisionReason]
    handoff: HandoffSummary | None
    version: int | None
    position: int | None
    held_out: bool = False
    say: Words | None = None
    degraded: bool = field(default=False, metadata={LOCAL: True})


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a batch was refused."""

    code: str
    message: str
    field: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """A refused item of a batch, and the status that it alone would have had."""

    error: ItemError
    status: int


@dataclass(frozen=True, slots=True)
class OfferAnswered:
    """What follows from the customer's answer to an offer."""

    decision_id: str
    answer: Literal["accepted", "declined"]
    handoff: HandoffSummary | None


@dataclass(frozen=True, slots=True)
class LateAdvice:
    """Advice that came after its decision, as it counts from the next message on."""

    decision_id: str
    advice: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a conversation stands after turns were appended."""

    conversation_id: str
    appended: int
    length: int
    human_active: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """A conversation as it was closed."""

    conversation_id: str
    status: str
    resolution: str | None


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn as it is stored; `seq` is its place in the conversation."""

    seq: int
    id: str
    author: str
    text: str
    at: datetime
    event: str | None
    agent: str | None


@dataclass(frozen=True, slots=True)
class HandoffState:
    """A handoff, as it stands."""

    id: str
    conversation_id: str
    decision_id: str | None
    team: str
    priority: int
    status: str
    claimed_by: str | None
    opened_at: datetime
    opened_by: str
    promised_at: datetime | None
    ended_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ConversationState:
    """A conversation, and those of its turns that were asked for."""

    id: str
    length: int
    status: str
    resolution: str | None
    handoff_id: str | None
    human_active: bool
    messages: list[StoredTurn]
    handoffs: list[HandoffState]


@dataclass(frozen=True, slots=True)
class Reply:
    """An agent's message on its way to the customer."""

    handoff_id: str
    conversation_id: str
    message_id: str
    seq: int
    agent: str


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """An outcome on record."""

    id: str
    conversation_id: str
    handoff_id: str | None
    verdict: str
    source: str
    position: int
    effect: str | None = None


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def read(kind: type[T], value: Any) -> T:
    """A value of JSON as this type. Raises ValueError where it has another shape."""
    result: T = _read(kind, value)
    return result


def _read(kind: Any, value: Any) -> Any:
    if kind is Any:
        return value
    if isinstance(kind, types.UnionType):
        plain = [one for one in get_args(kind) if one is not type(None)]
        return None if value is None else _read(plain[0], value)
    origin = get_origin(kind)
    if origin is list:
        return [_read(get_args(kind)[0], one) for one in _of(list, value)]
    if origin is dict:
        return dict(_of(dict, value))
    if origin is Literal:
        return str(value)
    if kind is datetime:
        return datetime.fromisoformat(_of(str, value))
    if is_dataclass(kind):
        return _read_fields(kind, _of(dict, value))
    return float(value) if kind is float and isinstance(value, int) else _of(kind, value)


def _read_fields(kind: Any, body: Mapping[str, Any]) -> Any:
    values = {}
    for one in fields(kind):
        if one.name in body:
            values[one.name] = _read(_hints(kind)[one.name], body[one.name])
        elif one.default is MISSING:
            raise ValueError(f"{kind.__name__} without {one.name}")
    return kind(**values)


def _of(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value
