"""What a customer wrote in several messages is read in all of them, however they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from learning.text.signals import read
from service.store.conversations import batch
from tests.postgres import on_both
from tests.service_in_process import ASKS, OTHERS, QUIET, InProcess, Place, serving

store_url = on_both()
URGENT = {"safety": "I am going to kill myself", "security": "someone hacked my account"}
PROTECTED = URGENT | {"request": ASKS}
BOT = {"id": "b", "author": "bot", "text": "Let me look at that."}
AGENT = {"id": "a", "author": "agent", "text": "Hello, I am Ana", "agent": "Ana"}


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("unread"), database=store_url) as running:
        yield running


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"id": f"h{n}", "author": "user", "text": text} for n, text in enumerate(texts)]


def names(decided: dict[str, Any]) -> set[str]:
    return {trigger["name"] for trigger in decided["triggers"]}


def replayed(place: Place, decided: dict[str, Any]) -> Any:
    return place.agent.got(f"/v1/decisions/{decided['decision_id']}/replay")["identical"]


@pytest.mark.parametrize("rule, text", PROTECTED.items())
@pytest.mark.parametrize("place_of_it", [0, 1, 2])
def test_what_always_escalates_does_wherever_in_the_run_it_was_said(
    place: Place, rule: str, text: str, place_of_it: int
) -> None:
    texts = [QUIET, OTHERS[0], OTHERS[1]]
    texts[place_of_it] = text
    decided = place.bot.decided("c", "m", OTHERS[2], history=said(*texts))
    assert (decided["action"], rule in names(decided)) == ("escalate", True)
    quote = dict(read(text).evidence)[rule]
    assert any(quote in reason["text"] for reason in decided["reasons"])
    assert replayed(place, decided) is True


@pytest.mark.parametrize("rule, text", PROTECTED.items())
def test_what_was_answered_since_is_read_no_more(place: Place, rule: str, text: str) -> None:
    decided = place.bot.decided("c", "m", QUIET, history=[*said(text), BOT])
    assert (decided["action"], names(decided)) == ("continue", set()), rule
    assert replayed(place, decided) is True


@pytest.mark.parametrize("text", URGENT.values())
@pytest.mark.parametrize("claimed", [False, True])
def test_it_raises_a_handoff_that_is_open(place: Place, text: str, claimed: bool) -> None:
    handoff = place.escalated()
    if claimed:
        place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    decided = place.bot.decided("c", "m", QUIET, history=said(text))
    assert (decided["action"], decided["handoff"]["raised"]) == ("human_active", True)
    assert decided["handoff"]["priority"] == 1


@pytest.mark.parametrize("text", URGENT.values())
def test_it_raises_what_an_agent_took_over_in_the_same_request(place: Place, text: str) -> None:
    decided = place.bot.decided("c", "m", text, history=[*said(QUIET), AGENT])
    assert (decided["action"], decided["handoff"]["raised"]) == ("human_active", True)


def test_it_is_read_once_and_not_again_after_the_person_has_gone(place: Place) -> None:
    decided = place.bot.decided("c", "m", QUIET, history=said(ASKS))
    place.agent.posted(f"/v1/handoffs/{decided['handoff']['id']}/return")
    later = place.bot.decided("c", "m2", OTHERS[0])
    assert later["action"] == "continue"
    assert replayed(place, later) is True


def test_it_is_read_after_an_offer_that_was_ignored(place: Place) -> None:
    place.offering()
    assert place.bot.decided("c", "m1", QUIET)["action"] == "offer"
    decided = place.bot.decided("c", "m2", OTHERS[0], history=said(URGENT["safety"]))
    assert decided["action"] == "escalate"
    assert replayed(place, decided) is True


def test_at_the_limit_of_a_conversation_it_is_answered_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.bot.decided("c", "m1", QUIET)
    monkeypatch.setattr(batch, "TURNS_MAX", 1)
    decided = place.bot.decided("c", "m2", QUIET, history=said(URGENT["safety"]))
    assert decided["action"] == "escalate"


def test_in_shadow_a_decided_message_is_no_unread_one(service: InProcess) -> None:
    place = service.workspace("shadow")
    assert place.bot.decided("c", "m1", ASKS)["action"] == "escalate"
    later = place.bot.decided("c", "m2", QUIET)
    assert (later["action"], replayed(place, later)) == ("continue", True)


@pytest.mark.parametrize("rule, text", PROTECTED.items())
@pytest.mark.parametrize("when", ["1999-01-01T00:00:00Z", "2031-01-01T00:00:00Z"])
def test_no_clock_and_no_price_holds_it_back(place: Place, rule: str, text: str, when: str) -> None:
    place.policy(capacity=0.01)
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/return")
    message = {"id": "m", "text": text, "at": when}
    decided = place.bot.posted("/v1/score", {"conversation_id": "c", "message": message})
    assert (decided["action"], rule in names(decided)) == ("escalate", True)
    assert replayed(place, decided) is True
