"""A scripted language model behind an OpenAI-compatible address."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from tests.far_sides.http_side import Answer, Behaviour, HttpSide

Turns = list[dict[str, str]]


def digits(**masses: float) -> dict[str, Any]:
    """A choice whose first token's probabilities are these: `digits(d9=.8, d1=.2)`."""
    top = [
        {"token": name.removeprefix("d"), "logprob": math.log(p), "bytes": None}
        for name, p in masses.items()
    ]
    first = {"token": top[0]["token"], "logprob": top[0]["logprob"], "top_logprobs": top}
    return _choice(first["token"]) | {"logprobs": {"content": [first], "refusal": None}}


def said(text: str) -> dict[str, Any]:
    """A choice without logprobs."""
    return _choice(text) | {"logprobs": None}


def _choice(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"index": 0, "message": message, "finish_reason": "stop"}


class LanguageModel(HttpSide):
    """Answers what `script` says of the transcript that it was shown."""

    def __init__(
        self, script: Callable[[Turns], dict[str, Any]], behaviour: Behaviour = lambda _: "ok"
    ) -> None:
        super().__init__(behaviour)
        self.script = script
        self.asked: list[Turns] = []
        self.bodies: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        assert (method, path) == ("POST", "/v1/chat/completions")
        assert headers["authorization"] == "Bearer sk-judge"
        asked = json.loads(body)
        assert asked["model"] == "Acme/Small-7B"
        assert [one["role"] for one in asked["messages"]] == ["system", "user"]
        turns = json.loads(asked["messages"][1]["content"])
        self.bodies.append(asked)
        self.asked.append(turns)
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "choices": [self.script(turns)],
        }
