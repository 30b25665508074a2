"""A message that its customer removed: its words are nowhere, and what they taught goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel

from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions
from service.privacy.erasure import erase
from service.store.database.transactions import Store
from service.versions.model_lines import rebuild
from service.versions.restore import restore
from tests.postgres import on_both
from tests.running import until
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
SECRET = "my card is 5500 0000 0000 0004 and I want to talk to a human"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("removal")


@pytest.fixture(scope="module")
def service(store_url: str, home: Any) -> Iterator[InProcess]:
    with serving(home, database=store_url) as running:
        yield running


@pytest.fixture(scope="module")
def other(store_url: str, home: Any, service: InProcess) -> Iterator[InProcess]:
    """A second process on the same store."""
    with serving(home, database=store_url, poll_seconds=0.02) as running:
        yield running


@pytest.fixture
def store(place: Place) -> Store:
    return place.service.baton.store


def remove(caller: Caller, message: str, conversation: str = "c") -> Any:
    return caller.delete(f"/v1/conversations/{conversation}/messages/{message}")


def removed(place: Place, message: str, conversation: str = "c") -> int:
    answer = remove(place.bot, message, conversation)
    assert answer.status_code == 200, answer.text
    position: int = answer.json()["position"]
    return position


def fine(place: Place, conversation: str = "c", verdict: str = "fine") -> None:
    place.agent.posted(f"/v1/conversations/{conversation}/outcome", {"verdict": verdict})


def replay(place: Place, decided: dict[str, Any]) -> Any:
    return place.agent.got(f"/v1/decisions/{decided['decision_id']}/replay")


def digest(place: Place) -> str:
    return str(place.engineer.got("/v1/standing")["digest"])


def everything(store: Store) -> str:
    """All that the database holds, as text."""
    with store.read() as connection:
        rows = [connection.execute(select(one)).all() for one in SQLModel.metadata.sorted_tables]
    return repr(rows)


def test_its_words_are_nowhere_and_its_place_stays(place: Place, store: Store) -> None:
    place.bot.decided("c", "m1", QUIET)
    body = {"id": "m2", "text": SECRET, "attachments": [{"type": "image", "name": "5500 0000.jpg"}]}
    decided = place.bot.posted("/v1/score", {"conversation_id": "c", "message": body})
    assert decided["action"] == "escalate"
    place.bot.decided("c", "m3", OTHERS[0])
    assert "5500 0000" in everything(store)
    removed(place, "m2")
    for word in ("5500 0000", "talk to a human"):
        assert word not in everything(store)
    found = place.agent.got("/v1/conversations/c")
    assert [one["id"] for one in found["messages"] if one["author"] == "user"] == ["m1", "m2", "m3"]
    (gone,) = [one for one in found["messages"] if one["id"] == "m2"]
    assert (gone["text"], gone["attachments"], gone["scored"]) == ("", None, False)
    assert found["handoff_id"] == decided["handoff"]["id"]
    packet = place.agent.got(f"/v1/handoffs/{found['handoff_id']}")
    assert "5500" not in repr(packet)


def test_every_version_of_an_edited_message_goes(place: Place, store: Store) -> None:
    place.bot.decided("c", "m1", SECRET)
    body = {"text": SECRET + " now, 5500 0000 it is"}
    assert place.bot.put("/v1/conversations/c/messages/m1", json=body).status_code == 200
    removed(place, "m1")
    assert "5500 0000" not in everything(store)


def test_a_decision_after_a_removal_replays_whatever_was_replayed_before_it(place: Place) -> None:
    """Not from the older state that the replay keeps: it would come upon words that are gone."""
    early = place.bot.decided("e", "m1", OTHERS[0])
    place.bot.decided("c", "m1", QUIET)
    place.agent.posted("/v1/conversations/c/outcome", {"verdict": "missed"})
    assert replay(place, early)["identical"] is True
    removed(place, "m1")
    assert replay(place, place.bot.decided("f", "m1", OTHERS[1]))["identical"] is True


def test_a_request_that_is_split_is_quoted_by_no_later_decision(place: Place, store: Store) -> None:
    place.bot.decided("c", "m1", "i want to talk")
    later = place.bot.decided("c", "m2", "to a human")
    assert later["action"] == "escalate"
    removed(place, "m1")
    assert "i want to talk" not in everything(store)
    row = place.agent.got(f"/v1/decisions/{later['decision_id']}")
    assert row["action"] == "escalate"
    assert row["reasons"][0]["text"] == "the customer removed the words that showed it"


def test_removing_twice_is_removing_once(place: Place) -> None:
    place.bot.decided("c", "m1", SECRET)
    fine(place)
    answers = at_once(4, lambda _: remove(place.bot, "m1"))
    assert same(answers) == remove(place.bot, "m1").json()
    assert len(place.ledger("erasure")) == 1


def test_what_is_removed_is_neither_scored_again_nor_edited(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    removed(place, "m1")
    refusal(place.bot.score("c", "m1", QUIET), 409, "message_removed")
    edit = place.bot.put("/v1/conversations/c/messages/m1", json={"text": ASKS})
    refusal(edit, 409, "message_removed")


def test_only_what_the_customer_said_is_removed(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET, history=[{"id": "b", "author": "bot", "text": "hi"}])
    before = place.content()
    refusal(remove(place.bot, "b"), 409, "not_the_customers")
    refusal(remove(place.bot, "nothing"), 404, "no_message")
    refusal(remove(place.bot, "m1", "nowhere"), 404, "no_message")
    assert place.content() == before


def test_later_messages_are_decided_as_if_nothing_had_been_said_there(
    place: Place, service: InProcess
) -> None:
    without = service.workspace()
    for one in (place, without):
        one.bot.decided("c", "m1", OTHERS[0])
    for number in range(3):
        place.bot.decided("c", f"r{number}", "where is my parcel that I ordered")
        removed(place, f"r{number}")
    again = place.bot.decided("c", "m2", "where is my parcel that I ordered")
    assert again["action"] == "continue"
    assert "repeated_by_customer" not in {one["name"] for one in again["triggers"]}


def test_another_process_forgets_the_words_too(place: Place, other: InProcess) -> None:
    elsewhere = other.caller(place.keys["bot"])
    for number in range(2):
        elsewhere.decided("c", f"r{number}", "where is my parcel that I ordered")
        removed(place, f"r{number}")
    there = elsewhere.decided("c", "m2", "where is my parcel that I ordered")
    assert there["action"] == "continue"
    assert replay(place, there)["identical"] is True


def test_what_it_taught_is_void_and_every_process_holds_one_model(
    place: Place, store: Store, other: InProcess
) -> None:
    for name in ("a", "c", "b"):
        place.bot.decided(name, "m1", OTHERS[sum(map(ord, name)) % len(OTHERS)])
        place.bot.decided(name, "m2", OTHERS[1])
        fine(place, name, "missed")
    before = digest(place)
    position = removed(place, "m2")
    (entry,) = place.ledger("erasure")
    assert entry["message_id"] == "m2"
    assert entry["replaces_all"] == [4]
    elsewhere = other.caller(place.keys["engineer"])
    for engineer in (place.engineer, elsewhere):
        until(lambda: engineer.got("/v1/standing")["position"] == position, "followed")  # noqa: B023
        assert engineer.got("/v1/standing")["digest"] == before
    assert checkpoint.digest(restore(store, place.name)) == before
    place.bot.decided("d", "m1", OTHERS[0])
    fine(place, "d")
    assert checkpoint.digest(restore(store, place.name)) == digest(place)


def test_a_rebuild_is_as_if_its_outcomes_had_never_come(
    service: InProcess, place: Place, store: Store
) -> None:
    never = service.workspace()
    for one, names in ((place, ("a", "c", "b")), (never, ("a", "b"))):
        for name in names:
            one.bot.decided(name, "m1", OTHERS[sum(map(ord, name)) % len(OTHERS)])
            fine(one, name, "missed")
    removed(place, "m1")
    held = rebuild(store, place.name, "bayes-4", Exclusions())
    assert checkpoint.digest(held) == checkpoint.digest(
        rebuild(store, never.name, "bayes-4", Exclusions())
    )


def test_an_outcome_that_ended_before_it_still_teaches(place: Place, store: Store) -> None:
    place.bot.decided("c", "m1", OTHERS[0])
    fine(place)
    place.bot.decided("c", "m2", OTHERS[1])
    removed(place, "m2")
    assert place.ledger("erasure")[0]["replaces_all"] == []
    assert checkpoint.digest(restore(store, place.name)) == digest(place)


def test_an_outcome_that_comes_later_teaches_by_what_is_left(place: Place, store: Store) -> None:
    place.bot.decided("c", "m1", OTHERS[0])
    place.bot.decided("c", "m2", OTHERS[1])
    removed(place, "m1")
    before = digest(place)
    fine(place)
    assert digest(place) != before
    assert checkpoint.digest(restore(store, place.name)) == digest(place)


def test_decisions_before_and_after_it_are_made_again_and_those_of_it_are_not(
    place: Place,
) -> None:
    first = place.bot.decided("c", "m1", OTHERS[0])
    of_it = [place.bot.decided("c", f"m{n}", OTHERS[n]) for n in (2, 3)]
    removed(place, "m2")
    after = place.bot.decided("c", "m4", OTHERS[4])
    fine(place)
    for one in (first, after):
        assert replay(place, one)["identical"] is True
    for one in of_it:
        found = replay(place, one)
        assert (found["identical"], found["again"]) == (None, None)
        assert "removed" in found["why"]


def test_a_decision_elsewhere_that_stood_on_its_lesson_says_why_it_cannot_be_made_again(
    place: Place,
) -> None:
    place.bot.decided("c", "m1", OTHERS[0])
    fine(place, verdict="missed")
    elsewhere = place.bot.decided("d", "m1", OTHERS[1])
    assert replay(place, elsewhere)["identical"] is True
    removed(place, "m1")
    later = place.bot.decided("e", "m1", OTHERS[1])
    assert replay(place, later)["identical"] is True
    found = replay(place, place.bot.decided("d", "m1", OTHERS[1]))
    assert found["identical"] in (True, None)
    assert found["identical"] or "removed" in found["why"]


def test_a_conversation_with_a_removed_message_can_be_erased(place: Place, store: Store) -> None:
    place.bot.decided("c", "m1", SECRET)
    place.bot.decided("d", "m1", QUIET)
    place.agent.posted(
        f"/v1/handoffs/{place.agent.got('/v1/conversations/c')['handoff_id']}/resolve"
    )
    removed(place, "m1")
    done = erase(store, place.name, "c", actor="dana")
    assert done.position > len(place.ledger("erasure"))
    assert place.agent.got("/v1/conversations/c")["messages"] == []


def test_a_message_of_another_workspace_stays(service: InProcess, place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    refusal(remove(service.workspace().bot, "m1"), 404, "no_message")
    assert place.agent.got("/v1/conversations/c")["messages"][0]["text"] == QUIET
