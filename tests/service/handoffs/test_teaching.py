"""Teaching over HTTP: what an outcome changed, which answers are asked for, notes and transfers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from learning.ledger.model_state import Entry, LearnedEffect
from service.handoffs import brief
from service.store.handoffs import handoff_rows
from service.store.ledger import entries as ledger
from service.versions.restore import restore, transcript_reader
from tests.postgres import on_both
from tests.service_in_process import (
    ASKS,
    QUIET,
    Caller,
    InProcess,
    Place,
    at_once,
    refusal,
    serving,
)
from tests.work import Asked, asked, calls

store_url = on_both()


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("teaching"), database=store_url) as running:
        yield running


def tell(agent: Caller, handoff: str, verdict: str = "needed", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = agent.posted(
        f"/v1/handoffs/{handoff}/outcome", {"verdict": verdict, **more}
    )
    return found


def effect(place: Place, outcome: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = place.agent.got(f"/v1/outcomes/{outcome['id']}/effect")
    return found


# What an outcome changed


def test_an_outcome_tells_what_it_changed_for_its_message(place: Place) -> None:
    first = place.bot.decided("c", "m1", ASKS)
    outcome = tell(place.agent, first["handoff"]["id"])
    changed = effect(place, outcome)
    assert (changed["message_id"], changed["why"]) == ("m1", None)
    assert changed["before"] == first["probability"]
    assert changed["after"] > changed["before"]
    assert place.bot.decided("d", "m1", ASKS)["probability"] == changed["after"]
    lower = effect(place, tell(place.agent, place.escalated("e"), "not_needed"))
    assert lower["after"] < lower["before"] == changed["after"]


def test_an_outcomes_effect_is_its_own_and_not_that_of_what_came_with_it(place: Place) -> None:
    """Learned again one entry after the other, to the bit, though learned in one batch here."""
    handoffs = [place.escalated(f"c{number}", f"{ASKS} {number}") for number in range(5)]
    outcomes = at_once(5, lambda number: tell(place.agent, handoffs[number]))
    outcomes.sort(key=lambda outcome: int(outcome["position"]))
    store = place.service.baton.store
    standing = restore(store, place.name, until=outcomes[0]["position"] - 1)
    again: dict[int, LearnedEffect] = {}

    def note(entry: Entry, changed: LearnedEffect) -> None:
        again[entry.position] = changed

    with store.read() as connection:
        entries = ledger.tail(connection, place.name, standing.position, 10)
        turns = transcript_reader(connection, place.name)
        for entry in entries:
            standing.learn(entry, turns(entry.body["conversation_id"], entry.body["covers"]), note)
    for outcome in outcomes:
        seen = effect(place, outcome)
        assert seen["before"] == again[outcome["position"]].before
        assert seen["after"] == again[outcome["position"]].after


def test_a_correction_tells_its_own_effect_and_a_retraction_none(place: Place) -> None:
    outcome = tell(place.agent, place.escalated())
    path = f"/v1/outcomes/{outcome['id']}"
    answer = place.agent.put(path, json={"verdict": "not_needed"})
    assert answer.status_code == 200
    changed = effect(place, outcome)
    assert changed["position"] == answer.json()["position"] > outcome["position"]
    assert changed["after"] < changed["before"]
    assert place.agent.delete(path).status_code == 200
    gone = effect(place, outcome)
    assert (gone["before"], gone["after"]) == (None, None)
    assert "gone from the model" in gone["why"]


def test_what_teaches_nothing_says_so(place: Place) -> None:
    changed = effect(place, tell(place.agent, place.escalated(), "unknowable"))
    assert changed["after"] is None
    assert "counted apart" in changed["why"]
    refusal(place.agent.get("/v1/outcomes/o0/effect"), 404, "no_outcome")


# Questions


def test_questions_are_few_most_valuable_first_and_never_needed(place: Place) -> None:
    ann = place.named_agent("ann")
    tell(place.agent, place.escalated("c", "someone hacked my account"))
    texts = (
        ASKS,
        "someone hacked my account",
        "my lawyer will call you",
        "let me speak to a person",
    )
    handoffs = [place.escalated(f"c{number}", text) for number, text in enumerate(texts)]
    assert ann.got("/v1/questions")["questions"] == []
    for handoff in handoffs:
        ann.posted(f"/v1/handoffs/{handoff}/claim")
    by_value = {"uniform_share": 0.0}
    place.policy(questions=by_value)
    everything = ann.got("/v1/questions")["questions"]
    values = [question["value"] for question in everything]
    assert len(set(values)) == 4
    assert values == sorted(values, reverse=True)
    place.policy(questions=by_value | {"per_agent_per_day": 2})
    asked = ann.got("/v1/questions")
    assert (asked["limit"], asked["left"], asked["questions"]) == (2, 2, everything[:2])
    assert place.agent.got("/v1/questions")["questions"] == []
    tell(ann, everything[0]["handoff_id"])
    after = ann.got("/v1/questions")
    assert (after["answered"], after["left"], after["questions"]) == (1, 1, everything[1:2])
    tell(ann, everything[1]["handoff_id"])
    assert ann.got("/v1/questions")["questions"] == []
    for handoff in handoffs:
        ann.posted(f"/v1/handoffs/{handoff}/resolve")


def test_a_policy_may_ask_nothing(place: Place) -> None:
    place.policy(questions={"per_agent_per_day": 0})
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/claim")
    assert place.agent.got("/v1/questions") == {
        "limit": 0,
        "answered": 0,
        "left": 0,
        "questions": [],
    }


# Notes


def test_a_note_reaches_other_agents_and_never_the_bot(place: Place) -> None:
    handoff = place.escalated()
    ann = place.named_agent("ann")
    for _ in range(2):
        note = ann.posted(f"/v1/handoffs/{handoff}/note", {"text": "asked the warehouse"})
    remarks = place.agent.got(f"/v1/handoffs/{handoff}")["remarks"]
    assert [(one["agent"], one["text"]) for one in remarks] == [("ann", "asked the warehouse")]
    assert remarks[0]["at"] == note["at"]
    assert "warehouse" not in place.bot.get("/v1/conversations/c").text
    assert refusal(ann.post(f"/v1/handoffs/{handoff}/note", json={"text": ""}), 422)


def test_a_note_keeps_its_agents_claim(place: Place) -> None:
    handoff = place.escalated()
    until = place.agent.posted(f"/v1/handoffs/{handoff}/claim")["claim_expires_at"]
    place.agent.posted(f"/v1/handoffs/{handoff}/note", {"text": "on it"})
    assert place.agent.got(f"/v1/handoffs/{handoff}")["claim_expires_at"] > until


# Transfers


def test_a_transfer_waits_for_the_other_team_with_its_age_and_note(place: Place) -> None:
    handoff = place.escalated()
    ann = place.named_agent("ann")
    before = ann.posted(f"/v1/handoffs/{handoff}/claim")
    for _ in range(2):
        body = {"team": "legal", "note": "speaks of a contract"}
        moved = ann.posted(f"/v1/handoffs/{handoff}/transfer", body)
    assert (moved["team"], moved["status"], moved["claimed_by"]) == ("legal", "waiting", None)
    packet = place.agent.got(f"/v1/handoffs/{handoff}")
    assert packet["opened_at"] == before["opened_at"]
    assert (packet["team"], packet["suggested_team"]) == ("legal", "support")
    assert [(one["agent"], one["team"], one["text"]) for one in packet["remarks"]] == [
        ("ann", "legal", "speaks of a contract")
    ]
    queue = place.agent.got("/v1/handoffs?team=legal&status=waiting")["handoffs"]
    assert [one["id"] for one in queue] == [handoff]
    assert place.bot.decided("c", "m2", QUIET)["action"] == "human_active"


def test_a_transfer_says_when_the_other_team_is_there(place: Place) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][later.weekday()]
    hours = [{"days": [day], "opens": "08:00", "closes": "09:00"}]
    place.policy(teams=[{"name": "experts", "hours": hours}])
    moved = place.agent.posted(f"/v1/handoffs/{place.escalated()}/transfer", {"team": "experts"})
    assert datetime.fromisoformat(moved["promised_at"]).weekday() == later.weekday()


def test_a_transfer_to_nobody_is_refused_and_names_the_teams(place: Place) -> None:
    handoff = place.escalated()
    answer = place.agent.post(f"/v1/handoffs/{handoff}/transfer", json={"team": "nobody"})
    assert "legal" in refusal(answer, 422, "unknown_team")["hint"]
    assert place.agent.got(f"/v1/handoffs/{handoff}")["remarks"] == []


def test_what_another_agent_has_or_what_is_over_is_not_transferred(place: Place) -> None:
    handoff = place.escalated()
    ann, ben = place.named_agent("ann"), place.named_agent("ben")
    ann.posted(f"/v1/handoffs/{handoff}/claim")
    path, body = f"/v1/handoffs/{handoff}/transfer", {"team": "legal"}
    assert "ann" in refusal(ben.post(path, json=body), 409, "claimed_by_another")["message"]
    ann.posted(f"/v1/handoffs/{handoff}/resolve")
    refusal(ann.post(path, json=body), 409, "handoff_over")


def test_a_transfer_with_an_idempotency_key_moves_once(place: Place) -> None:
    handoff = place.escalated()
    header = {"Idempotency-Key": "once"}
    path = f"/v1/handoffs/{handoff}/transfer"
    moved = [place.agent.post(path, json={"team": "legal"}, headers=header).json()]
    place.agent.posted(path, {"team": "safety"})
    moved.append(place.agent.post(path, json={"team": "legal"}, headers=header).json())
    assert moved[0] == moved[1]
    assert place.agent.got(f"/v1/handoffs/{handoff}")["team"] == "safety"


# The packet


def test_the_packet_marks_what_led_here_and_tells_how_attempts_failed(place: Place) -> None:
    place.bot.decided("c", "m1", "my parcel is late", bot={"confidence": 0.2, "fallback": True})
    text = "this is useless. I want to talk to a human!"
    decided = place.bot.decided("c", "m2", text, bot={"tool_error": "timeout"})
    packet = place.agent.got(f"/v1/handoffs/{decided['handoff']['id']}")
    led = [one for one in packet["evidence"] if one["led"]]
    assert {(one["message_id"], one["signal"]) for one in led} == {("m2", "request")}
    assert "human" in text[led[0]["start"] : led[0]["stop"]]
    assert [attempt["failure"] for attempt in packet["attempts"]] == [
        "it did not understand; it was only 20% sure",
        "a tool failed: timeout",
    ]
    assert packet["message_id"] == "m2"
    assert [quote["message_id"] for quote in packet["summary"]][-1] == "m2"
    assert packet["outcome"] is None
    tell(place.agent, decided["handoff"]["id"], first_needed_message_id="m1")
    outcome = place.agent.got(f"/v1/handoffs/{decided['handoff']['id']}")["outcome"]
    assert (outcome["verdict"], outcome["first_needed_message_id"]) == ("needed", "m1")


def test_the_packet_of_four_times_as_many_turns_takes_as_many_statements_and_as_much_a_turn(
    place: Place,
) -> None:
    said = "my order AB-12345 has not come, I paid $42.50 on 3 March 2026 and nobody answers me"
    turns = [
        {"id": f"t{n}", "author": "bot" if n % 2 else "user", "text": f"{said}, again {n * 7}"}
        for n in range(199)
    ]

    def read(name: str, count: int) -> tuple[Asked, int]:
        decided = place.bot.decided(name, "m", ASKS, history=turns[: count - 1])
        handoff = decided["handoff"]["id"]
        with asked(place.service) as work:
            assert len(place.agent.got(f"/v1/handoffs/{handoff}")["transcript"]) == count + 1
        with place.service.baton.store.read() as connection:
            row = handoff_rows.handoff(connection, place.name, handoff)
            assert row is not None
            made = calls(lambda: brief.context_packet(connection, place.name, row._asdict()))
        return work, made

    (few, few_calls), (work, many_calls) = read("short", 50), read("long", 200)
    assert work.sql == few.sql
    assert work.steps <= 4 * few.steps
    assert many_calls < 4 * few_calls
