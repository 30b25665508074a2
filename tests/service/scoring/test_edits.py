"""An edited message is decided anew, as a newer version of itself at the conversation's end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from experiments.replay.client import path_of
from tests.postgres import on_both
from tests.service_in_process import (
    ASKS,
    OTHERS,
    QUIET,
    Caller,
    InProcess,
    Place,
    at_once,
    refusal,
    same,
    serving,
)

store_url = on_both()
DANGER = "I am going to kill myself"
TYPO = "wheer is the parcel that I ordered from you on monday"
MENDED = "where is the parcel that I ordered from you on monday"


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("edits"), database=store_url) as running:
        yield running


def edit(caller: Caller, message: str, text: str, conversation: str = "c", **more: Any) -> Any:
    path = path_of("conversations", conversation, "messages", message)
    return caller.put(path, json={"text": text} | more)


def edited(place: Place, message: str, text: str, **more: Any) -> Any:
    answer = edit(place.bot, message, text, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def transcript(place: Place, conversation: str = "c") -> list[tuple[str, str, str | None]]:
    found = place.agent.got(f"/v1/conversations/{conversation}")["messages"]
    return [(one["id"], one["text"], one["edits"]) for one in found if one["author"] == "user"]


def test_an_edit_is_decided_about_by_its_new_text_and_both_versions_stay(place: Place) -> None:
    assert place.bot.decided("c", "m1", QUIET)["action"] == "continue"
    assert edited(place, "m1", ASKS)["action"] == "escalate"
    assert transcript(place) == [("m1", QUIET, None), ("m1#2", ASKS, "m1")]


def test_an_edit_that_takes_a_request_back_still_finds_the_person_there(place: Place) -> None:
    place.escalated()
    assert edited(place, "c-asks", QUIET)["action"] == "human_active"


def test_an_urgent_edit_raises_the_handoff_that_is_open(place: Place) -> None:
    place.escalated()
    raised = edited(place, "c-asks", DANGER)
    assert (raised["action"], raised["handoff"]["raised"]) == ("human_active", True)
    assert raised["handoff"]["priority"] == 1


def test_an_urgent_edit_escalates_in_a_cool_down(place: Place) -> None:
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/return")
    assert place.bot.decided("c", "m1", QUIET)["action"] == "continue"
    assert edited(place, "m1", DANGER)["action"] == "escalate"


def test_the_same_edit_again_has_one_effect_and_one_answer(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    before = edited(place, "m1", ASKS)
    content = place.content()
    assert same(at_once(4, lambda _: edit(place.bot, "m1", ASKS))) == before
    assert place.content() == content


def test_an_edit_to_what_it_says_already_is_the_decision_about_it(place: Place) -> None:
    first = place.bot.decided("c", "m1", QUIET)
    assert edited(place, "m1", QUIET) == first
    assert transcript(place) == [("m1", QUIET, None)]


def test_edits_at_once_are_one_after_the_other(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    answers = at_once(4, lambda n: edit(place.bot, "m1", OTHERS[n]))
    assert [one.status_code for one in answers] == [200] * 4
    assert {name for name, _, _ in transcript(place)} == {"m1", *(f"m1#{n}" for n in range(2, 6))}


def test_the_first_version_sent_again_has_its_own_decision(place: Place) -> None:
    first = place.bot.decided("c", "m1", QUIET)
    edited(place, "m1", OTHERS[0])
    assert place.bot.decided("c", "m1", QUIET) == first
    refusal(place.bot.score("c", "m1", OTHERS[0]), 409, "message_differs")


def test_an_id_that_looks_like_a_version_is_not_taken_twice(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    place.bot.decided("c", "m1#2", OTHERS[0])
    edited(place, "m1", OTHERS[1])
    assert ("m1#3", OTHERS[1], "m1") in transcript(place)


def test_a_mended_typo_is_no_question_asked_again(place: Place) -> None:
    place.bot.decided("c", "m1", TYPO)
    for text in (TYPO + " ", MENDED, MENDED + "?"):
        found = edited(place, "m1", text)
        assert found["action"] == "continue", found
        assert "repeated_by_customer" not in {one["name"] for one in found["triggers"]}
    assert place.bot.decided("c", "m2", MENDED)["action"] == "continue"
    last = place.bot.decided("c", "m3", MENDED)
    assert "repeated_by_customer" in {one["name"] for one in last["triggers"]}


def test_a_message_that_came_as_history_is_decided_about_when_it_is_edited(place: Place) -> None:
    history = [{"id": "h", "author": "user", "text": QUIET}]
    place.bot.decided("c", "m1", OTHERS[0], history=history)
    assert edited(place, "h", ASKS)["action"] == "escalate"


def test_an_edit_in_a_closed_conversation_opens_it_again(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    place.bot.posted("/v1/conversations/c/close", {"resolution": "resolved"})
    assert edited(place, "m1", ASKS)["action"] == "escalate"
    assert place.agent.got("/v1/conversations/c")["status"] == "open"


def test_a_verdict_may_name_the_version_since_which_a_person_was_needed(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    edited(place, "m1", OTHERS[1])
    body = {"verdict": "missed", "first_needed_message_id": "m1#2"}
    place.agent.posted("/v1/conversations/c/outcome", body)
    assert place.ledger()[-1]["since"] == 2


def test_every_decision_among_edits_is_made_again_to_the_bit(place: Place) -> None:
    found = [place.bot.decided("c", "m1", QUIET), edited(place, "m1", OTHERS[0])]
    found += [place.bot.decided("c", "m2", OTHERS[1]), edited(place, "m1", MENDED)]
    place.agent.posted("/v1/conversations/c/outcome", {"verdict": "fine"})
    found += [edited(place, "m2", MENDED)]
    for one in found:
        again = place.agent.got(f"/v1/decisions/{one['decision_id']}/replay")
        assert again["identical"] is True, again


def test_only_what_the_customer_said_is_edited(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET, history=[{"id": "b", "author": "bot", "text": "hi"}])
    before = place.content()
    refusal(edit(place.bot, "b", ASKS), 409, "not_the_customers")
    refusal(edit(place.bot, "nothing", ASKS), 404, "no_message")
    refusal(edit(place.bot, "m1", ASKS, conversation="nowhere"), 404, "no_message")
    refusal(edit(place.bot, "m1", ASKS, author="agent"), 422)
    refusal(place.bot.put("/v1/conversations/c/messages/m1", json={}), 422)
    edited(place, "m1", OTHERS[0])
    refusal(edit(place.bot, "m1#2", ASKS), 404, "no_message")
    assert place.content() == before | {"message": 3, "decision": 2}


@pytest.mark.parametrize("name", ["a/b", "a b", "ü#1", "m?x=1", "100%"])
def test_ids_of_any_letters_are_edited_and_removed(place: Place, name: str) -> None:
    place.bot.decided(name, name, QUIET)
    path = path_of("conversations", name, "messages", name)
    assert place.bot.put(path, json={"text": ASKS}).json()["action"] == "escalate"
    assert place.bot.delete(path).json()["message_id"] == name


def test_another_workspace_edits_nothing(service: InProcess, place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    refusal(edit(service.workspace().bot, "m1", ASKS), 404, "no_message")
    assert transcript(place) == [("m1", QUIET, None)]
