"""The client's test double decides as told, speaks as the API does, and webhooks are verified."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from service.client import ClientOptions, ConflictError, RefusedError, RetryPolicy
from service.client.testing import FakeBaton
from service.client.webhooks import NotVerifiedError, verify

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
BODY = json.dumps(
    {"type": "handoff.opened", "timestamp": "2026-11-28T09:30:00+00:00", "data": {"id": "h1"}}
).encode()


def test_the_double_decides_as_told_and_a_request_escalates() -> None:
    fake = FakeBaton()
    fake.decide("where is my refund", "offer")
    bot = fake.client()
    assert bot.score("c", "hello").action == "continue"
    offered = bot.score("c", "where is my refund")
    assert offered.action == "offer"
    assert offered.decision_id is not None
    answered = bot.answer_offer(offered.decision_id, True)
    assert answered.handoff is not None
    assert bot.score("c", "are you there").action == "human_active"
    fake.claim(answered.handoff.id, "Ana")
    fake.reply(answered.handoff.id, "I look into it", "Ana")
    fake.give_back(answered.handoff.id)
    assert bot.score("c", "thanks").action == "continue"
    assert bot.score("c", "I want to talk to a human").action == "escalate"
    assert ("agent", "I look into it") in fake.transcript("c")
    kinds = [event["type"] for event in fake.events]
    assert kinds[:4] == ["handoff.opened", "handoff.claimed", "message.agent", "handoff.returned"]


def test_the_double_is_idempotent_and_refuses_as_the_api_does() -> None:
    fake = FakeBaton()
    bot = fake.client()
    first = bot.score("c", "I want to talk to a human", id="m1")
    assert bot.score("c", "I want to talk to a human", id="m1") == first
    with pytest.raises(ConflictError):
        bot.score("c", "hello", id="m1")
    with pytest.raises(RefusedError):
        bot.conversation("nowhere")
    with pytest.raises(RefusedError):
        bot.handoffs()
    assert bot.hand_over("c", "stuck").id == (first.handoff and first.handoff.id)
    assert bot.close("c", "resolved").resolution == "resolved"


def test_the_double_fails_as_told_and_remembers_what_came() -> None:
    fake = FakeBaton()
    fake.fail(503, 503)
    options = ClientOptions(on_error="continue", retries=RetryPolicy(retries=0))
    bot = fake.client(options)
    assert [bot.score("c", text).degraded for text in ("a", "b", "c")] == [True, True, False]
    assert [body["message"]["text"] for _, _, body in fake.requests] == ["a", "b", "c"]
    assert fake.transcript("c") == [("user", "a"), ("user", "b"), ("user", "c")]


def test_events_of_the_double_are_read_as_a_bot_reads_them() -> None:
    fake = FakeBaton()
    bot = fake.client()
    called = bot.score("c", "I want to talk to a human")
    assert called.handoff is not None
    fake.reply(called.handoff.id, "hello, this is Ana")
    events = bot.events()
    assert [next(events).type, next(events).data["text"]] == [
        "handoff.opened",
        "hello, this is Ana",
    ]


def headers(body: bytes = BODY, at: int = 1000, *secrets: str) -> dict[str, str]:
    signed = f"msg_1.{at}.".encode() + body
    signatures = []
    for secret in secrets or (SECRET,):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        signatures.append("v1," + base64.b64encode(digest).decode())
    return {
        "Webhook-Id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }


def test_a_webhook_is_believed_by_its_signature() -> None:
    event = verify(BODY, headers(), SECRET, now=1000)
    assert (event.id, event.type, event.data) == ("msg_1", "handoff.opened", {"id": "h1"})
    assert event.timestamp.year == 2026


def test_while_a_secret_changes_either_is_enough() -> None:
    both = headers(BODY, 1000, OTHER, SECRET)
    assert verify(BODY, both, SECRET, now=1000).id == "msg_1"
    assert verify(BODY, headers(BODY, 1000, OTHER), [SECRET, OTHER], now=1000).id == "msg_1"


@pytest.mark.parametrize(
    "body,sent,secret,now",
    [
        (BODY + b" ", headers(), SECRET, 1000),
        (BODY, headers(), OTHER, 1000),
        (BODY, headers(), SECRET, 1301),
        (BODY, headers(), SECRET, 699),
        (BODY, {}, SECRET, 1000),
        (BODY, headers() | {"webhook-timestamp": "soon"}, SECRET, 1000),
        (BODY, headers() | {"Webhook-Id": "msg_2"}, SECRET, 1000),
        (BODY, headers() | {"webhook-signature": ""}, SECRET, 1000),
        (BODY, headers() | {"webhook-signature": "v1,é"}, SECRET, 1000),
        (b"[]", headers(b"[]"), SECRET, 1000),
        (b"{", headers(b"{"), SECRET, 1000),
    ],
)
def test_any_other_webhook_is_refused(
    body: bytes, sent: dict[str, Any], secret: str, now: float
) -> None:
    with pytest.raises(NotVerifiedError):
        verify(body, sent, secret, now=now)


def test_a_secret_that_is_none_is_said_to_the_developer() -> None:
    with pytest.raises(ValueError, match="whsec_"):
        verify(BODY, headers(), "not base64!", now=1000)
