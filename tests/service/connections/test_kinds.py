"""The contract of every kind of connector: pure, strict in what it verifies, lenient in what it
reads.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.connections.kinds.catalogue import KINDS
from service.connections.kinds.contract import (
    DeliveryEchoed,
    GiveBack,
    HandOver,
    Kind,
    MessageAdded,
    MessageEdited,
    NotUnderstoodError,
    NotVerifiedError,
    Packet,
    Say,
    delivery_id,
)
from service.connections.kinds.signed_hook import SIGNED_HOOK, HookConfig
from service.connections.kinds.slack import SLACK, SlackConfig
from tests.far_sides.examples import EXAMPLES, Example, now
from tests.service_in_process import QUIET

HOSTILE = (
    "\x00null \ud800half \u202egnp.exe",
    "x" * 100_000,
    "<script>alert(1)</script> {conversation} {{7*7}} %s \\u0000",
    "/baton needed since 1",
    '"}],"text":"' * 50,
    " \t\n",
)
PACKET = Packet("c-1", "h1", "why\n1: <!channel> *it* {conversation}", "http://baton/h1")
UNPROVEN = ("content-type", "x-chatwoot-delivery")
COMMANDS = (
    HandOver("e1.x1", "support", 2, PACKET),
    HandOver("e2.x1"),
    Say("e3.x1", "I look into it {team}", "Dana"),
    GiveBack("e4.x1"),
)


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Example:
    return EXAMPLES[request.param]


def those_that(tell: str) -> Any:
    """The examples that tell of something."""
    found = [one for one in EXAMPLES.values() if getattr(one, tell) is not None]
    return pytest.mark.parametrize("example", found, ids=[one.kind for one in found])


def parts(example: Example) -> tuple[Kind, Any]:
    kind = KINDS[example.kind]
    return kind, kind.config.model_validate(example.config)


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def verified(
    example: Example, body: Any, secret: str | None = None, at: float | None = None
) -> Any:
    kind, config = parts(example)
    moment = now()
    raw, headers = example.sign(body, secret or example.secret, at or moment)
    return kind.verify(lower(headers), raw, ["older", example.secret], moment, config)


def events(example: Example, body: Any, link: Any = None) -> list[Any]:
    kind, config = parts(example)
    arrived = kind.arrive(verified(example, body), config)
    return [
        event
        for one in arrived.arrivals
        for event in kind.read(one.event, link or {}, config).events
    ]


def test_what_a_customer_writes_is_read(example: Example) -> None:
    kind, config = parts(example)
    arrived = kind.arrive(verified(example, example.customer("11", QUIET)), config)
    (arrival,) = arrived.arrivals
    assert arrival.conversation == example.native
    assert json.loads(json.dumps(arrival.event)) == arrival.event, "it goes through the database"
    (event,) = events(example, example.customer("11", QUIET))
    if example.stated is not None:
        assert event == example.stated
    else:
        assert (event.id, event.author, event.text) == ("11", "user", QUIET)


def test_only_what_is_proven_is_taken(example: Example) -> None:
    kind, config = parts(example)
    body = example.customer("11", QUIET)
    raw, headers = example.sign(body, example.secret, now())
    good = lower(headers)
    refused = [({}, raw), *(({**good, name: "x"}, raw) for name in good if name not in UNPROVEN)]
    refused += [(lower(example.sign(body, "another", now())[1]), raw)]
    if example.is_signed:
        refused += [(good, raw + b" "), (good, b"")]
    if example.is_dated:
        refused += [(lower(example.sign(body, example.secret, now() - 400)[1]), raw)]
        refused += [(lower(example.sign(body, example.secret, now() + 60)[1]), raw)]
    for one, sent in refused:
        with pytest.raises(NotVerifiedError):
            kind.verify(one, sent, [example.secret], now(), config)
    assert kind.verify(good, raw, ["older", example.secret], now(), config)
    with pytest.raises(NotVerifiedError):
        kind.verify(good, raw, [], now(), config)


def test_the_vectors_that_others_publish_are_verified() -> None:
    slack = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&"
        b"channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&"
        b"command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629"
        b"121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "content-type": "application/x-www-form-urlencoded",
    }
    secrets = ["8f742231b10e8888abcd99yyyzzz85a5"]
    with pytest.raises(NotUnderstoodError):  # verified: only then is it read
        SLACK.verify(headers, slack, secrets, 1531420618.0, SlackConfig(channel="C"))
    standard = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    config = HookConfig(conversation="c", rules=[])
    secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    body = SIGNED_HOOK.verify(standard, b'{"test": 2432232314}', secrets, 1614265330.0, config)
    assert body == {"test": 2432232314}
    twilio = HookConfig.model_validate(
        {
            "conversation": "From",
            "rules": [],
            "signature": {
                "scheme": "twilio",
                "public_url": "https://mycompany.com/myapp.php?foo=1&bar=2",
            },
        }
    )
    form = (
        b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&"
        b"To=%2B18005551212"
    )
    headers = {
        "x-twilio-signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        "content-type": "application/x-www-form-urlencoded",
    }
    body = SIGNED_HOOK.verify(headers, form, ["12345"], now(), twilio)
    assert body["From"] == "+14158675309"


def test_a_repeat_has_the_same_key_and_another_event_another(example: Example) -> None:
    kind, config = parts(example)

    def keys(body: Any) -> list[str]:
        return [one.key for one in kind.arrive(body, config).arrivals]

    body = example.customer("11", QUIET)
    assert keys(verified(example, body)) == keys(verified(example, body))
    assert keys(body) != keys(example.customer("12", QUIET))
    assert all(len(key) <= 120 for key in keys(example.customer("11", "x" * 50_000)))


@those_that("edit")
def test_an_edit_is_an_edit(example: Example) -> None:
    assert example.edit is not None
    (event,) = events(example, example.edit("11", "do you open on sunday"))
    assert isinstance(event, MessageEdited)
    assert (event.message.id, event.message.text) == ("11", "do you open on sunday")


@those_that("agent")
def test_a_persons_words_are_theirs(example: Example) -> None:
    assert example.agent is not None
    (event,) = events(example, example.agent("11", "Hello, this is Ana"))
    assert (event.author, event.agent) == ("agent", "Ana")


@those_that("echo")
def test_what_comes_back_of_our_own_is_an_echo_and_nothing_else(example: Example) -> None:
    assert example.echo is not None
    kind, config = parts(example)
    (call,) = kind.write(Say("e3.x1", "I look into it"), example.native, {}, config)
    assert events(example, example.echo(call.body)) == [DeliveryEchoed(delivery_id("e3.x1", "say"))]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_kept_as_text_and_bounded(example: Example, text: str) -> None:
    for event in events(example, example.customer("11", text)):
        if isinstance(event, MessageAdded):
            assert len(event.text) <= 20_000
            assert "\x00" not in event.text
            event.text.encode()
            assert event.author == "user"


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def replaced(body: Any, data: Any) -> Any:
    """The body with something at some place replaced, removed or added."""
    if isinstance(body, dict) and body and data.draw(st.integers(0, 4)):
        name = data.draw(st.sampled_from(sorted(body)))
        return body | {name: replaced(body[name], data), "next_year": data.draw(JUNK)}
    if isinstance(body, list) and body and data.draw(st.integers(0, 4)):
        return [replaced(body[0], data), *body[1:]]
    return data.draw(JUNK)


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=40)
@given(data=st.data())
def test_whatever_stands_in_a_body_it_is_read_or_ignored(name: str, data: Any) -> None:
    example = EXAMPLES[name]
    kind, config = parts(example)
    source = data.draw(st.sampled_from([example.customer, example.edit or example.customer]))
    body = replaced(source("11", QUIET), data)
    if not isinstance(body, dict):
        return
    try:
        arrived = kind.arrive(body, config)
    except NotUnderstoodError:
        return
    for one in arrived.arrivals:
        assert len(one.key) <= 120
        alone = kind.read(one.event, {}, config).events
        linked = kind.read(one.event, {"status": "open", "at": 9e9, "bots": False}, config).events

        def said(found: Any) -> list[Any]:
            return [e.id for e in found if isinstance(e, MessageAdded)]

        assert said(alone) == said(linked), "messages do not depend on what is known"


def test_calls_are_written_in_order_each_with_its_own_name(example: Example) -> None:
    kind, config = parts(example)
    for command in COMMANDS:
        calls = kind.write(command, example.native, {}, config)
        assert calls == kind.write(command, example.native, {}, config), "a repeat says the same"
        assert len({call.name for call in calls}) == len(calls)
        if isinstance(command, HandOver) and kind.scope == "conversation" and calls:
            assert calls[0].name == "status", "whose it is comes first"
        for call in calls:
            text = json.dumps(call.body)
            if isinstance(command, Say):
                assert call.repeat == "once"
                assert "I look into it {team}" in text, "what is filled in is not read again"
            if call.repeat == "marked":
                assert delivery_id(command.cause, call.name) in text
            assert call.path.startswith("/")
    headers = kind.authorize(dict(example.outbound), config)
    assert all(isinstance(value, str) for value in headers.values())
