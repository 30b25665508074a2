"""The original of a redacted message is kept where the policy says so: encrypted, shown to agents
only where it says that, too, and gone with the words it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel

from service.operations.backup import export_conversations
from service.privacy.erasure import erase
from service.privacy.originals import originals
from service.store import security_log
from service.store.conversations import original_rows, removal
from service.store.database.transactions import table
from service.store.tables import Original
from tests.service_in_process import QUIET, InProcess, Place, refusal, serving
from tests.waiting import until

CARD = "5500 0000 0000 0004"
TEXT = f"{QUIET} {CARD}"
LONG = f"{CARD} was charged; {QUIET * 60}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("originals")


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[InProcess]:
    with serving(home, secret_key="of the installation") as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    place = service.workspace()
    place.policy(redaction={"kinds": ["card"], "originals": "agents"})
    customer = {"customer_id": "ana"}
    place.bot.decided("c", "m1", TEXT, attributes=customer)
    place.bot.decided("c", "m2", LONG)
    return place


def kept(place: Place) -> dict[str, str]:
    with place.service.baton.store.read() as connection:
        return original_rows.sealed(connection, place.name, "c")


def read(place: Place, message: str = "m1") -> str:
    answer = place.agent.got(f"/v1/conversations/c/messages/{message}/original")
    return str(answer["text"])


def subjects_read(place: Place) -> set[str]:
    with place.service.baton.store.read() as connection:
        events = security_log.newest(connection, 200)
    return {
        event.subject
        for event in events
        if event.kind == "original_read" and event.workspace == place.name
    }


def test_agents_read_it_where_the_policy_says_so_and_each_reading_is_recorded(
    place: Place,
) -> None:
    assert [read(place, name) for name in ("m1", "m2")] == [TEXT, LONG]
    until(lambda: {"c m1", "c m2"} <= subjects_read(place), "both are in the security log")
    path = "/v1/conversations/c/messages/m1/original"
    refusal(place.bot.get(path), 403)
    place.policy(redaction={"kinds": ["card"], "originals": "sealed"})
    refusal(place.agent.get(path), 403, "originals_not_shown")
    place.bot.decided("c", "m3", QUIET)
    place.policy(redaction={"kinds": ["card"], "originals": "agents"})
    refusal(place.agent.get("/v1/conversations/c/messages/m3/original"), 404, "no_original")


def test_it_stands_nowhere_in_clear_and_in_no_export(
    service: InProcess, place: Place, home: Path
) -> None:
    assert sorted(kept(place)) == ["m1", "m2"]
    tables = SQLModel.metadata.sorted_tables
    with service.baton.store.read() as connection:
        stored = repr([connection.execute(select(one)).all() for one in tables])
    assert CARD not in stored
    exported = "".join(export_conversations(service.baton.store, place.name))
    assert "[card]" in exported
    assert CARD not in exported
    assert not any(sealed in exported for sealed in kept(place).values())
    assert not any(CARD.encode() in path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_what_was_redacted_is_recorded_with_the_message(place: Place) -> None:
    messages = place.agent.got("/v1/conversations/c")["messages"]
    redacted = {turn["id"]: turn["redacted"] for turn in messages if turn["author"] == "user"}
    assert redacted == {"m1": "card", "m2": "card"}


def test_a_request_about_the_person_gets_it_until_it_is_erased(
    service: InProcess, place: Place
) -> None:
    [conversation] = place.admin.got("/v1/people/ana")["conversations"]
    said = {turn["id"]: turn.get("original") for turn in conversation["messages"]}
    assert said["m1"] == TEXT
    erase(service.baton.store, place.name, "c", actor="test")
    assert kept(place) == {}


def test_a_message_that_the_customer_takes_back_takes_its_original_along(place: Place) -> None:
    assert place.bot.delete("/v1/conversations/c/messages/m1").status_code == 200
    assert sorted(kept(place)) == ["m2"]


def test_retention_removes_it_with_the_text(service: InProcess, place: Place) -> None:
    with service.baton.store.write() as connection:
        removal.remove_text(connection, place.name, ["c"])
        left = connection.execute(
            select(table(Original)).where(table(Original).c.workspace == place.name)
        ).all()
    assert left == []


def test_the_decision_is_that_of_the_redacted_text(place: Place) -> None:
    path = "/v1/conversations/c"
    for decision in place.agent.got(path)["decisions"]:
        again = place.agent.got(f"/v1/decisions/{decision['id']}/replay")
        assert again["identical"] is True


def test_without_a_key_the_policy_is_refused_and_says_what_is_missing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with serving(tmp_path_factory.mktemp("keyless")) as service:
        place = service.default()
        policy = place.engineer.got("/v1/policy")
        policy |= {"redaction": {"kinds": ["card"], "originals": "sealed"}}
        error = refusal(place.engineer.put("/v1/policy", json=policy), 422, "no_secret_key")
        assert "BATON_SECRET_KEY" in error["message"]
        assert error["field"] == "redaction.originals"


def test_an_original_of_another_key_is_not_shown_and_breaks_nothing(
    service: InProcess, place: Place
) -> None:
    other = replace(service.baton.settings, secret_key="of another installation")
    with service.baton.store.read() as connection:
        assert originals(connection, other, place.name, "c") == {}
        assert originals(connection, service.baton.settings, place.name, "c")["m1"] == TEXT
