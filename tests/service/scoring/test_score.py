"""Decisions: what an answer holds, and that the same request has one effect and one answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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

REPORT = {
    "intent": "refund",
    "confidence": 0.25,
    "fallback": True,
    "tool_error": "timeout",
    "attempt": "look_up_order",
}


store_url = on_both(stores=BOTH)


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("score"), database=store_url) as running:
        yield running


def offer(place: Place, conversation: str = "c", message: str = "m1") -> str:
    place.offering()
    decided = place.bot.decided(conversation, message, QUIET)
    assert decided["action"] == "offer"
    found: str = decided["decision_id"]
    return found


def test_a_decision_says_what_to_do_why_and_by_which_model(place: Place) -> None:
    decided = place.bot.decided("c", "m1", QUIET)
    assert set(decided) == {
        "decision_id",
        "action",
        "probability",
        "uncertainty",
        "thresholds",
        "triggers",
        "reasons",
        "handoff",
        "version",
        "position",
        "reopened",
        "language",
        "say",
        "held_out",
    }
    assert decided["action"] in ("continue", "offer")
    assert 0 <= decided["probability"] <= 1
    assert decided["uncertainty"] >= 0
    assert 0 < decided["thresholds"]["offer"] <= decided["thresholds"]["escalate"] < 1
    assert decided["handoff"] is None
    assert (decided["version"], decided["position"]) == (1, 2)


def test_every_trigger_and_reason_can_be_read_and_names_its_message(place: Place) -> None:
    decided = place.bot.decided("c", "m1", ASKS)
    assert {"kind": "request", "name": "request", "message_ids": ["m1"]} in decided["triggers"]
    for trigger in decided["triggers"]:
        assert trigger["kind"] in ("request", "rule", "loop", "model")
        assert trigger["message_ids"]
    assert any("human" in reason["text"] for reason in decided["reasons"])
    assert set(decided["handoff"]) == {"id", "team", "priority", "raised"}


def test_the_same_message_again_gets_the_same_decision_even_after_learning(place: Place) -> None:
    first = place.bot.score("c", "m1", ASKS)
    handoff = first.json()["handoff"]["id"]
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    place.policy(cooldown_messages=0)
    before = place.content()
    assert same([first, place.bot.score("c", "m1", ASKS)]) == first.json()
    assert place.content() == before


def test_the_same_message_many_times_at_once_has_one_effect(place: Place) -> None:
    same(at_once(12, lambda _: place.bot.score("c", "m1", ASKS)))
    held = place.content()
    assert (held["message"], held["decision"], held["handoff"]) == (2, 1, 1)


def test_messages_of_one_conversation_sent_at_once_each_get_a_place(place: Place) -> None:
    answers = at_once(10, lambda n: place.bot.score("c", f"m{n}", OTHERS[n]))
    assert {one.status_code for one in answers} == {200}
    found = place.agent.got("/v1/conversations/c")
    assert [turn["seq"] for turn in found["messages"]] == list(range(1, 11))
    assert {turn["id"] for turn in found["messages"]} == {f"m{n}" for n in range(10)}


@pytest.mark.parametrize("changes", [{"text": "something else"}, {"author": "bot"}])
def test_a_message_id_never_changes_its_text_or_author(
    place: Place, changes: dict[str, str]
) -> None:
    place.bot.decided("c", "m1", QUIET)
    before = place.content()
    again = place.bot.score("c", "m1", **({"text": QUIET} | changes))
    error = refusal(again, 409, "message_differs")
    assert error["field"] == "message.id"
    assert "new id" in error["hint"]
    assert place.content() == before


def test_contradictory_requests_at_once_are_decided_for_one_of_them(place: Place) -> None:
    answers = at_once(8, lambda n: place.bot.score("c", "m1", f"text {n % 2}"))
    winners = {one.content for one in answers if one.status_code == 200}
    assert len(winners) == 1
    assert sorted({one.status_code for one in answers}) == [200, 409]
    assert place.content()["message"] == 1


def test_history_is_stored_before_the_message_in_the_order_it_came(place: Place) -> None:
    history = [
        {"id": "h1", "author": "user", "text": "hello", "at": "2026-01-02T03:04:05Z"},
        {"id": "h2", "author": "bot", "text": "hi, what can I do?", "bot": REPORT},
        {"id": "h3", "author": "agent", "text": "an agent wrote", "at": "2026-01-02T03:05:05Z"},
        {"id": "h4", "author": "system", "text": "the customer came back"},
    ]
    attributes = {"plan": "gold", "orders": 1, "spent": 12.5, "vip": True}
    place.bot.decided("c", "m1", QUIET, history=history, bot=REPORT, attributes=attributes)
    turns = place.agent.got("/v1/conversations/c")["messages"]
    assert [turn["id"] for turn in turns] == ["h1", "h2", "h3", "h4", "m1"]
    assert [turn["author"] for turn in turns] == ["user", "bot", "agent", "system", "user"]
    assert turns[0]["at"] == "2026-01-02T03:04:05+00:00"
    assert turns[1]["bot"] == REPORT
    assert turns[4]["bot"] == REPORT
    assert turns[4]["attributes"] == attributes
    assert turns[4]["attributes"]["vip"] is True
    assert turns[4]["attributes"]["orders"] is not True
    assert [turn["scored"] for turn in turns] == [False] * 4 + [True]


def test_history_that_was_sent_before_is_not_stored_again(place: Place) -> None:
    turns = [{"id": f"h{n}", "author": "bot", "text": f"answer {n}"} for n in range(3)]
    place.bot.decided("c", "m1", QUIET, history=turns[:1])
    place.bot.decided("c", "m2", QUIET, history=turns)
    found = place.agent.got("/v1/conversations/c")["messages"]
    assert [turn["id"] for turn in found] == ["h0", "m1", "h1", "h2", "m2"]


def test_history_that_contradicts_what_is_stored_writes_nothing(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET, history=[{"id": "h1", "author": "bot", "text": "one"}])
    before = place.content()
    history = [
        {"id": "h2", "author": "bot", "text": "fresh"},
        {"id": "h1", "author": "bot", "text": "two"},
    ]
    refusal(place.bot.score("c", "m2", QUIET, history=history), 409, "message_differs")
    assert place.content() == before


@pytest.mark.parametrize("twice", ["h1", "m1"])
def test_one_id_twice_in_a_request_is_refused_and_leaves_no_conversation(
    place: Place, twice: str
) -> None:
    history = [{"id": name, "author": "user", "text": QUIET} for name in ("h1", twice)]
    error = refusal(place.bot.score("c", "m1", QUIET, history=history), 409)
    assert (error["code"], error["field"]) == ("duplicate_message_id", "history")
    assert not any(place.content()[part] for part in ("conversation", "message", "decision"))
    refusal(place.agent.get("/v1/conversations/c"), 404, "no_conversation")


def test_a_message_that_came_as_history_can_still_be_scored_once(place: Place) -> None:
    history = [{"id": "m1", "author": "bot", "text": "Is there anything else?"}]
    place.bot.posted("/v1/conversations/c/messages", {"messages": history})
    first = place.bot.score("c", "m1", "Is there anything else?", author="bot")
    again = place.bot.score("c", "m1", "Is there anything else?", author="bot")
    same([first, again])
    found = place.agent.got("/v1/conversations/c")
    assert [(turn["id"], turn["scored"]) for turn in found["messages"]] == [("m1", True)]
    replayed = place.agent.got(f"/v1/decisions/{first.json()['decision_id']}/replay")
    assert replayed["identical"] is True


def test_a_message_that_others_followed_is_too_late_to_score(place: Place) -> None:
    place.bot.decided("c", "m2", QUIET, history=[{"id": "m1", "author": "user", "text": "hello"}])
    before = place.content()
    error = refusal(place.bot.score("c", "m1", "hello"), 409, "message_passed")
    assert error["field"] == "message.id"
    assert place.content() == before


def test_the_bots_own_message_gets_a_decision_too(place: Place) -> None:
    decided = place.bot.decided("c", "b1", "I am sorry, I did not understand.", author="bot")
    assert decided["probability"] is not None


def test_a_batch_answers_each_item_by_itself_and_in_order(place: Place) -> None:
    def item(conversation: str, message: str, text: str) -> dict[str, object]:
        return {"conversation_id": conversation, "message": {"id": message, "text": text}}

    items = [
        item("a", "m1", QUIET),
        item("b", "m1", ASKS),
        {"conversation_id": "a"},
        item("a", "m1", "another text"),
        item("a", "m2", QUIET),
        item("a", "m1", QUIET),
        item("c", "m1", "x\x00"),
        item("d", "m1", "y") | {"nope": 1},
    ]
    results = place.bot.posted("/v1/score/batch", {"items": items})["results"]
    assert [one.get("status", 200) for one in results] == [200, 200, 422, 409, 200, 200, 422, 422]
    assert results[0] == results[5]
    assert results[1]["action"] == "escalate"
    assert results[2]["error"]["field"] == "message"
    assert results[3]["error"]["code"] == "message_differs"
    assert results[6]["error"]["field"] == "message.text"
    assert results[7]["error"]["field"] == "nope"
    assert all({"code", "message", "hint"} <= set(results[n]["error"]) for n in (2, 3, 6, 7))
    assert place.bot.decided("a", "m2", QUIET) == results[4]
    assert {n: place.content()[n] for n in ("conversation", "decision")} == {
        "conversation": 2,
        "decision": 3,
    }


def test_an_accepted_offer_opens_one_handoff_however_often_it_is_told(place: Place) -> None:
    decision = offer(place)
    path = f"/v1/decisions/{decision}/answer"
    answered = same(at_once(6, lambda _: place.bot.post(path, json={"accepted": True})))
    assert answered["answer"] == "accepted"
    assert place.content()["handoff"] == 1
    handoff = place.agent.got(f"/v1/handoffs/{answered['handoff']['id']}")
    assert (handoff["status"], handoff["decision_id"]) == ("waiting", decision)
    place.agent.posted(f"/v1/handoffs/{handoff['id']}/resolve")
    assert place.bot.posted(path, {"accepted": True}) == answered
    assert place.content()["handoff"] == 1


def test_a_declined_offer_starts_the_cool_down_and_opens_nothing(place: Place) -> None:
    decision = offer(place)
    place.policy(cooldown_messages=2)
    path = f"/v1/decisions/{decision}/answer"
    same([place.bot.post(path, json={"accepted": False}) for _ in range(3)])
    actions = [place.bot.decided("c", f"m{n}", OTHERS[n])["action"] for n in range(2, 5)]
    assert actions == ["continue", "continue", "offer"]
    assert place.content()["handoff"] == 0


def test_an_answer_to_an_offer_is_no_label(place: Place) -> None:
    for conversation, accepted in (("a", True), ("b", False)):
        decision = offer(place, conversation)
        place.bot.posted(f"/v1/decisions/{decision}/answer", {"accepted": accepted})
    assert place.ledger("outcome") == []


def test_an_offer_is_answered_one_way_only(place: Place) -> None:
    decision = offer(place)
    place.bot.posted(f"/v1/decisions/{decision}/answer", {"accepted": False})
    before = place.content()
    again = place.bot.post(f"/v1/decisions/{decision}/answer", json={"accepted": True})
    refusal(again, 409, "answered_otherwise")
    assert place.content() == before


def test_only_an_offer_can_be_answered(place: Place) -> None:
    decided = place.bot.decided("c", "m1", ASKS)
    path = f"/v1/decisions/{decided['decision_id']}/answer"
    error = refusal(place.bot.post(path, json={"accepted": True}), 409, "not_an_offer")
    assert "escalate" in error["message"]
    refusal(place.bot.post("/v1/decisions/d0/answer", json={"accepted": True}), 404, "no_decision")


def test_an_offer_from_before_a_return_opens_nothing_any_more(place: Place) -> None:
    decision = offer(place)
    handoff = place.bot.decided("c", "m2", ASKS)["handoff"]["id"]
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    late = place.bot.post(f"/v1/decisions/{decision}/answer", json={"accepted": True})
    refusal(late, 409, "offer_passed")
    assert place.agent.got("/v1/conversations/c")["human_active"] is False


def test_turns_are_appended_once_and_without_a_score(place: Place) -> None:
    turns = {"messages": [{"id": f"t{n}", "author": "bot", "text": f"turn {n}"} for n in range(3)]}
    path = "/v1/conversations/c/messages"
    answers = at_once(5, lambda _: place.bot.post(path, json=turns))
    assert sorted(one.json()["appended"] for one in answers) == [0, 0, 0, 0, 3]
    assert {one.json()["length"] for one in answers} == {3}
    held = place.content()
    assert (held["message"], held["decision"]) == (3, 0)
    turns["messages"][0]["text"] = "changed"
    refusal(place.bot.post(path, json=turns), 409, "message_differs")


def test_the_customers_own_message_is_not_appended_past_the_score(place: Place) -> None:
    turns = {"messages": [{"id": "u1", "author": "user", "text": ASKS}]}
    error = refusal(place.bot.post("/v1/conversations/c/messages", json=turns), 422)
    assert error["field"] == "messages"
    assert "/v1/score" in error["message"]
    assert place.content()["conversation"] == 0


def test_closing_says_the_same_every_time_and_never_another_thing(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    path = "/v1/conversations/c/close"
    same(at_once(4, lambda _: place.bot.post(path, json={"resolution": "resolved"})))
    other = place.bot.post(path, json={"resolution": "abandoned"})
    error = refusal(other, 409, "closed_otherwise")
    assert error["field"] == "resolution"
    refusal(
        place.bot.post("/v1/conversations/none/close", json={"resolution": "resolved"}),
        404,
        "no_conversation",
    )


def test_a_new_message_opens_a_closed_conversation_again(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    place.bot.posted("/v1/conversations/c/close", {"resolution": "resolved"})
    assert place.agent.got("/v1/conversations/c")["status"] == "closed"
    place.bot.decided("c", "m2", QUIET)
    found = place.agent.got("/v1/conversations/c")
    assert (found["status"], found["resolution"], found["closed_at"]) == ("open", None, None)
    place.bot.posted("/v1/conversations/c/close", {"resolution": "abandoned"})


def test_a_conversation_has_a_greatest_length(place: Place) -> None:
    for start in range(0, 2000, 200):
        turns = [{"id": f"t{start + n}", "author": "bot", "text": "turn"} for n in range(200)]
        place.bot.posted("/v1/conversations/c/messages", {"messages": turns})
    error = refusal(place.bot.score("c", "m1", QUIET), 422, "conversation_too_long")
    assert "2000" in error["message"]
    assert error["field"] == "conversation_id"
    assert place.content()["message"] == 2000


def test_a_decision_can_be_read_and_replayed_before_and_after_learning(place: Place) -> None:
    decided = place.bot.decided("c", "m1", ASKS)
    path = f"/v1/decisions/{decided['decision_id']}"
    row = place.agent.got(path)
    for name in ("action", "probability", "uncertainty", "triggers", "reasons", "version"):
        assert row[name] == decided[name]
    assert row["serving"]["version"] == 1
    assert place.agent.got(f"{path}/replay")["identical"] is True
    place.agent.posted(
        f"/v1/handoffs/{decided['handoff']['id']}/outcome", {"verdict": "not_needed"}
    )
    assert place.engineer.got("/v1/standing")["position"] > decided["position"]
    assert place.agent.got(f"{path}/replay") | {"again": None} == {
        "decision_id": decided["decision_id"],
        "identical": True,
        "why": None,
        "again": None,
    }
    refusal(place.agent.get("/v1/decisions/d0"), 404, "no_decision")
    refusal(place.agent.get("/v1/decisions/d0/replay"), 404, "no_decision")
