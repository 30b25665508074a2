"""Doubted labels are undone at once and then exactly, with one request or command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.jobs.maintenance import Maintenance
from tests.service_in_process import InProcess, Place, refusal, serving
from tests.town import Town, forged


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repair")


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[InProcess]:
    with serving(home) as running:
        yield running


class Forged:
    """A workspace with a version from before mallory's labels and one with some of them in it."""

    def __init__(self, service: InProcess) -> None:
        self.place: Place = service.workspace("shadow")
        made = {"role": "engineer", "name": "mallory"}
        mallory = service.caller(self.place.admin.posted("/v1/keys", made)["key"])
        self.upkeep = Maintenance(service.baton.store, service.baton.settings)
        town = Town(self.place, seed=3, base_rate=0.4)
        town.play(12)
        self.before = self.save()
        town.play(6, told=forged, by=mallory)
        self.during = self.save()
        town.play(4)

    def save(self) -> int:
        return self.upkeep.save(self.place.name, self.upkeep._lines.champion(self.place.name))

    def back(self, **asked: Any) -> Any:
        return self.place.engineer.post("/v1/rollback", json={"reason": "forged"} | asked)

    @property
    def known(self) -> Any:
        return self.place.engineer.got("/v1/versions")


def test_what_serves_at_once_learned_none_of_it_and_the_challenger_is_built_without_it(
    service: InProcess,
) -> None:
    story = Forged(service)
    found = story.back(without={"agent": "mallory"}).json()
    assert (found["version"], found["serving"]) == (story.before, True)
    story.upkeep.build_challengers()
    (challenger,) = story.known["challengers"]
    assert challenger["id"] == found["challenger"]["id"]
    assert (challenger["status"], challenger["without"]) == ("open", {"agent": "mallory"})
    assert (challenger["opened_by"], challenger["why"]) == (
        f"{story.place.name}-engineer",
        "repair: forged",
    )
    assert challenger["built"] == story.place.engineer.got("/v1/standing")["position"]


def test_a_version_that_is_named_serves_whatever_it_learned(service: InProcess) -> None:
    story = Forged(service)
    found = story.back(to=story.during, without={"agent": "mallory"}).json()
    assert found["version"] == story.during
    assert found["challenger"]["without"] == {"agent": "mallory"}


def test_a_blocked_version_is_passed_over(service: InProcess) -> None:
    story = Forged(service)
    story.place.engineer.posted(f"/v1/versions/{story.before}/block", {"reason": "doubtful"})
    refusal(story.back(to=story.before, without={"agent": "mallory"}), 409, "version_blocked")
    assert story.known["challengers"] == []
    assert story.back(without={"agent": "mallory"}).json()["version"] == 1


def test_what_nobody_said_cannot_be_left_out(service: InProcess) -> None:
    story = Forged(service)
    for without in ({"agent": "nobody"}, {"source": "audit"}, {"from_position": 10_000}):
        refusal(story.back(without=without), 422, "nothing_left_out")
    head = story.place.engineer.got("/v1/standing")["position"]
    without = {"agent": "mallory", "to_position": head - 10}
    assert refusal(story.back(without=without), 422)["field"] == "without"
    assert len(story.known["switches"]) == 1


def test_a_name_that_was_mistyped_repairs_nothing(service: InProcess, home: Path) -> None:
    story = Forged(service)
    without = {"agent": "malory"}
    refusal(story.back(to=story.before, without=without), 422, "nothing_left_out")
    asked = story.place.engineer.post("/v1/challengers", json={"reason": "?", "without": without})
    assert refusal(asked, 422, "nothing_left_out")["field"] == "without"
    known = story.known
    words = ["rebuild", "--without-agent", "malory", "-w", story.place.name, "--home", str(home)]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "no outcome of this workspace" in done.output) == (1, True)
    assert story.known == known


def test_a_rebuild_says_in_words_what_it_leaves_out(service: InProcess, home: Path) -> None:
    story = Forged(service)
    words = ["rebuild", "--without-agent", "mallory", "-w", story.place.name, "--home", str(home)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    newest = max(story.known["versions"], key=lambda one: one["number"])
    assert newest["reason"].endswith("without agent mallory")


def test_where_no_challenger_may_be_opened_nothing_is_rolled_back(service: InProcess) -> None:
    story = Forged(service)
    for number in range(4):
        asked = {"reason": "?", "recipe": f"bayes-4?v0={number + 2}"}
        story.place.engineer.posted("/v1/challengers", asked)
    refusal(story.back(without={"agent": "mallory"}), 409, "challengers_full")
    assert len(story.known["switches"]) == 1
    assert story.back(to=story.before).json()["challenger"] is None


def test_the_command_does_the_same(service: InProcess, home: Path) -> None:
    story = Forged(service)
    words = ["rollback", "--without-agent", "mallory", "--reason", "forged", "--json"]
    given = ["-w", story.place.name, "--home", str(home)]
    done = CliRunner().invoke(app, words + given)
    assert done.exit_code == 0, done.output
    known = story.known
    assert known["switches"][-1]["version"] == story.before
    assert known["challengers"][0]["without"] == {"agent": "mallory"}
