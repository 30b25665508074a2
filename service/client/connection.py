"""What both clients share: options, the connection's settings, and scoring with degradation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from . import operations
from .answers import Decision
from .degraded import HeldTurns, degraded_decision
from .errors import NotAnsweredError
from .operations import Operation
from .retries import RETRIED, RetryPolicy


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
