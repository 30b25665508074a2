"""Forged labels: detected, told of, rolled back and repaired, through the real service."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.replay.client import BatonClient
from experiments.simulation.world import AgentBehaviour, Forgery, WorldSettings, episodes
from experiments.studies.simulated_rates import ServicePlan, ServiceRun
from learning.conversation.state import EMPTY, step
from learning.decision.policy import Policy
from learning.ledger.model_state import ModelState, replay_entries
from learning.measures.scores import measures
from service.jobs.maintenance import Maintenance
from service.outcomes import annotator_review, audit_tasks
from service.runtime.settings import Settings
from service.store.ledger import change_log
from service.store.ledger import entries as ledger
from service.versions.restore import restore, transcript_reader
from tests.fork_server import command
from tests.service_in_process import InProcess, Place, serving

ROOT = Path(__file__).parents[3]
STAFF = (
    ("ada", AgentBehaviour()),
    ("ben", AgentBehaviour(wrong=0.03)),
    ("cleo", AgentBehaviour(wrong=0.08)),
)
HONEST, FORGED = 240, 130
"""Conversations before the attack, and after its first one."""

NEED = 0.76
"""Share of conversations that come to need a person."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raters")


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[InProcess]:
    with serving(home) as running:
        yield running


def toss(place: Place) -> None:
    with place.service.baton.store.write() as connection:
        policy = Policy.model_validate(ledger.newest_policy(connection, place.name))
        audit_tasks.draw_audits(connection, place.name, policy.audits, time.time() + 60)


def looked(place: Place) -> dict[str, Any]:
    """What the route says once `jobs` have taken in all there is."""
    while annotator_review.AnnotatorMonitor(place.service.baton.store).review_workspace(
        place.name, time.time()
    ):
        pass
    found: dict[str, Any] = place.engineer.got("/v1/quality/agents")
    return found


def suspicions(place: Place) -> list[dict[str, Any]]:
    with place.service.baton.store.read() as connection:
        return [e.facts for e in change_log.newest(connection, place.name, "agent_suspected")]


def suggested(home: Path, line: str) -> dict[str, Any]:
    """Run a suggested command as an engineer would, in a shell of its own."""
    program, *words = shlex.split(line)
    assert program == "baton"
    given = {"BATON_HOME": str(home), "BATON_LOG_LEVEL": "error"}
    done = command(*words, "--json", environ=dict(os.environ) | given)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def loss(standing: ModelState) -> float:
    """Of customers it never met, with the truth that the simulation knows."""
    said, true = [], []
    for episode in episodes(977, 80, WorldSettings(base_rate=NEED)):
        state, labels = EMPTY, dict(episode.labels)
        for number, message in enumerate(episode.messages):
            state = step(state, message)
            if number in labels:
                said.append(standing.score(state).probability)
                true.append(labels[number])
    return float(measures(np.array(said), np.array(true))["log_loss"])


def never_held(place: Place, agent: str) -> ModelState:
    """What is learned of a ledger that never held this agent's entries, numbered without them."""
    with place.service.baton.store.read() as connection:
        entries = [
            entry
            for entry in ledger.tail(connection, place.name, 0)
            if entry.kind != "switch" and entry.body.get("agent") != agent
        ]
        numbered = [replace(entry, position=n) for n, entry in enumerate(entries, 1)]
        standing = ModelState(recipe="bayes-4")
        replay_entries(standing, numbered, transcript_reader(connection, place.name))
    return standing


def learned(standing: ModelState) -> tuple[Any, ...]:
    """All that a line learned, but for the positions at which it did."""
    model, weights = standing.model.dump()
    calibrator, more = standing.calibrator.dump()
    arrays = {name: array.tobytes() for name, array in (weights | more).items()}
    return model, calibrator, arrays


@dataclass
class Story:
    """A service whose jobs look at it now and then, and what they saw."""

    place: Place
    upkeep: Maintenance
    callers: dict[str, BatonClient]
    versions: list[int] = field(default_factory=list)
    attacked: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)

    def look(self) -> None:
        toss(self.place)
        store = self.place.service.baton.store
        if not self.found:
            standing = restore(store, self.place.name)
            self.versions.append(self.upkeep.save(self.place.name, standing))
        agents = looked(self.place)["agents"]
        suspected = [one for one in agents if one["suspected"]]
        if suspected and not self.found:
            self.found = suspected[0]
            self.attacked = loss(restore(store, self.place.name))
            del self.callers["mallory"]


def test_forged_labels_are_detected_rolled_back_and_repaired_to_the_bit(
    service: InProcess, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Random(
        7
    )  # the audits' coins decide how soon: after 18 to 100 verdicts with other seeds
    coins = SimpleNamespace(token_hex=lambda size: chance.randbytes(size).hex())
    monkeypatch.setattr("service.outcomes.audit_tasks.secrets", coins)
    place = service.workspace()
    callers = {role: BatonClient(service.url, key) for role, key in place.keys.items()}
    for name in (*(name for name, _ in STAFF), "mallory"):
        made = place.admin.posted("/v1/keys", {"role": "agent", "name": name})
        callers[name] = BatonClient(service.url, made["key"])
    everyone = list(callers.values())
    settings = WorldSettings(behaviours=STAFF, forgeries=(Forgery(HONEST, HONEST + FORGED),))
    plan = ServicePlan(4, HONEST + FORGED, every=15, base_rate=NEED, settings=settings)
    place.policy(costs={"unneeded": 1.0, "missed": 1.0, "ask": 1e6})
    store = service.baton.store
    story = Story(place, Maintenance(store, Settings(home=home)), callers)
    ServiceRun(plan, callers, story.look).play()
    for caller in everyone:
        caller.__exit__(None, None, None)

    assert story.found["agent"] == "mallory"
    facts = suspicions(place)
    assert [one["agent"] for one in facts] == ["mallory"], "told once, and of nobody else"
    assert story.found["suspected"]["after_verdicts"] <= 100
    at_once, repair = facts[0]["commands"]["at_once"], facts[0]["commands"]["repair"]
    back = suggested(home, at_once)
    service_standing = restore(store, place.name)
    assert service_standing.version == back["version"]
    clean = never_held(place, "mallory")
    rolled_back = loss(service_standing)
    repaired = suggested(home, repair)
    served = restore(store, place.name)
    assert served.version == repaired["version"]
    assert learned(served) == learned(clean)
    assert loss(served) == loss(clean) < story.attacked
    assert story.attacked > rolled_back
    agents = {one["agent"]: one for one in looked(place)["agents"]}
    assert agents["mallory"]["left_out"]
    assert len(suspicions(place)) == 1
