"""What `jobs` does by itself: mends, expires, publishes to a real MLflow, and hears an engineer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from experiments.registry.registered_versions import Registry
from experiments.replay.client import path_of
from learning.ledger.model_state import Exclusions
from service.jobs.maintenance import Maintenance
from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.versions.mlflow.aliases import REFUSED_TAG
from service.versions.mlflow.publish_version import MlflowPublisher
from tests.mlflow_server import free_port, running_mlflow
from tests.running import Home, Place, Process, installation, teach, until
from tests.waiting import LIMIT_SECONDS


class Mlflow:
    """A real MLflow server that can be stopped and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(running_mlflow(self.folder, self.port))

    def stop(self) -> None:
        self._running.close()


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    server = Mlflow(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, mlflow: Mlflow) -> Iterator[Home]:
    given = {
        "mlflow_url": mlflow.url,
        "checkpoint_seconds": 0.5,
        "checkpoint_entries": 10,
        "evaluate_seconds": 1,
        "publish_seconds": 0.5,
        "corrections": 2,
    }
    with installation(tmp_path_factory.mktemp("jobs"), **given) as home:
        yield home


@pytest.fixture(scope="module")
def service(home: Home) -> Process:
    return home.serve()


@pytest.fixture(scope="module")
def jobs(home: Home, service: Process) -> Process:
    return home.jobs()


@pytest.fixture(scope="module")
def registry(mlflow: Mlflow) -> Registry:
    return Registry(mlflow.url)


def versions(place: Place) -> list[dict[str, Any]]:
    sql = "SELECT number, position, line, digest, registry_version FROM version WHERE workspace = ?"
    return place.home.rows(sql + " ORDER BY number", place.name)


def evaluations(place: Place) -> list[dict[str, Any]]:
    sql = "SELECT id, position, run_id FROM evaluation WHERE workspace = ?"
    return place.home.rows(sql, place.name)


def newest_switch(place: Place) -> Any:
    return [entry for entry in place.entries() if entry.kind == "switch"][-1]


def serving(place: Place) -> dict[str, Any]:
    """The newest version of the line that serves, or the one that its switch named."""
    switch = newest_switch(place)
    line = [row for row in versions(place) if row["line"] == switch.position]
    named = [row for row in versions(place) if row["number"] == switch.body["version"]]
    return (named + line)[-1]


def agrees(place: Place, registry: Registry) -> bool:
    number = serving(place)["registry_version"]
    return number is not None and registry.aliases(place.name).get("champion") == number


def published_once(place: Place, registry: Registry) -> None:
    """Every version and every evaluation stands in MLflow, each once, with its digest."""
    client = registry._client
    found = client.search_model_versions(f"name = 'baton-{place.name}'", max_results=1000)
    tags = sorted((int(v.tags["baton.version"]), v.tags["baton.digest"]) for v in found)
    assert tags == [(row["number"], row["digest"]) for row in versions(place)]
    experiment = client.get_experiment_by_name(f"baton/{place.name}")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    made = [r.data.tags["baton.evaluation"] for r in runs if "baton.evaluation" in r.data.tags]
    assert sorted(made) == sorted(row["id"] for row in evaluations(place))
    models = client.search_logged_models([experiment.experiment_id], max_results=100)
    assert len(models) == len(versions(place))


def test_a_wrong_label_is_corrected_then_retracted_and_leaves_no_trace_in_the_rebuild(
    home: Home, service: Process, jobs: Process
) -> None:
    """The workspace beside it, which never had the mistake, ends with the same digest."""
    wronged, right = (home.workspace(name, service) for name in ("wronged", "right"))
    with wronged.caller("engineer", service) as one, right.caller("engineer", service) as other:
        for number in range(6):
            teach(one, f"c{number}", number)
            teach(other, f"c{number}", number)
        wrong, worse = (teach(one, name, 1, verdict="missed") for name in ("wrong", "worse"))
        taught = one.standing["digest"]
        assert taught != other.standing["digest"]
        corrected = one.put(path_of("outcomes", wrong["id"]), {"verdict": "fine"})
        assert one.standing["digest"] != taught
        gone = teach(one, "gone", 2, verdict="missed")
        retracted = one.delete(path_of("outcomes", gone["id"]))
        assert retracted["effect"] == "gone"
        assert one.delete(path_of("outcomes", gone["id"])) == retracted
        assert one.put(path_of("outcomes", wrong["id"]), {"verdict": "fine"}) == corrected
        one.put(path_of("outcomes", worse["id"]), {"verdict": "fine"})

        said = [e for e in wronged.entries() if e.kind in ("outcome", "retraction")][-6:]
        assert [(entry.kind, entry.body.get("replaces")) for entry in said] == [
            ("outcome", None),
            ("outcome", None),
            ("outcome", wrong["position"]),
            ("outcome", None),
            ("retraction", gone["position"]),
            ("outcome", worse["position"]),
        ]
        for name in ("wrong", "worse"):
            teach(other, name, 1, verdict="fine")
        switch = until(lambda: rebuilt(wronged), "jobs mend")
        until(lambda: one.standing["switch"] == switch.position, "served")
        assert switch.actor == "jobs"
        assert switch.body["evidence"] == {"corrected": 2}, "the undone one had left already"
        without = {"positions": [o["position"] for o in (wrong, worse, gone)]}
        assert switch.body["without"] == without
        assert one.standing["digest"] == other.standing["digest"]
        teach(one, "later", 4)
        teach(other, "later", 4)
        assert one.standing["digest"] == other.standing["digest"] == right.bare_digest()
        assert one.standing["digest"] == wronged.bare_digest(Exclusions.of(without))


def rebuilt(place: Place) -> Any:
    switch = newest_switch(place)
    return switch if "rebuilt" in switch.body["reason"] else None


@pytest.mark.long
def test_mlflow_may_stop_under_load_and_is_given_everything_when_it_is_back(
    home: Home, service: Process, jobs: Process, mlflow: Mlflow, registry: Registry
) -> None:
    """And given it once, although jobs are killed while they publish."""
    place = home.workspace("away", service)
    done, broken = threading.Event(), []

    def talk(name: str) -> None:
        number = 0
        try:
            with place.caller("bot", service, 0.0) as bot:
                while not done.is_set():
                    teach(bot, f"{name}{number}", number)
                    number += 1
                    time.sleep(0.03)
        except BaseException as error:
            broken.append(error)
            raise

    until(lambda: agrees(place, registry), "the first version is published")
    talkers = [threading.Thread(target=talk, args=(name,)) for name in ("a", "b")]
    for talker in talkers:
        talker.start()
    try:
        until(lambda: len(versions(place)) >= 3 and evaluations(place), "versions")
        mlflow.stop()
        before = len(versions(place)), len(evaluations(place)), len(place.entries())
        until(lambda: jobs.said.count("mlflow_away") > 0, "jobs notice")
        until(lambda: len(versions(place)) >= before[0] + 2, "versions without MLflow")
        until(lambda: len(evaluations(place)) >= before[1] + 1, "evaluations likewise")
        assert any(row["registry_version"] is None for row in versions(place))
        with place.caller("engineer", service) as engineer:
            assert engineer.standing["position"] > before[2]
    finally:
        done.set()
        for talker in talkers:
            talker.join(LIMIT_SECONDS)
        mlflow.start()
    assert not broken
    assert jobs.said.count("mlflow_away") == 1

    def owed() -> int:
        return sum(row["registry_version"] is None for row in versions(place))

    until(lambda n=owed(): owed() < n, "publishing goes on")
    jobs.kill()
    jobs.start()

    def settled() -> bool:
        runs = [row for row in evaluations(place) if row["run_id"] is None]
        learned = max((row["position"] for row in evaluations(place)), default=0)
        last = max(entry.position for entry in place.entries() if entry.kind == "outcome")
        return not owed() and not runs and learned >= last and agrees(place, registry)

    until(settled, "everything owed is published")
    published_once(place, registry)
    with place.caller("engineer", service) as engineer:
        assert engineer.standing["digest"] == place.bare_digest()


@pytest.mark.long
def test_an_alias_that_the_policy_does_not_heed_is_put_back(
    home: Home, service: Process, jobs: Process, registry: Registry
) -> None:
    place = home.workspace("unheeded", service)
    with place.caller("engineer", service) as client:
        policy = client.get("/v1/policy")
        policy["switching"]["by_alias"] = False
        client.put("/v1/policy", policy)
        for number in range(11):
            teach(client, f"c{number}", number)
        until(lambda: len(versions(place)) == 2 and agrees(place, registry), "checkpoint")
        first = versions(place)[0]
        before = newest_switch(place).position
        registry.set_alias(place.name, "champion", first["registry_version"])
        until(lambda: agrees(place, registry), "the alias is put back")
        assert newest_switch(place).position == before


def test_an_engineer_moves_the_alias_and_what_serves_follows(
    home: Home, service: Process, jobs: Process, registry: Registry
) -> None:
    """To a checkpoint: a rollback. To a new version: a promotion. To a foreign one: put back."""
    place = home.workspace("moved", service)
    with place.caller("engineer", service) as client:
        for number in range(11):
            teach(client, f"c{number}", number)
        until(lambda: len(versions(place)) == 2 and agrees(place, registry), "checkpoint")
        saved = versions(place)[1]
        for number in range(11):
            teach(client, f"wrong {number}", number + 1, verdict="missed")
        until(lambda: len(versions(place)) == 3 and agrees(place, registry), "checkpoint")

        registry.set_alias(place.name, "champion", saved["registry_version"])
        until(lambda: newest_switch(place).body["version"] == saved["number"], "heard")
        switch = newest_switch(place)
        assert (switch.actor, switch.body["kind"]) == ("mlflow", "rollback")
        until(lambda: client.standing["switch"] == switch.position, "served")
        gone = frozenset(range(saved["position"] + 1, switch.position))
        assert len(gone) >= 11
        expected = place.bare_digest(Exclusions(positions=gone))
        assert client.standing["digest"] == expected
        until(lambda: agrees(place, registry), "the alias agrees")

        made = home.command("rebuild", "-w", place.name, "--recipe", "adagrad-4")["version"]
        row = until(
            lambda: [r for r in versions(place) if r["number"] == made and r["registry_version"]],
            "the new version is published",
        )
        registry.set_alias(place.name, "champion", row[0]["registry_version"])
        until(lambda: newest_switch(place).body["version"] == made, "heard")
        switch = newest_switch(place)
        assert (switch.actor, switch.body["kind"]) == ("mlflow", "promotion")
        until(lambda: client.standing["switch"] == switch.position, "served")
        assert client.standing["recipe"] == "adagrad-4"
        assert client.standing["digest"] == place.bare_digest(recipe="adagrad-4")
        until(lambda: agrees(place, registry), "the alias agrees")
        (before,) = [r for r in versions(place) if r["number"] == saved["number"]]
        until(
            lambda: registry.aliases(place.name).get("previous") == before["registry_version"],
            "previous is the line before",
        )

        switch = newest_switch(place)
        name = f"baton-{place.name}"
        source = registry._client.get_model_version(name, before["registry_version"]).source
        foreign = registry._client.create_model_version(
            name, source, model_id=source.removeprefix("models:/"), tags={"by": "hand"}
        )
        registry.set_alias(place.name, "champion", foreign.version)
        until(lambda: agrees(place, registry), "the alias is put back")
        why = registry.get_version(place.name, foreign.version).tags[REFUSED_TAG]
        assert "not one that Baton published" in why
        assert newest_switch(place) == switch

        registry.drop_alias(place.name, "champion")
        until(lambda: agrees(place, registry), "a dropped alias is set again")
        assert newest_switch(place) == switch


@pytest.mark.long
def test_a_version_that_an_engineer_deleted_in_mlflow_holds_up_no_other_workspace(
    home: Home, service: Process, jobs: Process, registry: Registry
) -> None:
    first, other = home.workspace("a-deleted", service), home.workspace("b-beside", service)
    for place in (first, other):
        until(lambda p=place: agrees(p, registry), "published")
    number = serving(first)["registry_version"]
    registry._client.delete_model_version(f"baton-{first.name}", number)
    with other.caller("bot", service) as bot:
        for n in range(11):
            teach(bot, f"c{n}", n)
    until(lambda: len(versions(other)) == 2 and agrees(other, registry), "the other goes on")
    assert "mlflow_lost" in jobs.said


# Expiry


@pytest.fixture
def upkeep(home: Home, service: Process) -> Iterator[Maintenance]:
    store = Store(f"sqlite:///{home.folder / 'baton.sqlite3'}")
    yield Maintenance(store, Settings(home=home.folder))
    store.close()


def test_handoffs_nobody_took_are_given_back_by_each_workspace_s_own_waiting_time(
    home: Home, service: Process, upkeep: Maintenance
) -> None:
    """However many wait elsewhere, where they may wait longer."""
    patient = home.workspace("patient", service, mode="live")
    hasty = home.workspace("hasty", service, mode="live")
    for place, seconds in ((patient, 604_800.0), (hasty, 60.0)):
        with place.caller("engineer", service) as engineer:
            policy = engineer.get("/v1/policy") | {"waiting_seconds": seconds}
            engineer.put("/v1/policy", policy)
    with patient.caller("bot", service) as one, hasty.caller("agent", service) as other:
        asks = "let me talk to a human"
        for start in range(0, 510, 255):
            names = [f"p{number}" for number in range(start, start + 255)]
            assert {found["action"] for found in one.scores(names, asks)} == {"escalate"}
        made = other.score("h", "m1", asks)
        sql = "UPDATE handoff SET opened_at = opened_at - ? WHERE workspace = ?"
        home.change(sql, 1000.0, patient.name)
        home.change(sql, 100.0, hasty.name)
        upkeep.expire()
        assert other.get(path_of("handoffs", made["handoff"]["id"]))["status"] == "unanswered"
        assert other.score("h", "m2", "hello again")["action"] != "human_active"
        assert one.score("p1", "m2", "hello again")["action"] == "human_active"


def test_a_claim_whose_agent_went_quiet_waits_again_and_another_may_take_it(
    home: Home, service: Process, upkeep: Maintenance
) -> None:
    place = home.workspace("quiet", service, mode="live")
    with place.caller("agent", service) as agent, place.caller("engineer", service) as other:
        made = agent.score("c", "m1", "let me talk to a human")
        claim = path_of("handoffs", made["handoff"]["id"], "claim")
        agent.post(claim, {})
        with pytest.raises(Exception, match="already_claimed"):
            other.post(claim, {})
        sql = "UPDATE handoff SET claim_expires_at = 1 WHERE workspace = ?"
        home.change(sql, place.name)
        upkeep.expire()
        shown = agent.get(path_of("handoffs", made["handoff"]["id"]))
        assert (shown["status"], shown["claimed_by"]) == ("waiting", None)
        assert other.post(claim, {})["claimed_by"] == f"{place.name}-engineer"


@pytest.mark.long
def test_an_mlflow_that_lost_everything_is_given_everything_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    store = Store(settings.database_url)
    prepare(settings, store)
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        with ExitStack() as stack:
            server = Mlflow(tmp_path / name)
            stack.callback(server.stop)
            server.start()
            registry = Registry(server.url)
            MlflowPublisher(store, registry).publish()
            stood = registry.aliases("default").get("champion")
            assert stood is not None
            found = registry.get_version("default", stood)
            assert found is not None
            assert found.version == 1
    store.close()
