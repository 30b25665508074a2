"""Attack traffic: request flood, oversized bodies and headers, wrong API keys, forged labels.

Each attack is an endless iterator of requests with the answers that are right for it, at a bounded
rate, so that the client's own processor time stays small beside the server's. Slow clients, which
are no requests but connections, stand in `attack_process`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, cycle, repeat
from typing import Any, Protocol

from experiments.benchmarks.harness.traffic_mix import PLAYERS, head, post, texts

Request = tuple[bytes, frozenset[int]]
"""Bytes to send, and the statuses that are right for them; 200 stands for every 2xx."""

TEXT_CHARS, TEXTS_CHARS, BATCH_CHARS = 20_000, 128_000, 512_000
"""Limits of one text, of all texts of a request, and of those of a batch."""

BODY_BYTES, BATCH_BYTES, HEAD_BYTES, VALUES = 2**20, 4 * 2**20, 64 * 2**10, 250_000
"""Limits of a body, a batch's body, a request's head, and of the values in a body."""

BATCH_ITEMS = 256

TAKEN = frozenset({200})
TOO_LARGE = frozenset({413})
UNREADABLE = frozenset({400, 422})
UNKNOWN_KEY = frozenset({401})


class Rates(Protocol):
    """Requests a second of the attacks whose strength can be chosen."""

    @property
    def flood_per_second(self) -> float: ...
    @property
    def giants_per_second(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Attack:
    """Requests at a rate over some connections: `burst` at a time, `per_second` on average."""

    name: str
    requests: Iterator[Request]
    connections: int
    per_second: float
    burst: int = 1


def attacks(key: str, victim: str, rates: Rates) -> tuple[Attack, ...]:
    """All attacks by a bot's key of another workspace; `victim` is a conversation of normal load.

    Together they are some hundred requests and some MiB a second. Those that wait for an answer
    are few, so that a slow server is sent less.
    """
    return (
        Attack("flood", flood(key), 8, rates.flood_per_second),
        Attack("giants", giants(key), 2, rates.giants_per_second),
        Attack("headers", huge_headers(key), 1, 1.0),
        Attack("wrong keys", wrong_keys(), 4, 20.0),
        Attack("forged outcomes", forged_outcomes(key, victim), 1, 20.0, burst=100),
    )


def flood(key: str) -> Iterator[Request]:
    """Score requests of another workspace's bot."""
    return zip(PLAYERS["score"]({"key": key, "name": "flood"}, 0), repeat(TAKEN))


def giants(key: str) -> Iterator[Request]:
    """Requests at the limits of size, which are served, and beyond them, which are refused.

    Their bodies are made at once, so that nothing of that falls into the time of the attack.
    """
    kinds = (*_at_the_limits(), *_beyond_the_limits())
    return (
        (post(path, key, body.replace(b"CONVERSATION", b"giant-%d" % number)), right)
        for number, (path, body, right) in zip(count(), cycle(kinds))
    )


def huge_headers(key: str) -> Iterator[Request]:
    """Requests whose head is longer than a head may be."""
    padding = "".join(f"X-Padding-{n}: {'p' * 1000}\r\n" for n in range(HEAD_BYTES // 1000 + 8))
    whole = head("/v1/score", key, 2).decode()[: -len("\r\n")] + padding + "\r\n{}"
    return repeat((whole.encode(), frozenset({431})))


def wrong_keys() -> Iterator[Request]:
    """Requests with a key of nobody, or with none; every tenth with as large a body as may be."""
    large = b'{"conversation_id":"%s"}' % (b"x" * (BODY_BYTES - 100))
    small = json.dumps(_score(texts()[0])).encode()
    for number in count():
        request = post("/v1/score", f"bt_{number:040x}", large if number % 10 == 0 else small)
        if number % 2:
            lines = request.split(b"\r\n")
            request = b"\r\n".join(line for line in lines if b"Authorization" not in line)
        yield request, UNKNOWN_KEY


def forged_outcomes(key: str, victim: str) -> Iterator[Request]:
    """Conversations that a bot says were missed, as itself and as others, its own and others'."""
    refused = frozenset({403, 404})
    for number in count(1):
        name = f"forged-{number}"
        score = _score(texts()[number % len(texts())]) | {"conversation_id": name}
        yield post("/v1/score", key, json.dumps(score).encode()), TAKEN
        missed = {"verdict": "missed"}
        yield _outcome(name, key, missed), frozenset({200, 409})
        yield _outcome(name, key, missed | {"source": "agent"}), refused
        labels = [{"message_id": "u1", "label": 1.0, "weight": 100}]
        yield _outcome(name, key, {"labels": labels}), refused
        yield _outcome(victim, key, missed), refused


def _outcome(conversation: str, key: str, body: Mapping[str, Any]) -> bytes:
    path = f"/v1/conversations/{conversation}/outcome"
    return post(path, key, json.dumps(body).encode())


def _score(text: str) -> dict[str, Any]:
    return {"conversation_id": "CONVERSATION", "message": {"id": "u1", "text": text}}


def _long_text(chars: int, start: int = 0) -> str:
    """Customers' words, one message after another, cut at so many characters."""
    pieces: list[str] = []
    length = 0
    for text in cycle(texts()[start:] + texts()[:start]):
        if length >= chars:
            return " ".join(pieces)[:chars]
        pieces.append(text)
        length += len(text) + 1
    raise AssertionError("a cycle ends never")


def _history(texts_of_turns: list[str]) -> dict[str, Any]:
    """A score request of the last text, with those before it as its history."""
    *before, last = texts_of_turns
    history = [
        {"id": f"h{place}", "author": "user" if place % 2 else "bot", "text": text}
        for place, text in enumerate(before)
    ]
    return _score(last) | {"history": history}


def _batch(size: int, chars: int) -> bytes:
    """A batch of so many conversations of one message of so many characters."""
    items = []
    for place in range(size):
        item = _score(_long_text(chars, 7 * place % len(texts())))
        items.append(item | {"conversation_id": f"CONVERSATION-{place}"})
    return json.dumps({"items": items}).encode()


def _at_the_limits() -> Iterator[tuple[str, bytes, frozenset[int]]]:
    """Path, body and right answer of requests as large as they may be."""
    rest = TEXTS_CHARS % TEXT_CHARS
    whole = TEXTS_CHARS // TEXT_CHARS
    words = [_long_text(TEXT_CHARS, 50 * n) for n in range(whole)] + [_long_text(rest)]
    for turns in (
        words,
        ["a" * TEXT_CHARS] * whole,
        ["\u8a9e" * TEXT_CHARS] * whole,
        ["1 " * (TEXT_CHARS // 2)] * whole,
        [_long_text(TEXTS_CHARS // 201, 10 * n) for n in range(201)],
    ):
        yield "/v1/score", json.dumps(_history(turns)).encode(), TAKEN
    yield "/v1/score/batch", _batch(BATCH_CHARS // TEXT_CHARS, TEXT_CHARS), TAKEN
    yield "/v1/score/batch", _batch(BATCH_ITEMS, BATCH_CHARS // BATCH_ITEMS), TAKEN


def _beyond_the_limits() -> Iterator[tuple[str, bytes, frozenset[int]]]:
    """Path, body and right answer of requests larger, deeper or of more values than may be."""
    yield "/v1/score", json.dumps(_history(["a" * TEXT_CHARS] * 7)).encode(), UNREADABLE
    yield "/v1/score", json.dumps(_score("a" * (BODY_BYTES + 1))).encode(), TOO_LARGE
    yield "/v1/score/batch", json.dumps(_score("a" * (BATCH_BYTES + 1))).encode(), TOO_LARGE
    depth = VALUES // 2
    yield "/v1/score", b"[" * depth + b"]" * depth, UNREADABLE
    yield "/v1/score", b'{"message":' * 50_000 + b"1" + b"}" * 50_000, UNREADABLE
    yield "/v1/score", b"[" + b"1," * VALUES + b"1]", TOO_LARGE
    yield "/v1/score", b'{"conversation_id":"\xff\xfe","message":\x00}', UNREADABLE
