"""Alive, ready, and measured: what a process says of itself is true, also when it is not well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from service.store.database import transactions
from service.store.ledger import entries
from tests.service_in_process import ASKS, QUIET, Caller, InProcess, serving
from tests.waiting import until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("health"), poll_seconds=0.2) as running:
        yield running


def measured(caller: Caller) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    answer = caller.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_a_process_that_runs_is_alive_and_ready(service: InProcess) -> None:
    stranger = service.caller()
    assert stranger.got("/healthz") == {"status": "ok"}
    assert stranger.got("/readyz") == {"ready": True, "why": []}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_load_balancer_may_ask_without_wanting_the_body(service: InProcess, path: str) -> None:
    answer = service.caller().request("HEAD", path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_broken_database_makes_it_unready_and_says_so(service: InProcess) -> None:
    store, stranger = service.baton.store, service.caller()
    with store.write() as connection:
        connection.execute(text("ALTER TABLE workspace RENAME TO elsewhere"))
    try:
        answer = stranger.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["ready"] is False
        assert "database" in answer.json()["why"][0]
        assert stranger.got("/healthz") == {"status": "ok"}
    finally:
        with store.write() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO workspace"))
    assert stranger.got("/readyz")["ready"] is True


def test_a_full_disk_makes_it_unready(service: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "FREE_BYTES_MIN", 2**62)
    answer = service.caller().get("/readyz")
    assert answer.status_code == 503
    assert "is full" in answer.json()["why"][0]
    monkeypatch.undo()
    assert service.caller().got("/readyz")["ready"] is True


def test_a_process_that_is_behind_is_not_ready_until_it_has_caught_up(service: InProcess) -> None:
    place, stranger = service.workspace(), service.caller()
    policy = place.engineer.got("/v1/policy")
    assert place.engineer.got("/v1/standing")["position"] == 2
    with service.baton.store.write() as connection:
        for _ in range(500):
            entries.append(connection, place.name, "policy", policy, "another process")
    behind: list[str] = []

    def has_caught_up() -> bool:
        answer = stranger.get("/readyz")
        if answer.status_code == 503:
            behind.extend(answer.json()["why"])
        return bool(place.engineer.got("/v1/standing")["position"] == 502)

    until(has_caught_up, "it catches up", every=0.02)
    assert behind
    assert all(f"workspace {place.name} is " in why and "entries behind" in why for why in behind)
    assert stranger.got("/readyz")["ready"] is True


def test_measures_count_what_was_done(service: InProcess) -> None:
    place, stranger = service.workspace(), service.caller()
    before = measured(stranger)
    handoff = place.bot.decided("c", "m1", ASKS)["handoff"]["id"]
    place.bot.decided("d", "m1", QUIET)
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    place.bot.get("/v1/policy")
    after = measured(stranger)

    def grew(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert grew("baton_decisions_total", workspace=place.name, action="escalate") == 1
    assert grew("baton_ledger_entries_followed_total", workspace=place.name) == 1
    assert grew("baton_responses_total", status="403") == 1
    assert grew("baton_batch_requests_count") >= 3
    assert grew("baton_batch_seconds_count") == grew("baton_batch_requests_count")
    assert after["baton_ledger_lag_entries", (("workspace", place.name),)] == 0


def test_measures_name_no_conversation_and_no_key(service: InProcess) -> None:
    place = service.workspace()
    place.bot.decided("a-very-private-conversation", "m1", "a very private text")
    said = service.caller().get("/metrics").text
    assert "private" not in said
    assert not any(key in said for key in place.keys.values())


def test_a_fresh_process_is_ready_at_the_ledgers_end(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        place = first.default()
        for n in range(3):
            place.policy(cooldown_messages=10 + n)
        standing = place.engineer.got("/v1/standing")
    with serving(tmp_path) as second:
        assert second.caller().got("/readyz")["ready"] is True
        assert second.default().engineer.got("/v1/standing") == standing
