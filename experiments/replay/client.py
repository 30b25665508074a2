"""HTTP client of a running Baton with retries; repeated requests are idempotent.

Every request that is sent twice has one effect, so whatever was not answered
is simply sent again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from learning.conversation.state import Message

PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS_MAX = 2.0
_BUSY = (429, 503)


class RefusedError(RuntimeError):
    """Baton answered that the request is wrong; the message says what and how to mend it."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnreachableError(ConnectionError):
    """Baton did not answer for as long as the caller was patient."""


class BatonClient:
    """Speaks JSON with one Baton under one key. A context manager; closing it hangs up."""

    def __init__(self, url: str, key: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.url = url.rstrip("/")
        self.patience_seconds = patience_seconds
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=30.0,
            limits=httpx.Limits(max_connections=1),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON answer to a GET. RefusedError, UnreachableError."""
        return self._request("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer to a POST, sent again until it is answered. RefusedError, ..."""
        return self._request("POST", path, body)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer to a PUT, sent again until it is answered. RefusedError, ..."""
        return self._request("PUT", path, body)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        give_up = time.monotonic() + self.patience_seconds
        pause = 0.05
        while True:
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                if time.monotonic() + pause > give_up:
                    raise UnreachableError(
                        f"{self.url} did not answer {method} {path} for {self.patience_seconds:g} "
                        f"seconds ({error}); is `baton up` running there?"
                    ) from error
            else:
                if answer.status_code not in _BUSY or time.monotonic() + pause > give_up:
                    return _read(answer, f"{method} {path}")
                pause = max(pause, _retry_after(answer))
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)


def _retry_after(answer: httpx.Response) -> float:
    header = answer.headers.get("Retry-After", "")
    return min(float(header), _PAUSE_SECONDS_MAX) if header.isdigit() else 0.0


def _read(answer: httpx.Response, request: str) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if answer.is_success and isinstance(body, dict):
        return body
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else {}
    code, message = str(error.get("code", "")), error.get("message", answer.text[:200])
    hint = f"; {error['hint']}" if error.get("hint") else ""
    raise RefusedError(
        answer.status_code, f"{request}: {answer.status_code} {code}: {message}{hint}", code
    )


def turn_json(message: Message) -> dict[str, Any]:
    """A turn as the API takes it: id, author, text, and what the bot reported of its own work."""
    turn: dict[str, Any] = {"id": message.id, "author": message.author, "text": message.text}
    if message.bot is not None:
        turn["bot"] = {k: v for k, v in asdict(message.bot).items() if v is not None}
    return turn


def score_request(conversation_id: str, turns: Sequence[Message]) -> dict[str, Any]:
    """The body of `POST /v1/score` for the newest turn; those before it are its history."""
    *history, message = turns
    return {
        "conversation_id": conversation_id,
        "message": {"id": message.id, "text": message.text, "language": message.language},
        "bot": turn_json(message).get("bot"),
        "history": [turn_json(turn) for turn in history],
    }


def path_of(*parts: str) -> str:
    """A path under /v1 from its parts, each made safe."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)
