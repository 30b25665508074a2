"""A rollback forgets what was learned since, names why, and nothing brings it back unasked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from experiments.replay.client import RefusedError, path_of
from learning.decision.policy import Policy
from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions, ModelState, replay_entries
from service.jobs.maintenance import Maintenance
from service.runtime.errors import Contradiction
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.store.ledger import change_log
from service.versions import switches as versions
from service.versions.model_lines import ModelLines, rebuild
from service.versions.restore import restore
from tests.running import RECIPE, TEXTS, Client, Home, Place, Process, installation, teach, until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with installation(tmp_path_factory.mktemp("rollback")) as home:
        yield home


@pytest.fixture(scope="module")
def service(home: Home) -> Process:
    return home.serve()


@pytest.fixture(scope="module")
def second(home: Home, service: Process) -> Process:
    return home.serve()


@pytest.fixture
def store(home: Home, service: Process) -> Iterator[Store]:
    store = Store(f"sqlite:///{home.folder / 'baton.sqlite3'}")
    yield store
    store.close()


@pytest.fixture
def upkeep(home: Home, store: Store) -> Maintenance:
    return Maintenance(store, Settings(home=home.folder, corrections=3))


def probe(client: Client, name: str) -> list[tuple[float, float, str]]:
    """What fresh conversations are scored now."""
    found = []
    for number, text in enumerate(TEXTS):
        answer = client.score(f"{name} {number}", "m1", text)
        found.append((answer["probability"], answer["uncertainty"], answer["action"]))
    return found


def save(upkeep: Maintenance, store: Store, place: Place) -> int:
    return upkeep.save(place.name, ModelLines(store).champion(place.name))


def burst(client: Client, count: int = 15) -> list[dict[str, Any]]:
    """Wrong outcomes: everything that was fine is said to be missed."""
    return [teach(client, f"wrong {n}", n + 1, verdict="missed") for n in range(count)]


def positions(found: list[dict[str, Any]]) -> frozenset[int]:
    return frozenset(one["position"] for one in found)


@pytest.mark.parametrize("way", ["route", pytest.param("command", marks=pytest.mark.long)])
def test_a_burst_of_wrong_outcomes_is_forgotten_to_the_bit(
    home: Home, service: Process, second: Process, store: Store, upkeep: Maintenance, way: str
) -> None:
    place = home.workspace(f"burst-{way}", service)
    with place.caller("engineer", service) as client, place.caller("bot", second) as other:
        for number in range(12):
            teach(client, f"c{number}", number)
        saved = save(upkeep, store, place)
        before = probe(client, "before")
        wrong = burst(client)
        worse = probe(client, "worse")
        assert all(one[0] > was[0] for one, was in zip(worse, before, strict=True))
        if way == "route":
            body = {"to": saved, "reason": "wrong labels"}
            answer = client.post("/v1/rollback", body)
            assert answer["serving"] is True
        else:
            words = ("--to", str(saved), "--reason", "wrong labels", "-w", place.name)
            answer = home.command("rollback", *words)
            until(lambda: client.standing["position"] == answer["switch"], "served")
        assert answer["version"] == saved
        assert probe(client, "after") == before
        with place.caller("engineer", second) as engineer:
            until(lambda: engineer.standing["position"] == answer["switch"], "served")
        assert probe(other, "after, at the other") == before

        teach(client, "new", 3)
        head = len(place.entries())
        expected = place.bare_digest(Exclusions(positions=positions(wrong)))
        for process in (service, second):
            with place.caller("engineer", process) as engineer:
                until(lambda e=engineer: e.standing["position"] == head, "learned")
                assert engineer.standing["digest"] == expected
        entry = place.entries()[answer["switch"] - 1]
        assert (entry.kind, entry.body["kind"]) == ("switch", "rollback")
        assert entry.body["reason"] == "wrong labels"
        assert entry.actor == ("command line" if way == "command" else f"{place.name}-engineer")


def test_where_only_people_switch_jobs_recommend_a_rebuild_once(
    home: Home, service: Process, store: Store, upkeep: Maintenance
) -> None:
    place = home.workspace("by-people", service)
    with place.caller("engineer", service) as client:
        policy = client.get("/v1/policy")
        policy["switching"]["automatic"] = False
        client.put("/v1/policy", policy)
        taught = [teach(client, f"c{number}", number) for number in range(6)]
        save(upkeep, store, place)  # what no checkpoint has learned is taken out at once
        for one in taught:
            client.delete(path_of("outcomes", one["id"]))
        before = len(place.entries())
        for _ in range(2):
            upkeep.rebuild_corrected()
        assert len(place.entries()) == before
        with store.read() as connection:
            events = change_log.newest(connection, place.name, "recommendation")
        assert [event.facts["verdict"] for event in events] == ["rebuild"]


def test_a_rollback_is_not_undone_by_a_rebuild_of_jobs(
    home: Home, service: Process, store: Store, upkeep: Maintenance
) -> None:
    """Corrections that wait are mended; what the rollback withheld stays withheld."""
    place = home.workspace("kept-away", service)
    with place.caller("engineer", service) as client:
        kept = [teach(client, f"c{number}", number) for number in range(12)]
        saved = save(upkeep, store, place)
        lines = ModelLines(store)
        wrong = burst(client)
        assert checkpoint.digest(lines.champion(place.name)) == client.standing["digest"]
        client.post("/v1/rollback", {"to": saved, "reason": "wrong labels"})
        for one in wrong[:3]:
            client.delete(path_of("outcomes", one["id"]))
        upkeep.rebuild_corrected()
        assert switches(place)[-1]["kind"] == "rollback"
        for one in kept[:2]:
            client.delete(path_of("outcomes", one["id"]))
        upkeep.rebuild_corrected()
        assert switches(place)[-1]["kind"] == "rollback", "two are not enough"
        client.delete(path_of("outcomes", kept[2]["id"]))
        upkeep.rebuild_corrected()
        assert switches(place)[-1]["reason"] == "rebuilt without 3 corrected outcomes"
        head = len(place.entries())
        until(lambda: client.standing["position"] == head, "served")
        gone = positions(wrong) | positions(kept[:3])
        assert client.standing["digest"] == place.bare_digest(Exclusions(positions=gone))
        assert checkpoint.digest(lines.champion(place.name)) == client.standing["digest"]
        upkeep.rebuild_corrected()
        assert len(place.entries()) == head
        admitted = rebuild(store, place.name, RECIPE, Exclusions())
        expected = place.bare_digest(Exclusions(positions=positions(kept[:3] + wrong[:3])))
        assert checkpoint.digest(admitted) == expected


def switches(place: Place) -> list[dict[str, Any]]:
    return [dict(entry.body) for entry in place.entries() if entry.kind == "switch"]


def test_without_a_version_named_the_predecessor_s_newest_one_comes_back(
    home: Home, service: Process, store: Store, upkeep: Maintenance
) -> None:
    place = home.workspace("unnamed", service)
    with place.caller("engineer", service) as client:
        with pytest.raises(RefusedError, match="nothing_before"):
            client.post("/v1/rollback", {"reason": "to what?"})
        for number in range(6):
            teach(client, f"c{number}", number)
        before = probe(client, "before")
        newest = save(upkeep, store, place)
        other = home.command("rebuild", "-w", place.name, "--recipe", "adagrad-4", "--promote")
        until(lambda: client.standing["version"] == other["version"], "served")
        burst(client, 4)
        answer = client.post("/v1/rollback", {"reason": "the new one is worse"})
        assert (answer["version"], answer["serving"]) == (newest, True)
        assert probe(client, "after") == before
        with pytest.raises(RefusedError, match="rolled_back_already"):
            client.post("/v1/rollback", {"reason": "again?"})


def test_policy_is_never_rolled_back(
    home: Home, service: Process, store: Store, upkeep: Maintenance
) -> None:
    place = home.workspace("policy", service)
    with place.caller("engineer", service) as client:
        teach(client, "c", 1)
        saved = save(upkeep, store, place)
        policy = Policy(waiting_seconds=77.0)
        client.put("/v1/policy", policy.model_dump(mode="json"))
        client.post("/v1/rollback", {"to": saved, "reason": "to see the policy stay"})
        assert client.get("/v1/policy")["waiting_seconds"] == 77.0
        assert restore(store, place.name).policy == policy


def test_a_version_that_cannot_be_stood_at_is_never_switched_to(
    home: Home, service: Process, store: Store, upkeep: Maintenance
) -> None:
    place = home.workspace("damaged", service)
    with place.caller("engineer", service) as client:
        teach(client, "c", 1)
        saved = save(upkeep, store, place)
        sql = "UPDATE version SET state = ? WHERE workspace = ? AND number = ?"
        home.change(sql, b"gone", place.name, saved)
        head = len(place.entries())
        for path, body in (
            ("/v1/rollback", {"to": saved, "reason": "?"}),
            (f"/v1/versions/{saved}/promote", {"reason": "?"}),
        ):
            with pytest.raises(RefusedError, match="version_damaged"):
                client.post(path, body)
        assert len(place.entries()) == head
        assert teach(client, "on", 2)["position"] == head + 1


def test_switches_that_follow_each_other_closely_end_at_the_last_one(
    home: Home, service: Process, second: Process, store: Store, upkeep: Maintenance
) -> None:
    """A switch that comes while the one before is being stood is stood next, at every process."""
    place = home.workspace("closely", service)
    with place.caller("engineer", service) as client, place.caller("engineer", second) as other:
        saved = []
        for number in range(9):
            teach(client, f"c{number}", number)
            if number % 3 == 2:
                saved.append(save(upkeep, store, place))

        def back(caller: Client, to: int) -> None:
            caller.post("/v1/rollback", {"to": to, "reason": "hurry"})

        threads = [
            threading.Thread(target=back, args=(caller, to))
            for caller, to in ((client, saved[0]), (other, saved[2]), (client, saved[1]))
        ]
        with (
            place.caller("bot", service) as bot,
            place.caller("engineer", service) as third,
        ):
            threads[2] = threading.Thread(target=back, args=(third, saved[1]))
            for thread in threads:
                thread.start()
            for number in range(6):
                teach(bot, f"meanwhile {number}", number)
            for thread in threads:
                thread.join()
        head = len(place.entries())
        expected = checkpoint.digest(restore(store, place.name))
        last = switches(place)[-1]
        for caller in (client, other):
            until(lambda c=caller: c.standing["position"] == head, "served")
            assert caller.standing["digest"] == expected
            assert caller.standing["version"] == last["version"]


# Rolled back by jobs


def truth(number: int) -> tuple[str, str]:
    """A text and what is true of it: parcels are fine, refunds and logins need a person."""
    kind = number % 4
    return f"{TEXTS[kind]} {number % 7}", "missed" if kind in (1, 3) else "fine"


def live_through(client: Client, name: str, count: int) -> None:
    for number in range(count):
        text, verdict = truth(number)
        client.score(f"{name} {number}", "m1", text)
        client.outcome(f"{name} {number}", verdict)


def poisoned(place: Place, store: Store) -> int:
    """A version that learned the opposite of every outcome; promoted."""
    opposite = {"missed": "fine", "fine": "missed"}
    standing = ModelState(recipe=RECIPE)
    for entry in place.entries():
        if entry.kind == "outcome":
            entry.body["verdict"] = opposite[entry.body["verdict"]]  # type: ignore[index]
        replay_entries(standing, [entry], place.transcript, through_switches=True)
    with store.write() as connection:
        number = versions.save_version(
            connection, place.name, versions.SerializedState.of(standing), line=0, reason="poisoned"
        )
        versions.promote(connection, place.name, number, actor="someone", reason="looks good")
    return number


def test_jobs_roll_back_a_champion_that_does_harm_since_its_promotion(
    home: Home, service: Process, store: Store, upkeep: Maintenance
) -> None:
    place = home.workspace("worse", service)
    with place.caller("engineer", service) as client:
        live_through(client, "before", 200)
        number = poisoned(place, store)
        assert upkeep.evaluate_one(place.name).verdict == "keep"
        live_through(client, "after", 110)
        report = upkeep.evaluate_one(place.name)
        assert (report.verdict, report.acted) == ("roll back", True)
        last = switches(place)[-1]
        evidence = last["evidence"]
        assert (last["kind"], evidence["champion"]) == ("rollback", number)
        assert evidence == json.loads(json.dumps(dict(report.evidence))) | {
            "serves": last["version"]
        }
        assert evidence["finding"] == "previous"
        assert evidence["champion_line"]["evidence"] >= evidence["alarm_at"]
        assert evidence["previous_line"]["evidence"] < evidence["alarm_at"]
        assert evidence["previous_line"]["excess"] >= evidence["alarm_at"]
        assert evidence["champion_line"]["mean"] > evidence["allowed"]
        head = len(place.entries())
        until(lambda: client.standing["position"] == head, "served")
        assert client.standing["digest"] == place.bare_digest()
        made = client.score("fresh", "m1", truth(0)[0])
        shown = client.get(path_of("decisions", made["decision_id"]))["serving"]
        assert (shown["kind"], shown["actor"]) == ("rollback", "jobs")
        assert upkeep.evaluate_one(place.name).verdict == "keep"


@pytest.mark.long
def test_what_came_while_jobs_decided_is_not_lost_by_their_rollback(
    home: Home, service: Process, store: Store, upkeep: Maintenance
) -> None:
    """The predecessor kept learning in the shadow, so nothing is withheld."""
    place = home.workspace("meanwhile", service)
    with place.caller("engineer", service) as client:
        live_through(client, "before", 200)
        poisoned(place, store)
        live_through(client, "after", 110)
        done = threading.Event()

        def go_on() -> None:
            with place.caller("bot", service) as bot:
                number = 0
                while not done.is_set():
                    teach(bot, f"meanwhile {number}", number)
                    number += 1

        talker = threading.Thread(target=go_on)
        talker.start()
        try:
            until(lambda head=len(place.entries()): len(place.entries()) > head, "talks")
            assert upkeep.evaluate_one(place.name).verdict == "roll back"
        finally:
            done.set()
            talker.join()
        head = len(place.entries())
        until(lambda: client.standing["position"] == head, "served")
        last = switches(place)[-1]
        position = next(e.position for e in reversed(place.entries()) if e.kind == "switch")
        (kept,) = home.rows(
            "SELECT position FROM version WHERE workspace = ? AND number = ?",
            place.name,
            last["version"],
        )
        assert kept["position"] < position - 1, "nothing came meanwhile: the test says nothing"
        assert client.standing["digest"] == place.bare_digest()


@pytest.mark.long
def test_of_two_deciders_only_one_replaces_a_switch(
    home: Home, service: Process, store: Store
) -> None:
    place = home.workspace("deciders", service)
    with place.caller("engineer", service) as client:
        live_through(client, "before", 200)
        poisoned(place, store)
        live_through(client, "after", 110)
    deciders = [Maintenance(store, Settings(home=home.folder)) for _ in range(2)]
    together = threading.Barrier(2)
    verdicts = []

    def decide(upkeep: Maintenance) -> None:
        together.wait()
        verdicts.append(upkeep.evaluate_one(place.name).verdict)

    threads = [threading.Thread(target=decide, args=(one,)) for one in deciders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = [one["kind"] for one in switches(place)]
    assert kinds == ["promotion", "promotion", "rollback"], verdicts


def test_a_decision_about_a_switch_that_was_replaced_since_changes_nothing(
    home: Home, service: Process, store: Store, upkeep: Maintenance
) -> None:
    place = home.workspace("late", service)
    with place.caller("engineer", service) as client:
        teach(client, "c", 1)
        saved = save(upkeep, store, place)
        seen = switches(place)
        client.post("/v1/rollback", {"to": saved, "reason": "first"})
    before = place.entries()
    change = versions.Switch(1, 0, "second", "jobs")

    def decide() -> None:
        with store.write() as connection:
            versions.save_version(
                connection,
                place.name,
                versions.SerializedState.of(ModelState(recipe=RECIPE)),
                line=0,
                reason="?",
            )
            versions.append_switch(connection, place.name, change, after=2)

    with pytest.raises(Contradiction, match="look again"):
        decide()
    assert place.entries() == before
    assert len(seen) == 1
    numbers = home.rows("SELECT number FROM version WHERE workspace = ?", place.name)
    assert len(numbers) == saved
