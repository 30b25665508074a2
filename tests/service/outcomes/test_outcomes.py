"""What an outcome teaches, and how outcomes are posted, corrected and retracted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.ledger.lessons import VERDICTS, WEIGHT_MAX, Lesson, lessons
from service.outcomes.record_outcome import record_silence
from service.store.conversations.batch import Batch, StateCache
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

LEGAL = "I will sue you, my lawyer will call"


store_url = on_both(stores=BOTH)


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("outcomes"), database=store_url) as running:
        yield running


def body(verdict: str, **changes: Any) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "begins": 1,
        "covers": 6,
        "escalated": None,
        "since": None,
    } | changes


def labels(verdict: str, scored: range | list[int], **changes: Any) -> dict[int, float]:
    return {one.seq: one.label for one in lessons(body(verdict, **changes), scored)}


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[dict[str, Any], list[int]]:
    """Any outcome that the service can write, and the scored places of its conversation."""
    length = draw(st.integers(1, 60))
    scored = sorted(draw(st.sets(st.integers(1, length))))
    covers = draw(st.integers(1, length))
    begins = draw(st.integers(1, covers))
    on_handoff = draw(st.booleans())
    verdict = draw(st.sampled_from(VERDICTS))
    found = body(
        verdict,
        begins=begins,
        covers=covers,
        escalated=covers if on_handoff else None,
        since=draw(st.none() | st.integers(1, covers)),
    )
    weights = st.floats(0.001, 100)
    chosen = draw(st.sets(st.integers(1, length), max_size=length)) if verdict == "labels" else ()
    found["labels"] = [(n, draw(st.floats(0, 1)), draw(weights)) for n in sorted(chosen)]
    return found, scored


# What each verdict teaches


def test_needed_since_a_message_teaches_that_it_was_needed_from_there_on() -> None:
    assert labels("needed", range(1, 9), escalated=6, since=4) == {
        1: 0.0,
        2: 0.0,
        3: 0.0,
        4: 1.0,
        5: 1.0,
        6: 1.0,
    }


def test_needed_without_a_message_teaches_of_the_escalating_one_alone() -> None:
    assert labels("needed", range(1, 9), escalated=6) == {6: 1.0}


def test_a_request_is_no_evidence_of_what_came_before_it() -> None:
    asked = labels("needed", range(1, 9), escalated=6, since=4, requested=True)
    assert asked == {1: 0.0, 2: 0.0, 3: 0.0, 6: 1.0}
    assert labels("needed", range(1, 9), escalated=6, since=1, requested=True) == {6: 1.0}
    refused = labels("not_needed", range(1, 9), escalated=6, requested=True)
    assert refused == dict.fromkeys(range(1, 7), 0.0)


def test_not_needed_teaches_that_nobody_was_needed_up_to_the_escalation() -> None:
    assert labels("not_needed", range(1, 9), escalated=4, covers=4) == dict.fromkeys(
        (1, 2, 3, 4), 0
    )


def test_missed_since_a_message_teaches_that_it_was_needed_from_there_to_the_end() -> None:
    assert labels("missed", [1, 3, 5, 6], since=3) == {1: 0.0, 3: 1.0, 5: 1.0, 6: 1.0}


def test_missed_without_a_message_teaches_of_the_last_scored_one_alone() -> None:
    assert labels("missed", [1, 3, 4]) == {4: 1.0}


def test_fine_teaches_that_nobody_was_needed_at_all() -> None:
    assert labels("fine", [1, 3, 6]) == {1: 0.0, 3: 0.0, 6: 0.0}


def test_unknowable_teaches_nothing() -> None:
    assert labels("unknowable", range(1, 9), escalated=6) == {}


def test_labels_teach_themselves() -> None:
    found = lessons(body("labels", labels=[(2, 0.25, 2.0), (5, 1, 1)]), [1, 2, 5])
    assert found == (Lesson(2, 0.25, 2.0), Lesson(5, 1.0, 1.0))


@given(outcomes())
def test_an_outcome_never_speaks_of_messages_outside_what_it_covers(
    drawn: tuple[dict[str, Any], list[int]],
) -> None:
    outcome, scored = drawn
    places = [one.seq for one in lessons(outcome, scored)]
    assert places == sorted(set(places))
    assert set(places) <= set(scored)
    assert all(outcome["begins"] <= place <= outcome["covers"] for place in places)


@given(outcomes())
def test_the_lessons_of_one_outcome_share_a_bounded_weight(
    drawn: tuple[dict[str, Any], list[int]],
) -> None:
    found = lessons(*drawn)
    assert sum(one.weight for one in found) <= WEIGHT_MAX * (1 + 1e-9)
    assert all(one.weight > 0 and 0 <= one.label <= 1 for one in found)


@given(outcomes())
def test_weight_is_shared_evenly_and_never_raised(
    drawn: tuple[dict[str, Any], list[int]],
) -> None:
    outcome, scored = drawn
    found = lessons(outcome, scored)
    given_weights = {seq: weight for seq, _, weight in outcome["labels"]}
    ratios = [one.weight / given_weights.get(one.seq, 1.0) for one in found]
    assert all(ratio <= 1 + 1e-9 for ratio in ratios)
    assert not ratios or max(ratios) - min(ratios) < 1e-9


@given(outcomes())
def test_the_need_of_a_person_begins_once_and_never_ends(
    drawn: tuple[dict[str, Any], list[int]],
) -> None:
    outcome, scored = drawn
    if outcome["verdict"] == "labels":
        return
    found = [one.label for one in lessons(outcome, scored)]
    assert found == sorted(found)
    if outcome["verdict"] in ("not_needed", "fine"):
        assert not any(found)
    if outcome["verdict"] in ("needed", "missed") and outcome["since"] is None:
        assert all(found)


@given(outcomes(), st.lists(st.integers(1, 30), max_size=10))
def test_messages_that_come_later_change_nothing(
    drawn: tuple[dict[str, Any], list[int]], later: list[int]
) -> None:
    outcome, scored = drawn
    more = scored + [outcome["covers"] + n for n in later if outcome["covers"] + n not in scored]
    assert lessons(outcome, sorted(set(more))) == lessons(outcome, scored)


@given(outcomes(), st.floats(0.01, 1))
def test_an_outcome_of_less_weight_teaches_the_same_more_faintly(
    drawn: tuple[dict[str, Any], list[int]], weight: float
) -> None:
    outcome, scored = drawn
    whole, part = lessons(outcome, scored), lessons(outcome | {"weight": weight}, scored)
    assert [(one.seq, one.label) for one in part] == [(one.seq, one.label) for one in whole]
    assert [one.weight for one in part] == pytest.approx([one.weight * weight for one in whole])


# Over HTTP


def told(place: Place, conversation: str = "c", text: str = LEGAL) -> str:
    """A conversation of two quiet messages and one that escalates; gives its handoff."""
    for n in range(2):
        place.bot.decided(conversation, f"m{n}", OTHERS[n])
    decided = place.bot.decided(conversation, "m2", text)
    found: str = decided["handoff"]["id"]
    return found


def learned(place: Place) -> tuple[str, int]:
    standing = place.engineer.got("/v1/standing")
    return standing["digest"], standing["position"]


def test_an_outcome_is_learned_at_once_and_says_what_was_recorded(place: Place) -> None:
    handoff = told(place)
    before = learned(place)
    given_ = {
        "verdict": "needed",
        "first_needed_message_id": "m1",
        "team": "legal",
        "reason": "threat",
        "note": "he called twice",
    }
    outcome = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", given_)
    assert {name: outcome[name] for name in given_} == given_
    assert (outcome["handoff_id"], outcome["conversation_id"]) == (handoff, "c")
    assert outcome["agent"] == f"{place.name}-agent"
    after = learned(place)
    assert after[1] == outcome["position"] == before[1] + 1
    assert after[0] != before[0]
    (entry,) = place.ledger()
    assert (entry["begins"], entry["since"], entry["escalated"], entry["covers"]) == (1, 2, 3, 3)
    assert place.agent.got("/v1/conversations/c")["outcomes"][0]["id"] == outcome["id"]


def test_the_same_outcome_again_is_the_same_outcome(place: Place) -> None:
    path = f"/v1/handoffs/{told(place)}/outcome"
    same(at_once(6, lambda _: place.agent.post(path, json={"verdict": "not_needed"})))
    assert len(place.ledger()) == 1


def test_a_different_second_verdict_is_refused_and_says_how_to_correct_it(place: Place) -> None:
    path = f"/v1/handoffs/{told(place)}/outcome"
    held = place.agent.posted(path, {"verdict": "needed"})
    before = place.content()
    for other in ({"verdict": "not_needed"}, {"verdict": "needed", "note": "more"}):
        error = refusal(place.agent.post(path, json=other), 409, "outcome_differs")
        assert f"PUT /v1/outcomes/{held['id']}" in error["hint"]
    assert place.content() == before


def test_contradicting_verdicts_at_once_leave_one_outcome(place: Place) -> None:
    path = f"/v1/handoffs/{told(place)}/outcome"
    verdicts = ("needed", "not_needed")
    answers = at_once(8, lambda n: place.agent.post(path, json={"verdict": verdicts[n % 2]}))
    assert sorted(one.status_code for one in answers) == [200] * 4 + [409] * 4
    assert len(place.ledger()) == 1


def test_a_correction_is_a_new_entry_that_names_what_it_replaces(place: Place) -> None:
    handoff = told(place)
    first = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "not_needed"})
    path = f"/v1/outcomes/{first['id']}"
    right = {"verdict": "needed", "first_needed_message_id": "m2", "team": "legal"}
    same([place.agent.put(path, json=right) for _ in range(3)])
    wrong, corrected = place.ledger()
    assert wrong["verdict"] == "not_needed"
    assert (corrected["verdict"], corrected["replaces"]) == ("needed", first["position"])
    assert (corrected["since"], corrected["covers"], corrected["escalated"]) == (3, 3, 3)
    (shown,) = place.agent.got("/v1/conversations/c")["outcomes"]
    assert (shown["id"], shown["verdict"], shown["team"]) == (first["id"], "needed", "legal")
    assert shown["position"] > first["position"]
    again = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", right)
    assert again["id"] == first["id"]


def test_a_correction_to_what_already_stands_writes_nothing(place: Place) -> None:
    outcome = place.agent.posted(f"/v1/handoffs/{told(place)}/outcome", {"verdict": "needed"})
    answer = place.agent.put(f"/v1/outcomes/{outcome['id']}", json={"verdict": "needed"})
    assert answer.json() == outcome
    assert len(place.ledger()) == 1


def test_a_retraction_is_an_entry_and_frees_the_handoff_for_another_outcome(place: Place) -> None:
    handoff = told(place)
    outcome = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    path = f"/v1/outcomes/{outcome['id']}"
    gone = same(at_once(4, lambda _: place.agent.delete(path)))
    assert gone["retracted_at"] is not None
    (entry,) = place.ledger("retraction")
    assert entry["replaces"] == outcome["position"]
    late = place.agent.put(path, json={"verdict": "not_needed"})
    refusal(late, 409, "outcome_retracted")
    other = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "not_needed"})
    assert other["id"] != outcome["id"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_unknown_outcome_is_named(place: Place, method: str) -> None:
    body = {"verdict": "needed"} if method == "PUT" else None
    answer = place.agent.request(method, "/v1/outcomes/o0", json=body)
    assert "o0" in refusal(answer, 404, "no_outcome")["message"]


def test_an_unknown_first_message_is_refused_by_field(place: Place) -> None:
    handoff = told(place)
    given_ = {"verdict": "needed", "first_needed_message_id": "nope"}
    before = place.content()
    answer = place.agent.post(f"/v1/handoffs/{handoff}/outcome", json=given_)
    error = refusal(answer, 422, "unknown_message")
    assert error["field"] == "first_needed_message_id"
    assert "GET /v1/conversations/c" in error["hint"]
    assert place.content() == before


def test_a_message_after_the_handoff_cannot_be_the_first_that_needed_it(place: Place) -> None:
    handoff = told(place)
    place.bot.decided("c", "late", QUIET)
    given_ = {"verdict": "needed", "first_needed_message_id": "late"}
    answer = place.agent.post(f"/v1/handoffs/{handoff}/outcome", json=given_)
    assert refusal(answer, 422, "message_after_handoff")["field"] == "first_needed_message_id"


@pytest.mark.parametrize("verdict", ["not_needed", "unknowable"])
def test_a_first_message_goes_only_with_a_need(place: Place, verdict: str) -> None:
    given_ = {"verdict": verdict, "first_needed_message_id": "m1"}
    error = refusal(place.agent.post(f"/v1/handoffs/{told(place)}/outcome", json=given_), 422)
    assert "first_needed_message_id goes only with verdict needed" in error["message"]


def test_a_second_handoff_of_a_conversation_is_judged_from_its_return_on(place: Place) -> None:
    place.policy(cooldown_messages=0)
    first = told(place)
    place.agent.posted(f"/v1/handoffs/{first}/outcome", {"verdict": "not_needed"})
    place.agent.posted(f"/v1/handoffs/{first}/return")
    place.bot.decided("c", "m3", QUIET)
    second = place.bot.decided("c", "m4", "you hear from my attorney")["handoff"]["id"]
    place.agent.posted(f"/v1/handoffs/{second}/outcome", {"verdict": "not_needed"})
    one, other = place.ledger()
    assert (one["begins"], one["covers"]) == (1, 3)
    assert (other["begins"], other["covers"]) == (6, 7)
    assert place.engineer.got("/v1/standing")["position"] == 5


def test_a_missed_conversation_teaches_from_the_message_that_needed_a_person(place: Place) -> None:
    for n in range(3):
        place.bot.decided("c", f"m{n}", OTHERS[n])
    given_ = {"verdict": "missed", "first_needed_message_id": "m1", "source": "complaint"}
    outcome = place.bot.posted("/v1/conversations/c/outcome", given_)
    assert (outcome["verdict"], outcome["source"], outcome["handoff_id"]) == (
        "missed",
        "complaint",
        None,
    )
    (entry,) = place.ledger()
    assert (entry["begins"], entry["covers"], entry["since"], entry["escalated"]) == (1, 3, 2, None)
    window = place.engineer.got("/v1/quality")["model"]["window"]
    assert (window["n"], window["positives"]) == (3, 2)


def test_a_kept_conversation_may_be_judged_in_the_words_of_a_handoff(place: Place) -> None:
    for name, word, kept in (("a", "needed", "missed"), ("b", "not_needed", "fine")):
        place.bot.decided(name, "m1", QUIET)
        outcome = place.bot.posted(f"/v1/conversations/{name}/outcome", {"verdict": word})
        assert outcome["verdict"] == kept


def test_an_outcome_of_an_unknown_conversation_makes_none(place: Place) -> None:
    answer = place.bot.post("/v1/conversations/nope/outcome", json={"verdict": "fine"})
    refusal(answer, 404, "no_conversation")
    assert place.content()["conversation"] == 0


def test_labels_of_messages_take_an_engineers_key(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    given_ = {"labels": [{"message_id": "m1", "label": 0.75, "weight": 2}]}
    for caller in (place.bot, place.agent):
        refusal(caller.post("/v1/conversations/c/outcome", json=given_), 403, "role_too_low")
    assert place.ledger() == []
    outcome = place.engineer.posted("/v1/conversations/c/outcome", given_)
    assert outcome["verdict"] == "labels"
    assert place.ledger()[0]["labels"] == [[1, 0.75, 2.0]]


def test_labels_name_scored_messages_of_the_conversation_each_once(place: Place) -> None:
    history = [{"id": "h1", "author": "bot", "text": "hello"}]
    place.bot.decided("c", "m1", QUIET, history=history)
    before = place.content()
    for names, code in ((["h1"], "message_not_scored"), (["nope"], "unknown_message")):
        given_ = {"labels": [{"message_id": name, "label": 1} for name in names]}
        error = refusal(place.engineer.post("/v1/conversations/c/outcome", json=given_), 422, code)
        assert error["field"] == "labels"
    twice = {"labels": [{"message_id": "m1", "label": label} for label in (0, 1)]}
    error = refusal(place.engineer.post("/v1/conversations/c/outcome", json=twice), 422)
    assert "once" in error["message"]
    both = {"verdict": "missed", "labels": [{"message_id": "m1", "label": 1}]}
    error = refusal(place.engineer.post("/v1/conversations/c/outcome", json=both), 422)
    assert "either verdict or labels" in error["message"]
    assert place.content() == before


def test_a_message_appended_and_then_scored_can_be_labelled(place: Place) -> None:
    turns = {"messages": [{"id": "b1", "author": "bot", "text": "I cannot help with that."}]}
    place.bot.posted("/v1/conversations/c/messages", turns)
    place.bot.decided("c", "b1", "I cannot help with that.", author="bot")
    given_ = {"labels": [{"message_id": "b1", "label": 1}]}
    place.engineer.posted("/v1/conversations/c/outcome", given_)
    assert place.engineer.got("/v1/quality")["model"]["lessons"] == 1


def test_what_a_rule_led_to_teaches_but_speaks_neither_for_nor_against_the_model(
    place: Place,
) -> None:
    place.policy(costs={"unneeded": 1e6, "missed": 1e-6, "ask": 1e6})
    handoff = told(place, text=ASKS)
    before = learned(place)
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "not_needed"})
    assert learned(place)[0] != before[0]
    assert place.engineer.got("/v1/quality")["model"]["lessons"] == 0


def test_what_the_model_alone_led_to_is_measured(place: Place) -> None:
    place.policy(costs={"unneeded": 1e-6, "missed": 1e6, "ask": 1e6})
    handoff = place.bot.decided("c", "m1", QUIET)["handoff"]["id"]
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "not_needed"})
    assert place.engineer.got("/v1/quality")["model"]["lessons"] == 1


def test_unknowable_is_recorded_and_teaches_nothing(place: Place) -> None:
    handoff = told(place)
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "unknowable"})
    assert place.engineer.got("/v1/quality")["model"]["lessons"] == 0
    assert place.ledger()[0]["verdict"] == "unknowable"


def test_the_model_comes_to_believe_what_it_is_told(place: Place) -> None:
    before = place.bot.decided("probe0", "m", "the zebra invoice is wrong")["probability"]
    for n in range(12):
        place.bot.decided(f"c{n}", "m", "the zebra invoice is wrong")
        given_ = {"labels": [{"message_id": "m", "label": 0}]}
        place.engineer.posted(f"/v1/conversations/c{n}/outcome", given_)
    after = place.bot.decided("probe1", "m", "the zebra invoice is wrong")["probability"]
    assert after < before / 2


@pytest.mark.parametrize("source", ["audit", "silence", "returned"])
def test_nobody_passes_for_an_audit_or_for_what_only_baton_knows(place: Place, source: str) -> None:
    place.bot.decided("c", "m1", QUIET)
    answer = place.bot.post(
        "/v1/conversations/c/outcome", json={"verdict": "missed", "source": source}
    )
    assert "Baton's own" in refusal(answer, 422)["message"]
    assert place.ledger() == []


def test_a_complaint_outweighs_the_silence_before_it(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    place.bot.posted("/v1/conversations/c/close", {"resolution": "resolved"})
    with place.service.baton.store.write() as connection:
        batch = Batch(connection, StateCache())
        record_silence(batch, place.name, "c", 0.1)
        batch.flush()
    complaint = {"verdict": "missed", "source": "complaint"}
    told_ = place.bot.posted("/v1/conversations/c/outcome", complaint)
    assert (told_["verdict"], told_["source"]) == ("missed", "complaint")
    silence, late = place.ledger()
    assert (silence["source"], silence["weight"]) == ("silence", 0.1)
    assert late["replaces"] == 3
    assert place.bot.posted("/v1/conversations/c/outcome", complaint)["id"] == told_["id"]
