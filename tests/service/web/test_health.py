"""Alive, ready, and measured: what a process says of itself is true, also when it is not well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from service.store.database import transactions
from service.store.database.transactions import DatabaseError
from service.store.ledger import entries
from service.versions import switches
from service.versions.restore import restore
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


def test_who_is_refused_because_the_disk_is_full_is_told_so_and_all_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    """SQLite itself says that it is full: it may take no more pages than it has."""
    with serving(tmp_path) as service:
        place, stranger, store = service.default(), service.caller(), service.baton.store
        place.bot.decided("c", "m1", QUIET)

        def pages(most: int) -> None:
            with store.write() as connection:
                connection.execute(text(f"PRAGMA max_page_count = {most}"))

        pages(1)  # as many as it has: SQLite takes no less
        refused = None
        for number in range(2000):
            answer = place.bot.score(f"d{number}", "m1", QUIET * 100)
            if answer.status_code != 200:
                refused = answer
                break
        assert refused is not None
        assert refused.json()["error"]["code"] == "disk_full"
        full = "baton_database_errors_total", (("error", "OperationalError"),)
        assert measured(stranger)[full] >= 1
        pages(2**30)
        place.bot.decided("again", "m1", QUIET)


def test_an_older_process_that_meets_what_a_newer_one_wrote_is_no_longer_ready(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, poll_seconds=0.02) as service:
        place, other = service.workspace(), service.workspace()
        stranger = service.caller()
        place.bot.decided("c", "m1", QUIET)
        with service.baton.store.write() as connection:
            entries.append(connection, place.name, "prophecy", {"said": 1}, "a newer build")
        answer = until(
            lambda: (found := stranger.get("/readyz")).status_code == 503 and found,
            "it falls out of readiness",
        )
        [why] = [one for one in answer.json()["why"] if "prophecy" in one]
        assert place.name in why
        assert "newer" in why
        other.bot.decided("c", "m1", QUIET)


def test_an_older_process_that_meets_a_switch_to_a_newer_recipe_stands_in_and_is_not_ready(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, poll_seconds=0.02) as service:
        place, stranger, store = service.workspace(), service.caller(), service.baton.store
        place.bot.decided("c", "m1", QUIET)
        newer = restore(store, place.name)
        newer.recipe = "clairvoyance-9"
        with store.write() as connection:
            number = switches.save_version(
                connection, place.name, switches.SerializedState.of(newer), line=0, reason="newer"
            )
            change = switches.Switch(number, newer.position, "a newer build", "upgrade")
            switches.append_switch(connection, place.name, change)
        answer = until(
            lambda: (found := stranger.get("/readyz")).status_code == 503 and found,
            "it falls out of readiness",
        )
        [why] = answer.json()["why"]
        assert "is of a recipe that this build does not know" in why
        place.bot.decided("d", "m1", QUIET)
        place.engineer.posted("/v1/rollback", {"to": 1, "reason": "back to what this build knows"})
        until(lambda: stranger.get("/readyz").status_code == 200, "it is ready again")


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


def test_every_route_is_timed_and_its_errors_are_counted_by_its_template(
    service: InProcess,
) -> None:
    place, stranger = service.workspace(), service.caller()
    before = measured(stranger)
    place.bot.decided("c", "m1", QUIET)
    for name in ("one", "two"):
        place.agent.post(f"/v1/handoffs/{name}/claim")
    place.agent.get("/v1/conversations/c")
    stranger.get("/nowhere/at-all")
    stranger.request("OPTIONS", "/nowhere")
    stranger.get("/console/sign-in")
    after = measured(stranger)

    def grew(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after.get(key, 0) - before.get(key, 0)

    timed = "baton_request_seconds_count"
    assert grew(timed, method="POST", route="/v1/score") == 1
    assert grew(timed, method="POST", route="/v1/handoffs/{handoff_id}/claim") == 2
    assert grew(timed, method="GET", route="/v1/conversations/{conversation_id}") == 1
    assert grew(timed, method="GET", route="/console/sign-in") == 1
    assert grew(timed, method="GET", route="none") == 1
    assert grew(timed, method="other", route="none") == 1
    claims = {"method": "POST", "route": "/v1/handoffs/{handoff_id}/claim"}
    assert grew("baton_request_errors_total", status="404", **claims) == 2


def test_waiting_and_learning_are_timed_and_the_process_tells_what_it_takes(
    service: InProcess,
) -> None:
    place, stranger = service.workspace(), service.caller()
    before = measured(stranger)
    handoff = place.escalated()
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    after = measured(stranger)
    assert after["baton_queue_seconds_count", ()] - before["baton_queue_seconds_count", ()] >= 2
    assert after["baton_learned_seconds_count", ()] == before["baton_learned_seconds_count", ()] + 1
    assert after["baton_queue_requests", ()] == 0
    assert after["process_resident_memory_bytes", ()] > 2**20
    assert after["process_open_fds", ()] > 3


def test_whoever_follows_events_is_counted_and_no_request_is_as_long_as_a_stream(
    service: InProcess,
) -> None:
    place, stranger = service.workspace(), service.caller()
    with place.agent.stream("GET", "/v1/events") as stream:
        chunks = stream.iter_bytes()
        next(chunks)
        assert measured(stranger)["baton_event_subscribers", ()] == 1
    until(lambda: measured(stranger)["baton_event_subscribers", ()] == 0, "it is seen to leave")
    assert not any("/v1/events" in str(labels) for _, labels in measured(stranger))


def test_what_the_database_does_not_carry_out_is_counted(service: InProcess) -> None:
    store, stranger = service.baton.store, service.caller()
    before = measured(stranger)
    with pytest.raises(DatabaseError), store.read() as connection:
        connection.execute(text("SELECT what_is_not_there FROM workspace"))
    name = "baton_database_errors_total", (("error", "OperationalError"),)
    assert measured(stranger)[name] == before.get(name, 0) + 1


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
