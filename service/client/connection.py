"""What both clients share: options, the connection, and degradation while Baton does not answer."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from . import operations
from .answers import Decision, DecisionReason, Trigger
from .errors import NotAnsweredError
from .operations import Operation
from .retries import RETRIED, RetryPolicy

CONVERSATIONS_MAX = 1000
TURNS_MAX = 200
"""As many as one request may carry; of more, the newest are kept."""

_PERSON = (
    r"humans?|person|people|agents?|representative|operator|someone|somebody|advisor|manager"
    r"|mensch(?:en)?|mitarbeiter(?:in)?|berater(?:in)?|jemand(?:en|em)?"
    r"|humain|personne|conseiller|conseill[eè]re|quelqu.un|humano|persona|agente|alguien"
    r"|operatore|umano|qualcuno|pessoa|atendente|algu[eé]m|mens|medewerker|iemand"
)
_SPEAK = (
    r"talk|speak|chat|connect|transfer|put me through|reden|sprechen|verbinden"
    r"|parler|discuter|hablar|parlare|falar|spreken|praten"
)
_REQUEST = re.compile(
    rf"\b(?:{_SPEAK})\b[^.!?\n]{{0,30}}\b(?:{_PERSON})\b"
    rf"|\b(?:{_PERSON})\b[^.!?\n]{{0,20}}\b(?:{_SPEAK})\b"
    rf"|^\W*(?:(?:a|an|real|live|human)\s+)*(?:{_PERSON})(?:\s+please|\s+bitte)?\W*$",
    re.IGNORECASE,
)
"""Only what is plain in a few languages: Baton itself reads far more."""


def asks_for_a_person(text: str) -> bool:
    """Whether a text plainly asks for a person."""
    return _REQUEST.search(text[:2000]) is not None


def degraded_decision(text: str, message_id: str, author: str) -> Decision:
    """The decision of a client whose Baton does not answer."""
    asks = author == "user" and asks_for_a_person(text)
    triggers = [Trigger("request", "request", [message_id])] if asks else []
    why = "Baton did not answer" + ("; the customer asked for a person" if asks else "")
    return Decision(
        decision_id=None,
        action="escalate" if asks else "continue",
        probability=None,
        uncertainty=None,
        thresholds=None,
        triggers=triggers,
        reasons=[DecisionReason(why, 1.0, "not_answered")],
        handoff=None,
        version=None,
        position=None,
        degraded=True,
    )


class HeldTurns:
    """Bounded buffer of the turns that Baton has yet to hear, by conversation (LRU)."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, list[Mapping[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def before(self, conversation: str, history: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The turns held, then those of `history`; each id once, at most TURNS_MAX."""
        with self._lock:
            turns = {turn["id"]: turn for turn in self._turns.get(conversation, ())}
        turns |= {turn["id"]: turn for turn in history}
        return list(turns.values())[-TURNS_MAX:]

    def hold(self, conversation: str, turns: Sequence[Mapping[str, Any]]) -> None:
        """Hold all turns that Baton has yet to hear, in their order."""
        with self._lock:
            self._turns[conversation] = list(turns)[-TURNS_MAX:]
            self._turns.move_to_end(conversation)
            while len(self._turns) > CONVERSATIONS_MAX:
                self._turns.popitem(last=False)

    def release(self, conversation: str) -> None:
        """Baton has heard them."""
        with self._lock:
            self._turns.pop(conversation, None)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """`on_error="continue"`: where Baton does not answer, `score` answers `continue` (a plain
    request for a person `escalate`), marked `degraded`, and sends the message with the next one.
    """

    on_error: Literal["raise", "continue"] = "raise"
    retries: RetryPolicy = field(default_factory=RetryPolicy)


def options_of(url: str, key: str) -> dict[str, Any]:
    """Settings of the HTTP client; proxies named by the environment are not used."""
    return {
        "base_url": url.rstrip("/"),
        "headers": {"Authorization": f"Bearer {key}", "User-Agent": "baton-client"},
        "trust_env": False,
    }


def content_of(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def stream_refusal(response: httpx.Response) -> None:
    """Raise what the event stream refused for good; what may be asked again passes."""
    if response.status_code not in RETRIED:
        Operation("GET", "/v1/events", None, str).result(response.status_code, content_of(response))


class Score:
    """Scoring as both clients do it; one for a client."""

    def __init__(self, options: ClientOptions) -> None:
        self._degrades = options.on_error == "continue"
        self._held = HeldTurns()

    def operation(self, conversation: str, text: str, **more: Any) -> Operation[Decision]:
        more["history"] = self._held.before(conversation, more["history"])
        return operations.score(conversation, text, **more)

    def without_answer(self, asked: Operation[Decision], error: NotAnsweredError) -> Decision:
        """The degraded decision; where none is wanted the error is raised."""
        if not self._degrades:
            raise error
        body = asked.body or {}
        message = body["message"]
        author = message.get("author", "user")
        turn = message | {"author": author} | ({"bot": body["bot"]} if "bot" in body else {})
        self._held.hold(body["conversation_id"], [*body.get("history", []), turn])
        return degraded_decision(message["text"], message["id"], author)

    def done(self, asked: Operation[Decision]) -> None:
        self._held.release((asked.body or {})["conversation_id"])
