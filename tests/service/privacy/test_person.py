"""Whoever asks gets all that is stored of a person, and an erasure leaves nothing but what its
receipt names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel

from service.privacy import person
from service.store.database.transactions import Store
from service.store.ledger import mlflow_rows
from tests.postgres import on_both
from tests.service_in_process import InProcess, Place, refusal, serving

SECRET = "zebraklingon"
store_url = on_both()


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("person"), database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


def everything(store: Store, workspace: str) -> str:
    """All that the database holds of a workspace, as text."""
    tables = [one for one in SQLModel.metadata.sorted_tables if "workspace" in one.c]
    with store.read() as connection:
        rows = [
            connection.execute(select(one).where(one.c.workspace == workspace)).all()
            for one in tables
        ]
    return repr(rows)


def full_conversation(place: Place, name: str, customer: Any) -> str:
    """A conversation with the secret in every free text that there is; its handoff's id."""
    attributes = {"customer_id": customer, "street": f"{SECRET} road 1"}
    place.bot.decided(name, f"{name}-1", f"hello {SECRET}", attributes=attributes)
    handed = place.bot.posted(
        "/v1/handoffs",
        {"conversation_id": name, "reason": "other", "summary": f"{SECRET} is angry"},
    )
    handoff = str(handed.get("handoff", handed)["id"])
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    note = {"note": f"{SECRET} called"}
    sent = place.agent.post(
        f"/v1/handoffs/{handoff}/transfer",
        json={"team": "support"} | note,
        headers={"Idempotency-Key": f"{name}-moved"},
    )
    assert sent.status_code in {200, 409}, sent.text
    place.agent.post(f"/v1/handoffs/{handoff}/claim")
    told = {"verdict": "needed", "reason": f"{SECRET} insisted", "note": f"see {SECRET}"}
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", told)
    return handoff


def erased(place: Place, customer: str) -> Any:
    answer = place.admin.delete(f"/v1/people/{customer}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_access_gives_all_of_a_person_and_nothing_of_another(place: Place) -> None:
    full_conversation(place, "one", "u-1")
    place.bot.decided("two", "m", "good morning", attributes={"customer_id": "u-1"})
    place.bot.decided("other", "m", "good evening", attributes={"customer_id": "u-10"})
    told = place.admin.got("/v1/people/u-1")
    assert [one["id"] for one in told["conversations"]] == ["one", "two"]
    first = told["conversations"][0]
    assert first["messages"][0]["text"] == f"hello {SECRET}"
    assert first["messages"][0]["attributes"]["street"] == f"{SECRET} road 1"
    assert first["outcomes"][0]["reason"] == f"{SECRET} insisted"
    assert SECRET in str(first["handoffs"])
    assert first["decisions"]
    assert told["next"] is None
    refusal(place.engineer.get("/v1/people/u-1"), 403)
    refusal(place.admin.get("/v1/people/nobody"), 404, "unknown_person")
    refusal(place.admin.delete("/v1/people/nobody"), 404, "unknown_person")


def test_a_person_of_another_workspace_is_nobody_here(service: InProcess, place: Place) -> None:
    elsewhere = service.workspace()
    elsewhere.bot.decided("c", "m", "good morning", attributes={"customer_id": "u-1"})
    refusal(place.admin.get("/v1/people/u-1"), 404, "unknown_person")
    refusal(place.admin.delete("/v1/people/u-1"), 404, "unknown_person")
    assert elsewhere.admin.got("/v1/people/u-1")["conversations"]


def test_many_conversations_come_by_the_page(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person, "CONVERSATIONS_PER_PAGE", 2)
    for name in ("a", "b", "c"):
        place.bot.decided(name, "m", "good morning", attributes={"customer_id": 17})
    first = place.admin.got("/v1/people/17")
    assert [one["id"] for one in first["conversations"]] == ["a", "b"]
    rest = place.admin.got(f"/v1/people/17?after={first['next']}")
    assert [one["id"] for one in rest["conversations"]] == ["c"]
    assert rest["next"] is None


def test_erasure_waits_for_whoever_is_at_a_conversation_and_then_leaves_no_word(
    place: Place,
) -> None:
    store = place.service.baton.store
    handoff = full_conversation(place, "one", "u-1")
    place.bot.decided("two", "m", f"again {SECRET}", attributes={"customer_id": "u-1"})
    refusal(place.admin.delete("/v1/people/u-1"), 409, "handoff_open")
    assert place.admin.got("/v1/people/u-1")["conversations"][1]["messages"], "nothing is erased"
    place.agent.posted(f"/v1/handoffs/{handoff}/resolve")
    report = {"mistakes": [{"conversation": "one"}, {"conversation": "kept"}]}
    with store.write() as connection:
        for name, run in (("e1", "run-1"), ("e2", None)):
            mlflow_rows.add_evaluation(
                connection, place.name, f"{place.name}{name}", 2, 1.0, report
            )
            if run:
                mlflow_rows.mark_evaluation_published(connection, f"{place.name}{name}", run)
    assert SECRET in everything(store, place.name)

    receipt = erased(place, "u-1")
    assert SECRET not in everything(store, place.name)
    assert [one["id"] for one in receipt["conversations"]] == ["one", "two"]
    assert [one["outcomes"] for one in receipt["conversations"]] == [1, 0]
    assert any("backups" in sentence for sentence in receipt["stays"])
    assert receipt["complete"] is False, "MLflow still shows a run that names one"
    with store.read() as connection:
        assert mlflow_rows.stale_runs(connection, place.name) == [(f"{place.name}e1", "run-1")]
        rows = mlflow_rows.unpublished_evaluations(connection, place.name)
    assert [row.report["mistakes"] for row in rows] == [[{"conversation": "kept"}]]
    with store.write() as connection:
        mlflow_rows.mark_evaluation_unpublished(connection, f"{place.name}e1")

    again = erased(place, "u-1")
    assert again == receipt | {"complete": True, "waits": []}
    refusal(place.admin.get("/v1/people/u-1"), 404, "unknown_person")
    assert place.agent.got("/v1/conversations/one")["messages"] == []
    assert "u-1" not in {one["id"] for one in again["conversations"]}


def test_the_file_and_its_log_hold_no_word_of_what_was_erased(tmp_path: Path) -> None:
    """On the disk, not only for a query: freed pages are overwritten and the log is emptied."""
    with serving(tmp_path) as service:
        place = service.workspace(mode="shadow")
        texts = " ".join(f"{SECRET}{number}" for number in range(2000))
        place.bot.decided("c", "m", texts[:19_000], attributes={"customer_id": "u-1"})
        word = SECRET.encode()
        assert any(word in path.read_bytes() for path in tmp_path.glob("baton.sqlite3*"))
        place.bot.posted("/v1/conversations/c/close", {"resolution": "resolved"})
        receipt = erased(place, "u-1")
        assert receipt["complete"] is True
        files = tmp_path.glob("baton.sqlite3*")
        assert [path.name for path in files if word in path.read_bytes()] == []
