"""Experts that rehearse, mixed: what each kind is for, and that nothing is counted twice."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from learning.models.hashed_features import BUCKETS, Row
from learning.models.mixture.expert_mixture import Mixture
from learning.models.mixture.replay_buffer import ReplayBuffer, StoredLesson

Lesson = tuple[dict[str, float], float]


def lessons(count: int, seed: int, words: int = 40) -> list[Lesson]:
    """Some words mean yes, some no, and most nothing; one label in seven is wrong."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        said = draw.sample(range(words), 6)
        y = sum((word % 5 == 0) - (word % 5 == 1) for word in said) + draw.gauss(0, 0.7) > 0
        found.append(({f"user=w{word}": 1.0 for word in said}, float(y)))
    return found


def correct(model: Mixture, tests: list[Lesson]) -> float:
    return float(np.mean([(model.assess_one(x)[0] > 0.5) == (y > 0.5) for x, y in tests]))


def learned(given: list[Lesson], **parameters: Any) -> Mixture:
    model = Mixture(**parameters)
    for x, y in given:
        model.learn_one(x, y)
    return model


def test_rehearsing_teaches_more_from_the_same_few_labels() -> None:
    tests = lessons(1500, seed=9)
    gains = [
        correct(learned(lessons(80, seed), visits=5), tests)
        - correct(learned(lessons(80, seed), visits=0), tests)
        for seed in range(6)
    ]
    assert np.mean(gains) > 0.01


def test_what_is_held_is_learned_as_a_refit_would_learn_it() -> None:
    """Every dual pays what its lesson owes, and the weights are the sum of what was paid."""
    model = learned(lessons(60, 1), visits=300, held=60, variances=(0.3,))
    weights = np.zeros(BUCKETS)
    for held in model._replay_buffer._lessons:
        margin = float((model._replayed.array[held.row.index, 0] * held.row.value).sum())
        p = 1 / (1 + np.exp(-margin))
        assert held.duals[0] == pytest.approx(held.weight * (held.label - p), abs=0.03)
        weights[held.row.index] += held.duals[0] * held.row.value
    begun = Mixture(variances=(0.3,))
    paid = model._replayed.array[:, 0] - begun._replayed.array[:, 0]
    assert paid == pytest.approx(weights * begun._replayed.array[:, 2], abs=1e-9)


def test_a_lesson_that_leaves_makes_its_words_more_certain_and_no_others() -> None:
    model = Mixture(held=2)
    for word in ("a", "b", "c"):
        model.learn_one({f"user={word}": 1.0}, True)
    before = Mixture()._replayed.array[:, 2]
    shrunk = np.flatnonzero(model._replayed.array[:, 2] < before)
    gone = Row({"user=a": 1.0}, BUCKETS)
    assert sorted(shrunk) == sorted(gone.index)


def test_a_restless_expert_is_first_to_follow_when_everything_turns_around() -> None:
    given = lessons(3000, 2)
    turned = [(x, 1.0 - y) for x, y in lessons(300, 3)]
    tests = [(x, 1.0 - y) for x, y in lessons(1000, 4)]
    alone: dict[str, Any] = {"variances": (0.1,), "damped": (1e-6,), "start": 0.0}
    steady = learned(given + turned, restless=(1e-6,), rates=(0.05,), **alone)
    restless = learned(given + turned, restless=(0.05,), rates=(1e-6,), **alone)
    assert correct(restless, tests) > correct(steady, tests) + 0.05


def test_a_conversation_is_tested_whole_before_any_of_it_moves_a_share() -> None:
    """Its lessons agree with each other: an expert that learns them by heart would win by it."""
    given = lessons(40, 5)
    one, other = Mixture(), Mixture()
    one.learn([Row(x, BUCKETS) for x, _ in given], [y for _, y in given], [1.0] * len(given))
    for x, y in given:
        other.learn_one(x, y)
    assert one._shares.theta != other._shares.theta
    assert (one._replayed.array == other._replayed.array).all(), "what is learned is the same"
    assert (one._single_pass.array == other._single_pass.array).all()


def test_what_was_said_of_a_row_is_used_once_and_never_after_more_was_learned() -> None:
    """A row asked about before it is learned teaches as one that was not, to the bit."""
    given = [(Row(x, BUCKETS), y) for x, y in lessons(50, 6)]
    asked, plain = Mixture(), Mixture()
    for (row, y), (next_row, _) in zip(given, given[1:] + given[:1], strict=True):
        asked.assess(row)
        asked.assess(next_row)
        asked.learn([row], [y], [1.0])
        plain.learn([Row.of(row.index, row.value)], [y], [1.0])
        assert asked._shares.theta == plain._shares.theta
    assert (asked._replayed.array == plain._replayed.array).all()


def test_the_newest_lessons_are_held_and_the_draw_is_the_same_everywhere() -> None:
    rows = [Row({f"user={n}": 1.0}, BUCKETS) for n in range(7)]
    kept = ReplayBuffer(3, 1, BUCKETS)
    gone = [kept.add(StoredLesson(row, 1.0, 1.0, [0.0])) for row in rows]
    assert [one and one.row for one in gone] == [None, None, None, *rows[:4]]
    drawn = [rows.index(kept.draw().row) for _ in range(12)]
    assert drawn == [4, 4, 4, 4, 4, 6, 6, 4, 5, 4, 5, 5]


@pytest.mark.parametrize(
    "spoilt",
    [
        {"length": np.array([3, -1])},
        {"index": np.array([0, 1, 0, 2**20], np.int32)},
        {"value": np.array([1.0, np.nan, 1.0, 1.0])},
        {"label": np.array([1.0])},
        {"dual": np.array([[0.0], [np.inf]])},
    ],
    ids=lambda spoilt: next(iter(spoilt)),
)
def test_lessons_that_cannot_be_are_refused(spoilt: dict[str, Any]) -> None:
    kept = ReplayBuffer(3, 1, BUCKETS)
    for word in ("a", "b"):
        kept.add(StoredLesson(Row({f"user={word}": 1.0}, BUCKETS), 1.0, 1.0, [0.0]))
    meta, arrays = kept.dump()
    ReplayBuffer(3, 1, BUCKETS).load(json.loads(json.dumps(meta)), arrays)
    with pytest.raises(ValueError, match="lesson"):
        ReplayBuffer(3, 1, BUCKETS).load(meta, {**arrays, **spoilt})


def test_names_that_share_a_bucket_count_together() -> None:
    names = [f"user=w{n}" for n in range(9000)]
    places: dict[int, str] = {}
    one, other = next(
        (places[place], name)
        for name in names
        for place in (int(Row({name: 1.0}, 8192).index[1]),)
        if place in places or places.update({place: name})  # type: ignore[func-returns-value]
    )
    both = Row({one: 1.0, other: 2.0}, 8192)
    assert both.index.tolist() == [0, int(Row({one: 1.0}, 8192).index[1])]
    assert both.value.tolist() == [1.0, 3.0]
