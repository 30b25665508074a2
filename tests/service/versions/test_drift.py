"""Drift: the world may change, the model may learn, and only the first raises an alarm."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.models.recipes import FORGETTING
from learning.monitoring.covariate_shift import (
    CONVERSATIONS_MIN,
    ConversationSnapshot,
    find_shifts,
    fisher,
    kolmogorov_smirnov,
)
from learning.monitoring.loss_drift import CALM, LossAlarm, LossMonitor
from service.jobs.maintenance import Maintenance
from service.store.ledger import change_log
from tests.service_in_process import InProcess, Place, serving

PRODUCTS = ("kettle", "lamp", "chair", "desk", "shelf", "fan")


def glimpses(
    rng: random.Random, count: int, *, score: float = 0.3, word: str = ""
) -> list[ConversationSnapshot]:
    """Conversations of chance: nothing in them means anything."""
    return [
        ConversationSnapshot(
            min(1.0, rng.random() * 2 * score),
            {"turns": float(rng.randrange(1, 6)), "sentiment": rng.uniform(-1, 1)},
            frozenset([rng.choice(PRODUCTS), *([word] if word and rng.random() < 0.2 else [])]),
        )
        for _ in range(count)
    ]


def test_without_a_change_no_more_looks_cry_wolf_than_is_promised() -> None:
    cried = 0
    for seed in range(200):
        rng = random.Random(seed)
        cried += bool(find_shifts(glimpses(rng, 200), glimpses(rng, 80), alpha=0.05))
    assert cried <= 0.05 * 200 + 6


@pytest.mark.parametrize(
    "kind, name, changed",
    [("scores", "probability", {"score": 0.45}), ("vocabulary", "zephyr", {"word": "zephyr"})],
)
def test_a_change_is_named(kind: str, name: str, changed: dict[str, Any]) -> None:
    rng = random.Random(1)
    found = find_shifts(glimpses(rng, 800), glimpses(rng, 200, **changed))
    assert (found[0].kind, found[0].name) == (kind, name)
    assert found[0].now > found[0].before


def test_a_feature_that_changed_is_named() -> None:
    rng = random.Random(2)
    longer = [
        ConversationSnapshot(g.score, {**g.context, "turns": 9.0}, g.words)
        for g in glimpses(rng, 100)
    ]
    found = find_shifts(glimpses(rng, 800), longer)
    assert [(shift.kind, shift.name) for shift in found] == [("features", "turns")]


def test_a_word_of_few_conversations_is_never_named() -> None:
    rng = random.Random(3)
    few = glimpses(rng, 200)
    few[: CONVERSATIONS_MIN - 1] = [
        ConversationSnapshot(g.score, g.context, g.words | {"secret"})
        for g in few[: CONVERSATIONS_MIN - 1]
    ]
    assert "secret" not in str(find_shifts(glimpses(rng, 800), few))


def test_the_tests_are_those_of_the_textbooks() -> None:
    """Fisher's tea: 3 of 4 against 1 of 4 is .4857 on two sides; Kolmogorov's 5 % lies at 1.358."""
    assert fisher(3, 4, 1, 4) == pytest.approx(2 * 17 / 70)
    assert fisher(4, 4, 0, 4) == pytest.approx(2 / 70)
    a = [n / 2000 for n in range(2000)]
    b = [min(1.0, x + 1.358 / 1000**0.5) for x in a]
    assert kolmogorov_smirnov(a, b) == pytest.approx(0.05, abs=0.01)


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 30), st.integers(1, 30))
def test_fishers_p_does_not_care_which_window_came_first(k: int, n: int, j: int, m: int) -> None:
    k, j = min(k, n), min(j, m)
    assert fisher(k, n, j, m) == pytest.approx(fisher(j, m, k, n))
    assert 0 < fisher(k, n, j, m) <= 1


@pytest.mark.parametrize("allowed", [0.02, 0.12, 0.5, 0.9])
def test_with_a_loss_as_high_as_allowed_the_evidence_grows_by_one_a_label(allowed: float) -> None:
    """All sequences of six labels, each by its chance: that is the proof of "at most one in A"."""
    expected = 0.0
    for losses in itertools.product((0.0, 1.0), repeat=6):
        alarm = LossAlarm(allowed, once_in=math.inf)
        for loss in losses:
            alarm.learn(loss)
        chance = math.prod(allowed if loss else 1 - allowed for loss in losses)
        expected += chance * alarm.evidence
    assert expected == pytest.approx(6)


def test_a_watch_learns_what_is_usual_and_cries_when_the_loss_doubles() -> None:
    rng = random.Random(4)
    watch = LossMonitor()
    assert not any(watch.learn(float(rng.random() < 0.1)) for _ in range(3 * CALM))
    assert any(watch.learn(float(rng.random() < 0.3)) for _ in range(600))


def test_a_watch_over_a_steady_loss_stays_calm() -> None:
    cried = 0
    for seed in range(60):
        rng, watch = random.Random(seed), LossMonitor()
        cried += any(watch.learn(float(rng.random() < 0.1)) for _ in range(1500))
    assert cried <= 3


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("drift")) as running:
        yield running


def played(place: Place, first: int, count: int, text: str, needed: bool) -> None:
    """Closed conversations of one message, each with its label."""
    names = [f"c{n}" for n in range(first, first + count)]
    items = [
        {"conversation_id": name, "message": {"id": "m1", "text": text.format(PRODUCTS[n % 6])}}
        for n, name in enumerate(names)
    ]
    assert all(
        "action" in x for x in place.bot.posted("/v1/score/batch", {"items": items})["results"]
    )
    for n, name in enumerate(names):
        label = float(needed == bool(n % 2))
        body = {"labels": [{"message_id": "m1", "label": label}]}
        place.engineer.posted(f"/v1/conversations/{name}/outcome", body)
        place.bot.posted(f"/v1/conversations/{name}/close", {"resolution": "resolved"})


def test_a_changed_world_opens_a_challenger_once_and_resets_and_promotes_nothing(
    service: InProcess,
) -> None:
    """First only every second product needs a person; then the others, and all have a new name."""
    place = service.workspace(mode="shadow")
    upkeep = Maintenance(service.baton.store, service.baton.settings)
    for start in (0, 210):
        played(place, start, 210, "my {} does not work", True)
    upkeep.evaluate_one(place.name)
    calm = place.engineer.got("/v1/quality")["drift"]
    assert (calm["alarms"], calm["loss"]["state"]) == ([], "watching")
    played(place, 420, 200, "my {} zephyr does not work", False)
    upkeep.evaluate_one(place.name)
    drift = place.engineer.got("/v1/quality")["drift"]
    assert {"loss", "vocabulary"} <= {alarm["kind"] for alarm in drift["alarms"]}
    assert "zephyr" in {alarm["name"] for alarm in drift["alarms"]}
    upkeep.build_challengers()
    versions = place.engineer.got("/v1/versions")
    opened = [v for v in versions["versions"] if v["reason"].startswith("challenger: ")]
    assert [(v["line"], v["recipe"]) for v in opened] == [(0, FORGETTING)]
    (challenger,) = versions["challengers"]
    assert (challenger["version"], challenger["status"]) == (opened[0]["number"], "open")
    assert {alarm["challenger"] for alarm in drift["alarms"]} == {challenger["id"]}
    with place.service.baton.store.read() as connection:
        told = [row.kind for row in change_log.after(connection, place.name)]
    assert told == ["alarm"] * len(drift["alarms"]) + ["challenger_opened"]
    assert len(place.ledger("switch")) == 1, "nobody promoted it"
    assert place.engineer.got("/v1/standing")["position"] == 622, "nothing was reset"
    for again in (upkeep, Maintenance(service.baton.store, service.baton.settings)):
        again.evaluate_one(place.name)
        assert place.engineer.got("/v1/quality")["drift"]["alarms"] == drift["alarms"]
