"""Five stories through the service with MLflow up: what is proven serves, what harms goes.

Customers are simulated with a known truth and come through HTTP; the passes of `jobs` are run one
at a time, against a real MLflow server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.evaluation.decision_costs import JudgedOutcome
from experiments.registry.markdown import PAD
from experiments.registry.registered_versions import Registry
from experiments.simulation.world import Drift, WorldSettings, episodes
from learning.decision.policy import Policy
from learning.ledger.model_state import Entry, ModelState, Turn, replay_entries
from learning.models.recipes import FORGETTING
from service.jobs.maintenance import Maintenance
from service.store.ledger import change_log, mlflow_rows, version_rows
from service.store.ledger import entries as ledger
from service.versions import switches
from service.versions.evaluation.challenger_comparison import ChallengerComparison, comparison_json
from service.versions.evaluation.comparison_feed import ComparedLines, add_labelled
from service.versions.mlflow.publish_version import MlflowPublisher
from service.versions.restore import transcript_reader
from tests.killed_jobs import INSTANTS
from tests.mlflow_server import running_mlflow
from tests.running import until
from tests.service_in_process import InProcess, Place, serving
from tests.town import Town, forged

EVEN = {"unneeded": 1.0, "missed": 1.0, "ask": 1e6}
EAGER = {"judged_min": 100, "days_min": 0.0, "cooldown_days": 0.0, "ece_max": 0.15}
SLOW = "bayes-4?v0=0.00001,v0_context=0.00001"
"""Learns hardly anything."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield Registry(url)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("stories")) as running:
        yield running


class Story:
    """A workspace with its customers, and `jobs`, a pass at a time."""

    def __init__(
        self,
        service: InProcess,
        registry: Registry,
        recipe: str = "bayes-4",
        name: str = "",
        **settings: Any,
    ) -> None:
        self.place: Place = service.workspace("shadow", recipe, name)
        self.place.policy(costs=EVEN, switching=EAGER)
        self.town = Town(self.place, **({"seed": 3, "base_rate": 0.4} | settings))
        self.registry, self.store = registry, service.baton.store
        self.upkeep = Maintenance(self.store, service.baton.settings)

    def evaluated(self) -> Any:
        return self.upkeep.evaluate_one(self.place.name)

    def save(self) -> int:
        return self.upkeep.save(self.place.name, self.upkeep._lines.champion(self.place.name))

    def publish(self) -> None:
        MlflowPublisher(self.store, self.registry).publish(self.place.name)

    @property
    def switches(self) -> list[Entry]:
        with self.store.read() as connection:
            return ledger.switches(connection, self.place.name)

    def serves(self) -> int:
        """The version that the service serves, once it agrees with the ledger and with MLflow."""
        last = self.switches[-1]
        serving = last.body["version"]
        found = self.place.engineer
        until(lambda: found.got("/v1/standing")["switch"] == last.position, "served")
        alias = self.registry.aliases(self.place.name).get("champion")
        assert alias is not None
        registered = self.registry.get_version(self.place.name, alias)
        assert registered is not None
        with self.store.read() as connection:
            lines = version_rows.of_line(connection, self.place.name, last.position, 2**31 - 1)
        assert registered.version in {serving, *(row.number for row in lines)}
        return int(serving)

    def told(self) -> list[str]:
        with self.store.read() as connection:
            return [row.kind for row in change_log.after(connection, self.place.name)]

    def run(self) -> Any:
        """The MLflow run of the last evaluation."""
        with self.store.read() as connection:
            row = mlflow_rows.last_evaluation(connection, self.place.name)
        assert row is not None
        assert row.run_id is not None
        return self.registry._client.get_run(row.run_id)

    def runs(self) -> list[Any]:
        """The MLflow runs of all evaluations."""
        experiment = self.run().info.experiment_id
        asked = "tags.`baton.evaluation` != ''"
        return list(self.registry._client.search_runs([experiment], asked))


def test_a_better_recipe_is_promoted(service: InProcess, registry: Registry) -> None:
    story = Story(service, registry, SLOW)
    story.town.play(60)
    asked = {"recipe": "bayes-4", "reason": "it learned faster elsewhere"}
    story.place.engineer.posted("/v1/challengers", asked)
    story.upkeep.build_challengers()
    for _ in range(8):
        story.town.play(50)
        report = story.evaluated()
        if report.verdict == "promote":
            break
    evidence = story.switches[-1].body["evidence"]
    assert (evidence["recipe"], evidence["proven_better"]) == ("bayes-4", True)
    assert evidence["saves_at_least"] > 0
    assert story.switches[-1].actor == "jobs"
    beside = report.beside["recent"]
    assert beside["challenger-1"]["more_than_champion"][2] < 0
    story.publish()
    story.serves()
    run = story.run()
    assert (run.data.tags["baton.verdict"], run.data.tags["baton.acted"]) == ("promote", "true")
    assert "proven better" in run.data.tags["mlflow.note.content"]
    assert story.told()[-2:] == ["promotion", "challenger_closed"]


@pytest.mark.long
def test_a_worse_recipe_is_never_promoted(service: InProcess, registry: Registry) -> None:
    story = Story(service, registry)
    story.town.play(60)
    story.place.engineer.posted("/v1/challengers", {"recipe": SLOW, "reason": "to see"})
    story.upkeep.build_challengers()
    for _ in range(3):
        story.town.play(50)
        assert story.evaluated().verdict == "keep"
    (contest,) = story.upkeep.evaluate_one(story.place.name).contests
    assert contest["judged_conversations"] == 150
    assert contest["proven_better"] is False
    assert len(story.switches) == 1


POLICY = Policy.model_validate({"costs": EVEN, "switching": EAGER | {"judged_min": 10}})


def promoted_at(seed: int, champion: str, challenger: str, count: int) -> int | None:
    """After how many conversations a challenger would have been promoted, looked at after each."""
    lines = [ModelState(recipe, policy=POLICY) for recipe in (champion, challenger)]
    row = _Row()
    contest = ChallengerComparison.of(row, POLICY.switching, 0, 1, 0.0)
    facts: dict[int, JudgedOutcome] = {}
    for number, episode in enumerate(episodes(seed, count, WorldSettings(base_rate=0.4)), 1):
        turns = [Turn(m, n in episode.scored) for n, m in enumerate(episode.messages)]
        body = {
            "conversation_id": episode.id,
            "verdict": "labels",
            "begins": 1,
            "covers": len(turns),
            "labels": [(place + 1, label, 1.0) for place, label in episode.labels],
        }
        entry = Entry(number, "outcome", body, "someone", 0.0)
        for line in lines:
            replay_entries(line, [entry], lambda _name, n, known=turns: known[:n])
        needed = any(label > 0.5 for _, label in episode.labels)
        facts[number] = JudgedOutcome(
            number,
            episode.id,
            0.0,
            needed,
            propensity=1.0,
            ruled=False,
            handed_over=False,
            by_rule=False,
            uniform=0.0,
            caught=False,
            decided_at=0.0,
            segments=(),
            labelled=True,
        )
        follower = _Follower(row, lines[1])
        add_labelled(ComparedLines.of(lines[0], follower, facts), contest)  # type: ignore[arg-type]
        if number % 10 == 0:
            found = comparison_json(contest, follower, lines[0], 0.0, facts)  # type: ignore[arg-type]
            if found["proven_better"] and not found["objections"]:
                return number
    return None


class _Row:
    """A challenger's row, as far as a contest reads it."""

    id, slot, version, recipe, frozen, why = "c", 1, 2, "?", False, "to see"
    position, opened_at = 0, time.time() - 86_400.0
    duel: dict[str, Any] = {}


class _Follower:
    role = "challenger-1"

    def __init__(self, row: _Row, model_state: ModelState) -> None:
        self.row, self.model_state = row, model_state


@pytest.mark.long
def test_over_twenty_seeds_no_worse_recipe_is_promoted_and_a_better_one_soon_is() -> None:
    """Looked at after every tenth conversation."""
    slower = (SLOW, "bayes-4?v0=0.001,v0_context=0.001")
    worse = [promoted_at(seed, "bayes-4", slower[seed % 2], 120) for seed in range(20)]
    assert worse == [None] * 20
    assert promoted_at(100, SLOW, "bayes-4", 300) is not None


@pytest.mark.long
def test_a_world_that_changes_opens_a_challenger_and_keeps_serving(
    service: InProcess, registry: Registry
) -> None:
    change = (Drift("base_rate", 400, 6.0), Drift("new_product", 400))
    story = Story(service, registry, base_rate=0.12, drifts=change)
    story.town.play(400)
    assert story.evaluated().drift["alarms"] == []
    story.town.play(200)
    report = story.evaluated()
    assert report.drift["alarms"]
    assert report.verdict == "keep"
    story.upkeep.build_challengers()
    (challenger,) = story.place.engineer.got("/v1/versions")["challengers"]
    assert (challenger["recipe"], challenger["status"]) == (FORGETTING, "open")
    assert challenger["opened_by"] == "jobs"
    story.town.play(20)
    report = story.evaluated()
    assert [line["role"] for line in report.lines] == ["champion", "challenger-1"]
    assert len(story.switches) == 1
    story.publish()
    assert story.serves() == 1
    assert "alarm" in story.told()
    alias = story.registry.aliases(story.place.name).get("challenger-1")
    assert alias is not None
    assert any("**Alarm.**" in run.data.tags["mlflow.note.content"] for run in story.runs())
    desk = story.registry._client.get_experiment(story.run().info.experiment_id)
    assert (
        f"challenger-1{PAD} | {challenger['version']}{PAD} | {FORGETTING}"
        in (desk.tags["mlflow.note.content"])
    )


def opposite(story: Story) -> int:
    """A version that learned the opposite of every label; gives its number."""
    standing = ModelState("bayes-4")
    with story.store.write() as connection:
        entries = ledger.tail(connection, story.place.name, 0)
        read = transcript_reader(connection, story.place.name)
        for entry in entries:
            if entry.kind == "outcome":
                labels = [(at, 1.0 - y, w) for at, y, w in entry.body["labels"]]
                entry = replace(entry, body=dict(entry.body) | {"labels": labels})  # noqa: PLW2901
            replay_entries(standing, [entry], read, through_switches=True)
        return switches.save_version(
            connection,
            story.place.name,
            switches.SerializedState.of(standing),
            line=0,
            reason="a mistake",
        )


@pytest.mark.long
def test_a_bad_promotion_is_rolled_back(service: InProcess, registry: Registry) -> None:
    story = Story(service, registry)
    story.town.play(250)
    before = story.place.engineer.got("/v1/standing")["version"]
    bad = opposite(story)
    path = f"/v1/versions/{bad}/promote"
    story.place.engineer.posted(path, {"reason": "it looked good"})
    assert story.evaluated().verdict == "keep"
    story.publish()
    assert story.serves() == bad
    for _ in range(5):
        story.town.play(30)
        report = story.evaluated()
        if report.verdict == "roll back":
            break
    switch = story.switches[-1]
    assert (switch.actor, switch.body["kind"]) == ("jobs", "rollback")
    evidence = switch.body["evidence"]
    assert (evidence["champion"], evidence["previous"]) == (bad, before)
    assert evidence["finding"] == "previous"
    story.publish()
    story.serves()
    assert story.run().data.tags["baton.verdict"] == "roll back"
    assert story.told()[-1] == "rollback"
    story.town.play(30)
    assert story.evaluated().verdict == "keep"
    assert len(story.switches) == 3, "nothing flaps"


def brier(place: Place, name: str) -> float:
    """How far off it is on fresh conversations of another world, told nothing of them."""
    town = Town(place, seed=77, base_rate=0.4)
    asked = [town.world.conversation(n) for n in range(40)]
    wrong = []
    for one in asked:
        turns = one.next()
        item = {"id": turns[-1].id, "text": turns[-1].text, "language": turns[-1].language}
        found = place.bot.posted(
            "/v1/score",
            {"conversation_id": f"{name} {one.number}", "message": item},
        )
        wrong.append((found["probability"] - one.labels[turns[-1].id]) ** 2)
    return sum(wrong) / len(wrong)


@pytest.mark.long
def test_forged_labels_are_rolled_back_and_repaired_to_the_bit(
    service: InProcess, registry: Registry
) -> None:
    story, clean = Story(service, registry), Story(service, registry)
    made = {"role": "engineer", "name": "mallory"}
    mallory = service.caller(story.place.admin.posted("/v1/keys", made)["key"])
    for one in (story, clean):
        one.town.play(150)
    story.evaluated()
    saved = story.save()
    honest = brier(story.place, "honest")
    for _ in range(2):
        story.town.play(30, told=forged, by=mallory)
        story.save()
    clean.town.begun += 60
    assert brier(story.place, "forged") > honest + 0.05

    asked = {"reason": "mallory forges", "without": {"agent": "mallory"}}
    back = story.place.engineer.posted("/v1/rollback", asked)
    assert (back["serving"], back["version"], back["challenger"]["status"]) == (
        True,
        saved,
        "asked",
    )
    assert brier(story.place, "rolled back") == pytest.approx(honest)
    for one in (story, clean):
        one.town.play(20)
    story.upkeep.build_challengers()
    (repaired,) = story.place.engineer.got("/v1/versions")["challengers"]
    path = f"/v1/versions/{repaired['version']}/promote"
    story.place.engineer.posted(path, {"reason": "the exact repair"})
    digests = [one.place.engineer.got("/v1/standing")["digest"] for one in (story, clean)]
    assert digests[0] == digests[1]
    story.publish()
    assert story.serves() == repaired["version"]
    kinds = [switch.body["kind"] for switch in story.switches]
    assert kinds == ["promotion", "rollback", "promotion"]


@pytest.mark.long
def test_jobs_killed_at_any_step_of_a_promotion_leave_ledger_and_alias_in_agreement(
    registry: Registry, tmp_path: Path
) -> None:
    """`kill -9` where it would hurt most: between what is decided, committed, done and noted."""
    with serving(tmp_path / "home") as service:
        story = Story(service, registry, SLOW)
        story.town.play(60)
        asked = {"recipe": "bayes-4", "reason": "it learned faster elsewhere"}
        story.place.engineer.posted("/v1/challengers", asked)
        story.upkeep.build_challengers()
        story.town.play(150)
    words = (tmp_path / "home" / "baton.sqlite3", tmp_path, registry.tracking_uri)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.killed_jobs", *map(str, words), story.place.name],
        cwd=Path(__file__).parents[3],
        env=dict(os.environ) | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    found = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [one["when"] for one in found] == list(INSTANTS)
    assert all(one["killed"] for one in found)
    for one in found:
        assert (one["switches"], one["rule"]) == (2, "proven better"), one
        assert one["alias"] == one["served"] is not None, one
        assert one["published"] == list(range(1, one["versions"] + 1)), one
        assert one["challengers"] == ["closed"], one
        assert one["told"] == ["challenger_closed", "challenger_opened", "promotion"], one
