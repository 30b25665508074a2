"""Handoffs: protected rules, exclusive claims, silence while a person is there, the way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest

from service.store.handoffs import handoff_rows
from tests.postgres import BOTH, on_both
from tests.service_in_process import (
    ASKS,
    OTHERS,
    QUIET,
    InProcess,
    Place,
    at_once,
    refusal,
    same,
    serving,
)

PROTECTED = {
    "request": ASKS,
    "identity": "I cannot pass the identity check",
    "security": "someone hacked my account",
    "safety": "I am going to kill myself",
}
FAILED = {"fallback": True}


store_url = on_both(stores=BOTH)


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("handoffs"), database=store_url) as running:
        yield running


def claim(place: Place, handoff: str) -> httpx.Response:
    return place.agent.post(f"/v1/handoffs/{handoff}/claim")


def expire(place: Place, handoff: str) -> None:
    with place.service.baton.store.write() as connection:
        handoff_rows.change(connection, place.name, handoff, claim_expires_at=time.time() - 1)


# Protected rules


@pytest.mark.parametrize("rule", PROTECTED)
def test_protected_rules_escalate_whatever_the_costs_say(place: Place, rule: str) -> None:
    place.policy(costs={"unneeded": 1e6, "missed": 1e-6, "ask": 1e6})
    decided = place.bot.decided("c", "m1", PROTECTED[rule])
    assert decided["probability"] < decided["thresholds"]["escalate"]
    assert [trigger["name"] for trigger in decided["triggers"]] == [rule]
    assert decided["action"] == "escalate"


@pytest.mark.parametrize("rule", PROTECTED)
def test_protected_rules_escalate_in_the_cool_down_after_a_return(place: Place, rule: str) -> None:
    place.policy(cooldown_messages=100)
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/return")
    assert place.bot.decided("c", "m2", QUIET)["action"] == "continue"
    assert place.bot.decided("c", "m3", PROTECTED[rule])["action"] == "escalate"


@pytest.mark.parametrize("rule", PROTECTED)
def test_protected_rules_escalate_in_the_cool_down_after_a_declined_offer(
    place: Place, rule: str
) -> None:
    place.offering()
    place.policy(cooldown_messages=100)
    decision = place.bot.decided("c", "m1", QUIET)["decision_id"]
    place.bot.posted(f"/v1/decisions/{decision}/answer", {"accepted": False})
    assert place.bot.decided("c", "m2", OTHERS[0])["action"] == "continue"
    assert place.bot.decided("c", "m3", PROTECTED[rule])["action"] == "escalate"


def test_the_protected_rules_team_and_priority_are_the_handoffs(place: Place) -> None:
    decided = place.bot.decided("c", "m1", PROTECTED["security"])
    assert (decided["handoff"]["team"], decided["handoff"]["priority"]) == ("security", 1)


def test_other_rules_are_held_back_in_the_cool_down_and_say_so(place: Place) -> None:
    rules = place.engineer.got("/v1/policy")["rules"]
    refunds = {"name": "refunds", "watches": "topic:refund", "action": "escalate"}
    place.policy(cooldown_messages=1, rules=[*rules, refunds])
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/return")
    held = place.bot.decided("c", "m2", "can I have a refund")
    assert held["action"] == "continue"
    assert "refunds" in {trigger["name"] for trigger in held["triggers"]}
    assert any("held back" in reason["text"] for reason in held["reasons"])
    assert place.bot.decided("c", "m3", "I want my money back")["action"] == "escalate"


# Claims


def test_a_claim_is_exclusive_and_names_its_holder(place: Place) -> None:
    handoff = place.escalated()
    ann, ben = place.named_agent("ann"), place.named_agent("ben")
    claimed = ann.posted(f"/v1/handoffs/{handoff}/claim")
    assert (claimed["status"], claimed["claimed_by"]) == ("claimed", "ann")
    error = refusal(ben.post(f"/v1/handoffs/{handoff}/claim"), 409, "already_claimed")
    assert "ann" in error["message"]
    assert "waiting" in error["hint"]
    for how in ("return", "resolve"):
        error = refusal(ben.post(f"/v1/handoffs/{handoff}/{how}"), 409, "claimed_by_another")
        assert "ann" in error["message"]


def test_two_agents_whose_keys_were_not_named_are_still_two(place: Place) -> None:
    handoff = place.escalated()
    one, other = (
        place.service.caller(place.admin.posted("/v1/keys", {"role": "agent"})["key"])
        for _ in range(2)
    )
    one.posted(f"/v1/handoffs/{handoff}/claim")
    refusal(other.post(f"/v1/handoffs/{handoff}/claim"), 409, "already_claimed")


def test_of_agents_who_claim_at_once_one_gets_it(place: Place) -> None:
    handoff = place.escalated()
    agents = [place.named_agent(f"agent-{n}") for n in range(6)]
    answers = at_once(6, lambda n: agents[n].post(f"/v1/handoffs/{handoff}/claim"))
    assert sorted(one.status_code for one in answers) == [200] + [409] * 5
    holder = next(one.json()["claimed_by"] for one in answers if one.status_code == 200)
    assert place.agent.got(f"/v1/handoffs/{handoff}")["claimed_by"] == holder


def test_claiming_again_keeps_the_claim_and_prolongs_it(place: Place) -> None:
    handoff = place.escalated()
    first, again = claim(place, handoff).json(), claim(place, handoff).json()
    assert first["claimed_at"] == again["claimed_at"]
    assert first["claim_expires_at"] < again["claim_expires_at"]


def test_a_claim_lasts_as_long_as_the_policy_says(place: Place) -> None:
    place.policy(claim_seconds=10)
    claimed = claim(place, place.escalated()).json()
    lasts = datetime.fromisoformat(claimed["claim_expires_at"]) - datetime.fromisoformat(
        claimed["claimed_at"]
    )
    assert lasts.total_seconds() == pytest.approx(10)


def test_an_expired_claim_can_be_taken_over(place: Place) -> None:
    handoff = place.escalated()
    ann, ben = place.named_agent("ann"), place.named_agent("ben")
    ann.posted(f"/v1/handoffs/{handoff}/claim")
    expire(place, handoff)
    assert ben.posted(f"/v1/handoffs/{handoff}/claim")["claimed_by"] == "ben"
    refusal(ann.post(f"/v1/handoffs/{handoff}/claim"), 409, "already_claimed")
    refusal(ann.post(f"/v1/handoffs/{handoff}/return"), 409, "claimed_by_another")


def test_an_agent_who_writes_keeps_the_claim(place: Place) -> None:
    handoff = place.escalated()
    claim(place, handoff)
    expire(place, handoff)
    turns = {"messages": [{"id": "a1", "author": "agent", "text": "one moment, I look it up"}]}
    assert place.bot.posted("/v1/conversations/c/messages", turns)["human_active"] is True
    other = place.named_agent("other").post(f"/v1/handoffs/{handoff}/claim")
    refusal(other, 409, "already_claimed")


# Silence


def test_while_a_person_is_there_the_bot_is_silent_and_nothing_is_scored(place: Place) -> None:
    handoff = place.escalated()
    for step in ("waiting", "claimed"):
        decided = place.bot.decided("c", f"m-{step}", f"{ASKS}, {step}")
        assert decided["action"] == "human_active"
        assert decided["probability"] is None
        assert decided["handoff"]["id"] == handoff
        claim(place, handoff)
    turns = place.agent.got("/v1/conversations/c")["messages"]
    assert [t["scored"] for t in turns if t["author"] == "user"] == [True, False, False]
    assert place.content()["handoff"] == 1


def test_a_silent_decision_is_repeated_as_it_was_and_has_nothing_to_replay(place: Place) -> None:
    handoff = place.escalated()
    first = place.bot.score("c", "m2", QUIET)
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    same([first, place.bot.score("c", "m2", QUIET)])
    replayed = place.agent.got(f"/v1/decisions/{first.json()['decision_id']}/replay")
    assert replayed["identical"] is None
    assert "person" in replayed["why"]


def test_messages_of_the_silence_are_no_lessons_and_in_no_rate(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    handoff = place.escalated(text="I will sue you, my lawyer will call")
    for n in range(3):
        place.bot.decided("c", f"s{n}", OTHERS[n])
    place.agent.posted(f"/v1/handoffs/{handoff}/resolve")
    place.bot.posted(
        "/v1/conversations/c/outcome", {"verdict": "missed", "first_needed_message_id": "m1"}
    )
    quality = place.engineer.got("/v1/quality")
    assert quality["model"]["lessons"] == 2
    assert sum(row["total"] for row in quality["decisions"] if row["action"] != "human_active") == 2


# The way back


def test_a_return_gives_the_bot_the_conversation_and_it_hears_of_it(place: Place) -> None:
    handoff = place.escalated()
    assert place.bot.decided("c", "m2", QUIET)["action"] == "human_active"
    assert place.agent.got("/v1/conversations/c")["human_active"] is True
    returned = place.agent.posted(f"/v1/handoffs/{handoff}/return")
    assert returned["status"] == "returned"
    found = place.agent.got("/v1/conversations/c")
    assert found["human_active"] is False
    assert [one["status"] for one in found["handoffs"]] == ["returned"]
    assert [t["event"] for t in found["messages"] if t["event"]] == ["handed_over", "returned"]
    turns = {"messages": [{"id": "b1", "author": "bot", "text": "I am back."}]}
    told = place.bot.posted("/v1/conversations/c/messages", turns)
    assert told["human_active"] is False
    after = place.bot.decided("c", "m3", OTHERS[0])
    assert after["action"] != "human_active"
    assert after["probability"] is not None


@pytest.mark.parametrize("how, status", [("return", "returned"), ("resolve", "resolved")])
def test_ending_a_handoff_again_changes_nothing(place: Place, how: str, status: str) -> None:
    handoff = place.escalated()
    path = f"/v1/handoffs/{handoff}/{how}"
    ended = same(at_once(4, lambda _: place.agent.post(path)))
    assert ended["status"] == status
    assert place.content()["message"] == 3
    other = {"return": "resolve", "resolve": "return"}[how]
    for late in (other, "claim"):
        error = refusal(place.agent.post(f"/v1/handoffs/{handoff}/{late}"), 409, "handoff_over")
        assert status in error["message"]


@pytest.mark.parametrize("how", ["return", "resolve"])
def test_text_from_before_a_return_never_escalates_again(place: Place, how: str) -> None:
    place.policy(cooldown_messages=0, costs={"unneeded": 1e6, "missed": 1e-6, "ask": 1e6})
    for n in range(2):
        place.bot.decided("c", f"m{n}", "where is my order number 12345", bot=FAILED)
    third = place.bot.decided("c", "m2", "where is my order number 12345", bot=FAILED)
    names = {trigger["name"] for trigger in third["triggers"]}
    assert {"failed_automation", "repeated_by_customer"} <= names
    place.agent.posted(f"/v1/handoffs/{third['handoff']['id']}/{how}")
    again = place.bot.decided("c", "m3", "where is my order number 12345")
    assert (again["action"], again["triggers"]) == ("continue", [])
    later = place.bot.decided("c", "m4", "thanks, that helps", bot=FAILED)
    assert (later["action"], later["triggers"]) == ("continue", [])


def test_the_cool_down_after_a_return_is_as_long_as_the_policy_says(place: Place) -> None:
    place.policy(
        cooldown_messages=2,
        costs={"unneeded": 1e-6, "missed": 1e6, "ask": 1e6},
    )
    handoff = place.bot.decided("c", "m0", QUIET)["handoff"]["id"]
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    actions = [place.bot.decided("c", f"m{n}", OTHERS[n])["action"] for n in range(1, 5)]
    assert actions == ["continue", "continue", "escalate", "human_active"]


def test_a_shadow_workspace_decides_but_opens_no_handoff(service: InProcess) -> None:
    place = service.workspace("shadow")
    decided = place.bot.decided("c", "m1", ASKS)
    assert (decided["action"], decided["handoff"]) == ("escalate", None)
    assert place.bot.decided("c", "m2", ASKS)["action"] == "escalate"
    place.offering()
    offered = place.bot.decided("d", "m1", QUIET)
    assert offered["action"] == "offer"
    answer = f"/v1/decisions/{offered['decision_id']}/answer"
    assert place.bot.posted(answer, {"accepted": True})["handoff"] is None
    assert place.content()["handoff"] == 0
    assert place.agent.got("/v1/handoffs") == {"handoffs": []}
    assert place.agent.got("/v1/conversations/d")["human_active"] is False


def test_a_workspace_made_live_opens_handoffs_from_the_next_message_on(service: InProcess) -> None:
    place = service.workspace("shadow")
    place.bot.decided("c", "m1", ASKS)
    place.admin.put(f"/v1/workspaces/{place.name}/mode", json={"mode": "live"})
    assert place.bot.decided("c", "m2", "let me speak to a person")["handoff"] is not None
    place.admin.put(f"/v1/workspaces/{place.name}/mode", json={"mode": "shadow"})
    assert place.bot.decided("d", "m1", ASKS)["handoff"] is None


def test_closing_abandons_a_handoff_that_waits_but_not_one_that_is_claimed(place: Place) -> None:
    waiting, claimed = place.escalated("w"), place.escalated("x")
    claim(place, claimed)
    for conversation in ("w", "x"):
        place.bot.posted(f"/v1/conversations/{conversation}/close", {"resolution": "abandoned"})
    assert place.agent.got(f"/v1/handoffs/{waiting}")["status"] == "abandoned"
    assert place.agent.got(f"/v1/handoffs/{claimed}")["status"] == "claimed"
    refusal(claim(place, waiting), 409, "handoff_over")
    assert place.bot.decided("w", "m2", QUIET)["action"] != "human_active"
    assert place.bot.decided("x", "m2", QUIET)["action"] == "human_active"


# The queue and the context packet


def test_the_queue_is_most_urgent_first_then_oldest_and_filters(place: Place) -> None:
    asked = place.escalated("a"), place.escalated("b")
    hacked = place.escalated("c", PROTECTED["security"])
    queue = place.agent.got("/v1/handoffs")["handoffs"]
    assert [one["id"] for one in queue] == [hacked, *asked]
    claim(place, asked[0])
    waiting = place.agent.got("/v1/handoffs?status=waiting")["handoffs"]
    assert [one["id"] for one in waiting] == [hacked, asked[1]]
    teams = place.agent.got("/v1/handoffs?team=security&status=waiting")["handoffs"]
    assert [one["id"] for one in teams] == [hacked]
    assert place.agent.got("/v1/handoffs?team=nobody") == {"handoffs": []}
    assert len(place.agent.got("/v1/handoffs?limit=1")["handoffs"]) == 1


def test_the_context_packet_has_all_that_the_customer_should_not_repeat(place: Place) -> None:
    first = "I want a refund of $42.50 for order AB-12345, write to jo.doe+x@example.org"
    place.bot.decided(
        "c", "m1", first, attributes={"plan": "gold"}, bot={"intent": "refund", "confidence": 0.9}
    )
    answer = {"id": "b1", "author": "bot", "text": "I could not find it", "bot": {"intent": "x"}}
    failed = {"tool_error": "timeout", "attempt": "find_order"}
    angry = "This is terrible and useless, I hate it. Let me talk to a human, call +44 20 7946 0958"
    decided = place.bot.decided("c", "m2", angry, history=[answer], bot=failed)
    packet = place.agent.got(f"/v1/handoffs/{decided['handoff']['id']}")
    assert [turn["id"] for turn in packet["transcript"]][:3] == ["m1", "b1", "m2"]
    assert packet["transcript"][-1]["event"] == "handed_over"
    assert [turn["text"] for turn in packet["transcript"][:3]] == [first, answer["text"], angry]
    assert [attempt["tried"] for attempt in packet["attempts"]] == ["refund", "x", "find_order"]
    assert [attempt["failed"] for attempt in packet["attempts"]] == [False, False, True]
    assert packet["triggers"] == decided["triggers"]
    assert packet["reasons"] == decided["reasons"]
    assert packet["probability"] == decided["probability"]
    assert [one["message_id"] for one in packet["sentiment"]] == ["m1", "m2"]
    assert packet["sentiment"][1]["sentiment"] < packet["sentiment"][0]["sentiment"]
    assert (packet["team"], packet["suggested_team"], packet["priority"]) == (
        "support",
        "support",
        2,
    )
    facts = {(fact["kind"], fact["value"], fact["message_id"]) for fact in packet["facts"]}
    assert ("email", "jo.doe+x@example.org", "m1") in facts
    assert ("order", "AB-12345", "m1") in facts
    assert ("amount", "$42.50", "m1") in facts
    assert ("phone", "+44 20 7946 0958", "m2") in facts
    assert packet["attributes"] == {"plan": "gold"}


def test_what_the_customer_says_while_waiting_reaches_the_agent(place: Place) -> None:
    handoff = place.escalated()
    place.bot.decided("c", "m2", "my order number is 99-123, the case of wine I mean")
    packet = place.agent.got(f"/v1/handoffs/{handoff}")
    assert packet["transcript"][-1]["id"] == "m2"
    assert packet["facts"] == [
        {"kind": "order", "value": "99-123", "message_id": "m2", "start": 19, "stop": 25}
    ]


@pytest.mark.parametrize("how", ["", "/claim", "/return", "/resolve", "/outcome"])
def test_an_unknown_handoff_is_named(place: Place, how: str) -> None:
    path = f"/v1/handoffs/h0{how}"
    body = {"verdict": "needed"} if how == "/outcome" else None
    answer = place.agent.post(path, json=body) if how else place.agent.get(path)
    assert "h0" in refusal(answer, 404, "no_handoff")["message"]
