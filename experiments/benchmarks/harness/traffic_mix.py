"""Traffic mixes for the load generator: endless conversations as HTTP requests in bytes.

A *player* is one connection: a generator that gives the next request's bytes and is handed the
body of the answer. Conversations have ten messages of about fifteen words, from the simulator's
texts; no id is ever used twice, so that each request is a decision of its own, made durable.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Generator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from experiments.simulation.world import episodes

Player = Generator[bytes, bytes, None]

TURNS = 10
WORDS = (13, 17)
CONVERSATIONS = 1_500
BATCH = 256


@cache
def texts(conversations: int = CONVERSATIONS) -> tuple[str, ...]:
    """Customers' messages of about fifteen words, in an order that repeats nothing nearby."""
    distinct = {
        message.text
        for episode in episodes(23, conversations)
        for message in episode.messages
        if message.author == "user" and WORDS[0] <= len(message.text.split()) <= WORDS[1]
    }
    shuffled = sorted(distinct)
    Random(23).shuffle(shuffled)
    return tuple(shuffled)


@cache
def _json_texts() -> tuple[bytes, ...]:
    return tuple(json.dumps(text).encode() for text in texts())


def head(path: str, key: str, length: int) -> bytes:
    """The head of a POST of so many bytes of JSON."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def post(path: str, key: str, body: bytes) -> bytes:
    """A whole request."""
    return head(path, key, len(body)) + body


class _Heads:
    """Heads by body length: there are few lengths, and rendering one costs more than the body."""

    def __init__(self, path: str, key: str) -> None:
        self._path, self._key = path, key
        self._known: dict[int, bytes] = {}

    def post(self, body: bytes) -> bytes:
        length = len(body)
        rendered_head = self._known.get(length)
        if rendered_head is None:
            rendered_head = self._known[length] = head(self._path, self._key, length)
        return rendered_head + body


def _items(name: str, number: int) -> Generator[bytes, None, None]:
    """Score requests' bodies, conversation after conversation."""
    messages = _json_texts()
    place = number * 7919
    for conversation in count(1):
        opening = f'{{"conversation_id":"{name}-{number}-{conversation}","message":'.encode()
        for turn in range(1, TURNS + 1):
            place += 1
            yield b'%s{"id":"u%d","text":%s}}' % (opening, turn, messages[place % len(messages)])


def score(settings: Mapping[str, Any], number: int) -> Player:
    """One message a request, to `/v1/score`."""
    heads = _Heads(settings.get("path", "/v1/score"), settings["key"])
    for body in _items(settings["name"], number):
        yield heads.post(body)


def _decision_line(body: bytes, answer: bytes) -> bytes:
    """Conversation, message and decision of a score request that was answered well, or nothing."""
    if (place := answer.find(b'"decision_id":"')) < 0:
        return b""
    fields = body.split(b'"', 11)
    return b" ".join((fields[3], fields[9], answer[place + 15 :].split(b'"', 1)[0])) + b"\n"


def witness(settings: Mapping[str, Any], number: int) -> Player:
    """`score`, and every acknowledged decision's id written down, in `file` and the number.

    One line each: conversation, message, decision. Only a good answer is written.
    """
    heads = _Heads("/v1/score", settings["key"])
    decisions: list[bytes] = []
    try:
        for body in _items(settings["name"], number):
            answer = yield heads.post(body)
            decisions.append(_decision_line(body, answer))
    finally:
        Path(f"{settings['file']}.{number}").write_bytes(b"".join(decisions))


def score_and_judge(settings: Mapping[str, Any], number: int) -> Player:
    """Conversations of ten scored messages, and then the truth about each: eleven requests."""
    heads, labels = _Heads("/v1/score", settings["key"]), []
    for turn, body in enumerate(_items(settings["name"], number)):
        yield heads.post(body)
        conversation = body.split(b'"', 4)[3].decode()
        place = turn % TURNS + 1
        labels.append({"message_id": f"u{place}", "label": float(place > TURNS // 2)})
        if place == TURNS:
            path = f"/v1/conversations/{conversation}/outcome"
            yield post(path, settings["key"], json.dumps({"labels": labels}).encode())
            labels = []


def score_and_close(settings: Mapping[str, Any], number: int) -> Player:
    """Conversations of ten scored messages; those that no person was called to are closed.

    With `file` among the settings every acknowledged decision is written down, as by `witness`.
    """
    heads, called = _Heads("/v1/score", settings["key"]), False
    decisions: list[bytes] = []
    try:
        for turn, body in enumerate(_items(settings["name"], number), 1):
            answer = yield heads.post(body)
            called = called or b'"action":"escalate"' in answer
            if "file" in settings:
                decisions.append(_decision_line(body, answer))
            if turn % TURNS == 0:
                if not called:
                    conversation = body.split(b'"', 4)[3].decode()
                    path = f"/v1/conversations/{conversation}/close"
                    yield post(path, settings["key"], b'{"resolution":"resolved"}')
                called = False
    finally:
        if "file" in settings:
            Path(f"{settings['file']}.{number}").write_bytes(b"".join(decisions))


def batch(settings: Mapping[str, Any], number: int) -> Player:
    """256 messages a request, each of another conversation, to `/v1/score/batch`."""
    size = int(settings.get("items", BATCH))
    for round_ in count(1):
        name = f"{settings['name']}-{number}-{round_}"
        playing = [_items(name, item) for item in range(size)]
        for _ in range(TURNS):
            items = b",".join(next(one) for one in playing)
            yield post("/v1/score/batch", settings["key"], b'{"items":[%s]}' % items)


def mlflow(settings: Mapping[str, Any], number: int) -> Player:
    """One message a request, to `/invocations` of a served MLflow model."""
    heads = _Heads("/invocations", settings["key"])
    messages = texts()
    for place in count(number * 7919):
        message = {"id": f"u{place}", "author": "user", "text": messages[place % len(messages)]}
        rows = {"columns": ["messages"], "data": [[json.dumps([message])]]}
        yield heads.post(json.dumps({"dataframe_split": rows}).encode())


def chantilly(settings: Mapping[str, Any], number: int) -> Player:
    """One message a request, to chantilly's `/api/predict`, with an id so that it is kept."""
    heads = _Heads("/api/predict", settings["key"])
    messages = _json_texts()
    for place in count(number * 7919):
        identity = f"{settings['name']}-{number}-{place}".encode()
        yield heads.post(b'{"id":"%s","features":%s}' % (identity, messages[place % len(messages)]))


def connect(settings: Mapping[str, Any], number: int) -> Player:
    """One signed event a request, each a message of a customer's, to a connection."""
    messages, secret = _json_texts(), settings["secret"].encode()
    head = f"POST {settings['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
    for place in count(number * 7919):
        conversation, turn = divmod(place - number * 7919, TURNS)
        name = f"{settings['name']}-{number}-{conversation}"
        text = messages[place % len(messages)]
        body = b'{"conversation":"%s","key":"%s-%d","id":"u%d","text":%s}' % (
            *(name.encode(), name.encode(), turn, turn, text),
        )
        digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
        signed = f"{head}\r\nX-Signature: {digest}\r\nContent-Length: {len(body)}\r\n\r\n"
        yield signed.encode() + body


PLAYERS: Mapping[str, Callable[[Mapping[str, Any], int], Player]] = {
    "score": score,
    "witness": witness,
    "judged": score_and_judge,
    "ended": score_and_close,
    "batch": batch,
    "mlflow": mlflow,
    "chantilly": chantilly,
    "connect": connect,
}
