"""Where a policy redacts, nothing that it names is stored, learned or answered, by any route."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel

from tests.service_in_process import QUIET, InProcess, Place, refusal, serving

CARD, MAIL = "5500 0000 0000 0004", "ana@shop.example.org"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("redaction")) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


def everything(place: Place) -> str:
    tables = [one for one in SQLModel.metadata.sorted_tables if "workspace" in one.c]
    with place.service.baton.store.read() as connection:
        rows = [
            connection.execute(select(one).where(one.c.workspace == place.name)).all()
            for one in tables
        ]
    return repr(rows)


def test_no_route_that_takes_a_customers_words_stores_what_the_policy_redacts(
    place: Place,
) -> None:
    place.policy(redaction={"kinds": ["card", "email"]})
    text = f"my card {CARD} was charged, mail {MAIL}; {QUIET * 20}"
    turn = {"id": "h1", "author": "user", "text": f"it is {CARD}"}
    place.bot.decided("c", "m1", text, history=[turn])
    place.bot.posted(
        "/v1/score/batch",
        {"items": [{"conversation_id": "d", "message": {"id": "m1", "text": CARD}}]},
    )
    said = {"id": "b1", "author": "bot", "text": f"you wrote {CARD}?"}
    place.bot.posted("/v1/conversations/c/messages", {"messages": [said]})
    handed = {"conversation_id": "c", "reason": "other", "summary": f"card {CARD}"}
    place.bot.posted("/v1/handoffs", handed)
    place.agent.got("/v1/conversations/c")
    stored = everything(place)
    assert CARD not in stored
    assert MAIL not in stored
    messages = place.agent.got("/v1/conversations/c")["messages"]
    texts = {turn["id"]: turn["text"] for turn in messages}
    assert texts["h1"] == "it is [card]"
    assert texts["m1"].startswith("my card [card] was charged, mail [email];")
    assert texts["b1"] == "you wrote [card]?"


def test_the_decision_is_that_of_the_redacted_text_and_replays_to_the_bit(place: Place) -> None:
    place.policy(redaction={"kinds": ["card"]})
    decided = place.bot.decided("c", "m1", f"{QUIET} {CARD}")
    plain = place.bot.decided("d", "m1", f"{QUIET} [card]")
    assert decided["probability"] == plain["probability"]
    replayed = place.agent.got(f"/v1/decisions/{decided['decision_id']}/replay")
    assert replayed["identical"] is True


def test_a_repeated_message_is_the_same_one_whatever_the_policy_became_meanwhile(
    place: Place,
) -> None:
    text = f"{QUIET} {CARD}"
    before = place.bot.decided("c", "m1", text)
    place.policy(redaction={"kinds": ["card"]})
    assert place.bot.decided("c", "m1", text) == before
    after = place.bot.decided("d", "m1", text)
    place.policy(redaction={"kinds": []})
    assert place.bot.decided("d", "m1", text) == after
    refusal(place.bot.score("d", "m1", f"{QUIET} and more"), 409, "message_differs")


def test_a_kind_that_nobody_knows_is_refused(place: Place) -> None:
    policy = place.engineer.got("/v1/policy") | {"redaction": {"kinds": ["shoe size"]}}
    refusal(place.engineer.put("/v1/policy", json=policy), 422)
