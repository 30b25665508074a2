"""Operations of the API: what each sends, and how its answer is read. No network is here."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlencode

from .answers import (
    Appended,
    Closed,
    ConversationState,
    Decision,
    HandoffState,
    LateAdvice,
    OfferAnswered,
    RecordedOutcome,
    RefusedItem,
    Reply,
    read,
)
from .errors import ConflictError, NotAnsweredError, RefusedError
from .retries import RETRIED

T = TypeVar("T")
Json = dict[str, Any]
HandoverReason = Literal["requested", "stuck", "policy", "risk", "other"]
Resolution = Literal["resolved", "abandoned", "unknown"]


class MessageFields(TypedDict, total=False):
    """What else a message may say of itself; `at` as ISO 8601."""

    author: Literal["user", "bot"]
    at: str
    language: str
    format: Literal["text", "html", "markdown", "email"]
    attachments: list[dict[str, str]]


class HandoffFields(TypedDict, total=False):
    """What else a bot may say when it hands over; `taken_by`: the person who has it already."""

    summary: str
    team: str
    priority: int
    taken_by: str


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One request, the same through all of its attempts."""

    method: str
    path: str
    body: Json | None
    parse: Callable[[Any], T]
    headers: dict[str, str] = field(default_factory=dict)

    def result(self, status: int, content: Any) -> T:
        """The answer. Raises RefusedError, ConflictError, NotAnsweredError."""
        request = f"{self.method} {self.path}"
        if 200 <= status < 300:
            try:
                return self.parse(content)
            except ValueError as mismatch:
                why = f"{request}: not an answer of Baton's ({mismatch}); is the address right?"
                raise NotAnsweredError(why) from mismatch
        error = content.get("error") if isinstance(content, dict) else None
        body = error if isinstance(error, dict) else {"message": str(content)[:200]}
        if status in RETRIED:
            raise NotAnsweredError(f"{request}: {status} {body.get('message', '')}")
        raise (ConflictError if status == 409 else RefusedError)(status, body, request)


def _typed(kind: type[T]) -> Callable[[Any], T]:
    return lambda content: read(kind, content)


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _given(**values: Any) -> Json:
    """What was given: neither None nor empty."""
    return {name: value for name, value in values.items() if value is not None and value != []}


def post(path: str, body: Json, kind: type[T]) -> Operation[T]:
    """A POST that may be sent again: its Idempotency-Key is the same in all attempts."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return Operation("POST", path, body, _typed(kind), headers)


def get(path: str, kind: type[T], **query: Any) -> Operation[T]:
    given = _given(**query)
    return Operation("GET", f"{path}?{urlencode(given)}" if given else path, None, _typed(kind))


def score(
    conversation: str,
    text: str,
    *,
    id: str | None,  # noqa: A002
    history: Sequence[Mapping[str, Any]],
    attributes: Mapping[str, Any] | None,
    bot: Mapping[str, Any] | None,
    advice: Mapping[str, float] | None,
    **message: Unpack[MessageFields],
) -> Operation[Decision]:
    """`POST /v1/score`; a message without an id gets one, which makes it safe to send again."""
    body = {
        "conversation_id": conversation,
        "message": {"id": id or str(uuid.uuid4()), "text": text} | dict(message),
    }
    body |= _given(history=list(history), bot=bot, attributes=dict(attributes or {}) or None)
    body |= _given(advice=dict(advice or {}) or None)
    return Operation("POST", "/v1/score", body, _typed(Decision))


def score_batch(items: Sequence[Mapping[str, Any]]) -> Operation[list[Decision | RefusedItem]]:
    """`POST /v1/score/batch`: each item as the body of `POST /v1/score`."""

    def parse(content: Any) -> list[Decision | RefusedItem]:
        if not isinstance(content, dict) or not isinstance(content.get("results"), list):
            raise ValueError("no results")
        return [
            read(RefusedItem, one) if "error" in one else read(Decision, one)
            for one in content["results"]
        ]

    body = {"items": [dict(item) for item in items]}
    return Operation("POST", "/v1/score/batch", body, parse)


def answer_offer(decision: str, accepted: bool) -> Operation[OfferAnswered]:
    return post(_path("decisions", decision, "answer"), {"accepted": accepted}, OfferAnswered)


def add_advice(decision: str, advice: Mapping[str, float]) -> Operation[LateAdvice]:
    return post(_path("decisions", decision, "advice"), {"advice": dict(advice)}, LateAdvice)


def add_messages(conversation: str, turns: Sequence[Mapping[str, Any]]) -> Operation[Appended]:
    body = {"messages": [dict(turn) for turn in turns]}
    return post(_path("conversations", conversation, "messages"), body, Appended)


def close(conversation: str, resolution: str) -> Operation[Closed]:
    return post(_path("conversations", conversation, "close"), {"resolution": resolution}, Closed)


def conversation_state(conversation: str, after: int) -> Operation[ConversationState]:
    path = _path("conversations", conversation)
    return get(path, ConversationState, after=after or None)


def report_outcome(
    conversation: str, verdict: str, source: str, since: str | None, note: str | None
) -> Operation[RecordedOutcome]:
    body = {"verdict": verdict, "source": source}
    body |= _given(first_needed_message_id=since, note=note)
    return post(_path("conversations", conversation, "outcome"), body, RecordedOutcome)


def hand_over(
    conversation: str, reason: str, **more: Unpack[HandoffFields]
) -> Operation[HandoffState]:
    body = {"conversation_id": conversation, "reason": reason} | dict(more)
    return post("/v1/handoffs", body, HandoffState)


def list_handoffs(status: str | None, team: str | None) -> Operation[list[HandoffState]]:
    def parse(content: Any) -> list[HandoffState]:
        if not isinstance(content, dict):
            raise ValueError("no handoffs")
        return [read(HandoffState, one) for one in content["handoffs"]]

    query = urlencode(_given(status=status, team=team))
    return Operation("GET", "/v1/handoffs" + (f"?{query}" if query else ""), None, parse)


def handoff_packet(handoff: str) -> Operation[Json]:
    """The context packet as it is: its parts are many, and for people to read."""
    return get(_path("handoffs", handoff), dict[str, Any])


def change_handoff(handoff: str, change: str, body: Json | None = None) -> Operation[HandoffState]:
    """claim, assign, return or resolve."""
    return post(_path("handoffs", handoff, change), body or {}, HandoffState)


def record_verdict(
    handoff: str, verdict: str, since: str | None, note: str | None, team: str | None
) -> Operation[RecordedOutcome]:
    body = {"verdict": verdict} | _given(first_needed_message_id=since, note=note, team=team)
    return post(_path("handoffs", handoff, "outcome"), body, RecordedOutcome)


def reply(handoff: str, text: str, id: str | None) -> Operation[Reply]:  # noqa: A002
    """The reply's id is its own natural key: whoever repeats it gets the same answer."""
    body = {"text": text, "id": id or str(uuid.uuid4())}
    return post(_path("handoffs", handoff, "reply"), body, Reply)
