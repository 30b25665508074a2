"""A workspace's own phrases act through its policy, and are previewed before they are set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.policy.preview import EXAMPLES_MAX
from tests.postgres import on_both
from tests.service_in_process import ASKS, OTHERS, QUIET, InProcess, Place, refusal, serving

store_url = on_both()
SAYS = "nataka kuzungumza na mtu"
PHRASE = {"signal": "request", "text": "kuzungumza na mtu", "language": None}
DANGER = {"signal": "safety", "text": "niko hatarini", "language": None}


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("phrases"), database=store_url) as running:
        yield running


def preview(place: Place, *phrases: dict[str, Any]) -> Any:
    policy = place.engineer.got("/v1/policy") | {"phrases": list(phrases)}
    return place.engineer.posted("/v1/policy/preview", policy)


def test_the_past_shows_what_a_phrase_would_have_caught(place: Place) -> None:
    for number in range(EXAMPLES_MAX + 2):
        place.bot.decided(f"c{number}", "m1", QUIET)
        place.bot.decided(f"c{number}", "m2", f"Habari, NATAKA kuzungumza, na mtu {number}")
    before = place.content()
    found = preview(place, PHRASE, DANGER)
    caught, nothing = found["phrases"]
    assert caught["messages"] == EXAMPLES_MAX + 2
    assert len(caught["examples"]) == EXAMPLES_MAX
    for example in caught["examples"]:
        transcript = place.agent.got(f"/v1/conversations/{example['conversation_id']}")["messages"]
        (message,) = [one for one in transcript if one["id"] == example["message_id"]]
        assert example["quote"] == "kuzungumza, na mtu"
        assert example["quote"] in message["text"]
    assert (nothing["messages"], nothing["examples"]) == (0, [])
    assert found["by_trigger"]["request"] == {
        "as_made": 0,
        "under_this_policy": EXAMPLES_MAX + 2,
    }
    assert found["decisions"]["under_this_policy"]["escalate"] == EXAMPLES_MAX + 2
    assert place.content() == before


def test_the_preview_without_phrases_has_none(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    assert preview(place)["phrases"] == []


def test_a_phrase_in_force_escalates_from_the_next_message_on(place: Place) -> None:
    assert place.bot.decided("c", "m1", SAYS)["action"] == "continue"
    place.policy(phrases=[PHRASE])
    found = place.bot.decided("c", "m2", SAYS + " sasa")
    assert (found["action"], found["triggers"][0]["name"]) == ("escalate", "request")
    assert found["reasons"][0]["params"]["phrase"] == PHRASE["text"]
    for decision in ("m1", "m2"):
        decided = place.bot.decided("c", decision, SAYS if decision == "m1" else SAYS + " sasa")
        path = f"/v1/decisions/{decided['decision_id']}/replay"
        assert place.agent.got(path)["identical"] is True


def test_the_agent_sees_where_it_stands(place: Place) -> None:
    place.policy(phrases=[PHRASE])
    text = "kuzungumza kuzungumza. Habari, NATAKA kuzungumza, na mtu"
    handoff = place.escalated(text=text)
    evidence = place.agent.got(f"/v1/handoffs/{handoff}")["evidence"]
    (mark,) = [one for one in evidence if one["signal"] == "request"]
    assert text[mark["start"] : mark["stop"]] == "kuzungumza, na mtu"
    assert mark["led"] is True


def test_danger_by_a_phrase_is_urgent_like_any_other(place: Place) -> None:
    place.policy(phrases=[DANGER])
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/return")
    found = place.bot.decided("c", "m1", "Niko hatarini")
    assert (found["action"], found["handoff"]["priority"]) == ("escalate", 1)
    assert found["say"]["kind"] == "crisis"
    waiting = place.escalated("d", ASKS)
    raised = place.bot.decided("d", "m2", "niko HATARINI")
    assert (raised["handoff"]["id"], raised["handoff"]["raised"]) == (waiting, True)


def test_a_request_by_a_phrase_answers_an_offer(place: Place) -> None:
    place.offering()
    place.policy(phrases=[PHRASE])
    assert place.bot.decided("c", "m1", QUIET)["action"] == "offer"
    assert place.bot.decided("c", "m2", SAYS)["action"] == "escalate"
    events = [one["event"] for one in place.agent.got("/v1/conversations/c")["messages"]]
    assert "ignored" not in events


def test_verdicts_on_it_teach_as_any_request_does(place: Place) -> None:
    place.policy(phrases=[PHRASE])
    handoff = place.escalated(text=SAYS)
    body = {"verdict": "needed", "team": "billing"}
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", body)
    assert place.ledger()[-1]["requested"] is True


def test_a_phrase_that_can_find_nothing_is_refused_by_its_field(place: Place) -> None:
    policy = place.engineer.got("/v1/policy")
    for phrase in ({"signal": "request", "text": ".."}, {"signal": "hope", "text": "x y"}):
        asked = policy | {"phrases": [PHRASE, phrase]}
        for answer in (
            place.engineer.put("/v1/policy", json=asked),
            place.engineer.post("/v1/policy/preview", json=asked),
        ):
            assert "phrases.1" in refusal(answer, 422)["field"]
    assert place.engineer.got("/v1/policy") == policy


def test_one_workspaces_phrases_say_nothing_in_another(service: InProcess, place: Place) -> None:
    place.policy(phrases=[PHRASE])
    other = service.workspace()
    assert other.bot.decided("c", "m1", SAYS)["action"] == "continue"
    assert other.bot.decided("c", "m2", OTHERS[0])["action"] == "continue"
