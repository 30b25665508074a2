"""Where a connection says Baton's own words, the customer reads each once, and answers there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.connections import dispatcher
from service.connections.calls import call_sender
from service.connections.inbox.spoken_words import read_answer
from tests.connected import Connected, connected_chatwoot, dispatching
from tests.far_sides.calls import FakeIntercom, FakeSunshine
from tests.far_sides.chatwoot import FakeChatwoot
from tests.far_sides.examples import EXAMPLES, now, sunshine_message
from tests.far_sides.http_side import serving_side
from tests.service_in_process import OTHERS, QUIET, InProcess, Place, serving

DANGER = "I want to kill myself"
OFFER = "Would you like me to connect you with a colleague?"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("words")) as running:
        yield running


@pytest.fixture
def far() -> Iterator[FakeChatwoot]:
    with serving_side(FakeChatwoot()) as running:
        yield running
        assert running.wrong == []


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_sender, "RETRY_SECONDS", (0.05,) * 20)
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", 0.02)


def said(far: FakeChatwoot, number: int) -> list[str]:
    """What Baton said to the customer."""
    return [
        m["content"]
        for m in far.conversation(number).messages
        if m["content_attributes"].get("baton") and not m["private"]
    ]


def turns(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(m["author"], m["text"]) for m in found["messages"] if m["author"] != "system"]


def test_an_offer_is_said_once_and_a_plain_yes_hands_over(
    service: InProcess, place: Place, far: FakeChatwoot
) -> None:
    place.offering()
    desk = connected_chatwoot(place, far, says_words=True)
    with dispatching(service):
        far.customer(1, QUIET)
        desk.delivered()
        assert said(far, 1) == [OFFER]
        assert turns(desk.transcript(1)) == [("user", QUIET), ("bot", OFFER)]
        far.customer(1, "Yes, please!")
        desk.delivered()
    found = desk.transcript(1)
    assert [d["action"] for d in found["decisions"]] == ["offer", "human_active"]
    assert found["decisions"][0]["answer"] == "accepted"
    assert len(found["handoffs"]) == 1
    assert far.conversation(1).status == "open"
    assert said(far, 1) == [OFFER], "and nothing is doubled"
    assert {row["status"] for row in desk.deliveries()} == {"done"}


def test_a_plain_no_is_a_decline_and_another_word_is_decided_about(
    service: InProcess, place: Place, far: FakeChatwoot
) -> None:
    place.offering()
    desk = connected_chatwoot(place, far, says_words=True)
    with dispatching(service):
        for number, answer in ((1, "no thanks"), (2, OTHERS[1])):
            far.customer(number, QUIET)
            desk.delivered()
            far.customer(number, answer)
            desk.delivered()
    declined, ignored = desk.transcript(1), desk.transcript(2)
    assert declined["decisions"][0]["answer"] == "declined"
    assert ignored["decisions"][0]["answer"] is None
    assert declined["handoffs"] == ignored["handoffs"] == []


def test_in_a_crisis_the_words_come_after_the_conversation_is_open(
    service: InProcess, place: Place, far: FakeChatwoot
) -> None:
    desk = connected_chatwoot(place, far, says_words=True)
    with dispatching(service):
        far.customer(1, DANGER)
        desk.delivered()
    (words,) = said(far, 1)
    assert turns(desk.transcript(1)) == [("user", DANGER), ("bot", words)]
    calls = [row["call"] for row in desk.deliveries()]
    assert (calls[0], calls[-1]) == ("status", "say")


def test_where_it_is_not_asked_to_or_in_shadow_mode_nothing_is_said(
    service: InProcess, far: FakeChatwoot
) -> None:
    for number, (mode, says) in enumerate((("live", False), ("shadow", True)), 1):
        place = service.workspace(mode)
        place.offering()
        desk = connected_chatwoot(place, far, says_words=says)
        with dispatching(service):
            far.customer(number, QUIET)
            desk.delivered()
        assert [d["action"] for d in desk.transcript(number)["decisions"]] == ["offer"]
        assert said(far, number) == []
        assert desk.deliveries() == []


def test_no_webhook_and_no_bot_is_told_of_words_that_a_connection_says(
    service: InProcess, place: Place, far: FakeChatwoot
) -> None:
    place.offering()
    desk = connected_chatwoot(place, far, says_words=True)
    hook = place.admin.posted("/v1/webhooks", {"url": f"{far.url}/hook"})
    with dispatching(service, is_active=lambda: True):
        far.customer(1, QUIET)
        desk.delivered()
    told = place.admin.got(f"/v1/webhooks/{hook['id']}/deliveries")["deliveries"]
    assert {row["type"] for row in told} == {"decision.offered"}
    far.wrong.clear()  # it has no such route


def connected(place: Place, name: str, url: str) -> Connected:
    example = EXAMPLES[name]
    inbound = "webhook_secret" if example.kind == "sunshine" else "secret"
    config = {**example.config, **dict(example.outbound), inbound: example.secret}
    config |= {"base_url": url, "says_words": True}
    asked = {"kind": example.kind, "name": name, "config": config}
    return Connected(place, place.admin.posted("/v1/connections", asked))


def tell(there: Connected, name: str, body: Any) -> None:
    raw, headers = EXAMPLES[name].sign(body, EXAMPLES[name].secret, now())
    assert there.post(raw, headers).status_code == 200
    there.settled()


def test_sunshine_says_an_offer(service: InProcess, place: Place) -> None:
    place.offering()
    with serving_side(FakeSunshine()) as far:
        zendesk = connected(place, "sunshine", far.url)
        with dispatching(service):
            tell(zendesk, "sunshine", sunshine_message("1", QUIET))
            zendesk.delivered()
        assert [one["content"]["text"] for one in far.said] == [OFFER]
        assert far.wrong == []


def test_words_that_come_back_as_an_agents_take_nothing_over(
    service: InProcess, place: Place
) -> None:
    """Intercom shows what Baton says as the admin's whose token it has."""
    place.offering()
    example = EXAMPLES["intercom"]
    assert example.agent is not None
    with serving_side(FakeIntercom()) as far:
        intercom = connected(place, "intercom", far.url)
        with dispatching(service):
            tell(intercom, "intercom", example.customer("1", QUIET))
            intercom.delivered()
            tell(intercom, "intercom", example.agent("2", OFFER))
            found = place.agent.got(f"/v1/conversations/hook:{intercom.id}:42")
            assert turns(found) == [("user", QUIET), ("bot", OFFER)]
            assert found["handoffs"] == []
            tell(intercom, "intercom", example.agent("3", "I am Ana"))
            found = place.agent.got(f"/v1/conversations/hook:{intercom.id}:42")
            assert len(found["handoffs"]) == 1
        assert [(name, given["body"]) for name, given in far.calls[:1]] == [("reply", OFFER)]


@pytest.mark.parametrize(
    "text, answer",
    [
        ("Yes", True),
        ("yes, please!", True),
        ("Ja, bitte.", True),
        ("¡Sí!", True),
        ("はい", True),
        ("No thanks :)", False),
        ("нет", False),
        ("yes but where is my parcel", None),
        ("no idea what you mean", None),
        ("", None),
        ("👍", None),
    ],
)
def test_only_a_plain_yes_or_no_is_an_answer(text: str, answer: bool | None) -> None:
    assert read_answer(text) is answer
