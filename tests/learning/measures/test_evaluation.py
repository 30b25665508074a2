"""What is true of the measures, against scikit-learn and for any input."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from learning.measures.scores import (
    OnlineThreshold,
    Window,
    curve,
    handoff_match,
    jensen_shannon,
    measures,
    pair_scores,
    precision_recall,
    rates,
    reliability,
)

TENTHS = st.integers(0, 10).map(lambda n: n / 10)
PROBABILITIES = st.one_of(st.floats(0, 1), TENTHS)
ROWS = st.lists(
    st.tuples(PROBABILITIES, st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))),
    min_size=1,
    max_size=60,
)
WEIGHTED = st.lists(
    st.tuples(PROBABILITIES, st.sampled_from([0.0, 1.0]), st.sampled_from([0.25, 1.0, 3.0])),
    min_size=2,
    max_size=60,
).filter(lambda rows: len({y for _, y, _ in rows}) == 2)


def columns(rows: list[Any]) -> list[np.ndarray[Any, Any]]:
    return [np.array(column, np.float64) for column in zip(*rows, strict=True)]


@given(WEIGHTED)
def test_measures_are_those_of_scikit_learn_with_ties_and_weights(rows: list[Any]) -> None:
    p, y, w = columns(rows)
    found = measures(p, y, w)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, p, sample_weight=w), abs=1e-12)
    assert found["average_precision"] == pytest.approx(
        sk.average_precision_score(y, p, sample_weight=w), abs=1e-12
    )
    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    assert found["log_loss"] == pytest.approx(
        sk.log_loss(y, clipped, sample_weight=w), rel=1e-9, abs=1e-12
    )
    assert found["brier"] == pytest.approx(sk.brier_score_loss(y, p, sample_weight=w), abs=1e-12)


@given(ROWS, st.randoms(use_true_random=False))
def test_measures_do_not_depend_on_the_order_of_the_rows(rows: list[Any], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    a, b = measures(*columns(rows)), measures(*columns(shuffled))
    assert a.keys() == b.keys()
    assert all(a[name] == pytest.approx(b[name], abs=1e-9) for name in a)


@given(ROWS)
def test_measures_are_finite_and_within_their_range(rows: list[Any]) -> None:
    found = measures(*columns(rows))
    assert all(math.isfinite(value) and value >= 0.0 for value in found.values())
    assert all(found.get(name, 0.0) <= 1.0 for name in ("auc", "average_precision", "brier"))
    assert found["ece"] <= 1.0


@given(ROWS)
def test_a_row_of_weight_two_counts_as_that_row_twice(rows: list[Any]) -> None:
    p, y = columns(rows)
    twice = measures(np.repeat(p, 2), np.repeat(y, 2))
    heavy = measures(p, y, np.full(p.size, 2.0))
    assert heavy["ece"] == pytest.approx(measures(p, y)["ece"], abs=1e-9)
    for name in heavy.keys() - {"n", "positives", "ece"}:
        assert heavy[name] == pytest.approx(twice[name], abs=1e-9), name


def test_rows_without_weight_are_left_out() -> None:
    assert measures([0.2, 0.9, 0.1], [0, 1, 1], [1, 1, 0]) == measures([0.2, 0.9], [0, 1])


def test_what_is_undefined_is_absent() -> None:
    assert measures([], []) == {"n": 0, "positives": 0}
    assert "auc" not in measures([0.2, 0.4], [0, 0])
    assert "average_precision" not in measures([0.2, 0.4], [0, 0])
    assert "auc" not in measures([0.2, 0.4], [1, 1])
    assert measures([0.2, 0.4], [1, 1])["average_precision"] == 1.0


def test_soft_labels_are_classes_to_the_ranking_and_shares_to_the_loss() -> None:
    soft = measures([0.1, 0.4, 0.9], [0.0, 0.5, 0.75])
    assert soft["positives"] == 1
    assert soft["auc"] == 1.0
    expected = -(math.log(0.9) + 0.5 * math.log(0.4 * 0.6) + 0.75 * math.log(0.9)) / 3
    assert soft["log_loss"] == pytest.approx(expected - 0.25 * math.log(0.1) / 3)
    assert soft["brier"] == pytest.approx((0.01 + 0.01 + 0.0225) / 3)


def test_a_certain_mistake_costs_much_but_not_everything() -> None:
    assert measures([0.0], [1.0])["log_loss"] == pytest.approx(-math.log(1e-15))
    assert measures([1.0], [0.0])["log_loss"] == pytest.approx(-math.log(1e-15), rel=1e-2)


@pytest.mark.parametrize(
    "p, y, w, named",
    [
        ([0.5, 0.5], [1.0], None, "y has shape"),
        ([0.5], [1.5], None, "y must lie"),
        ([1.5], [1.0], None, "p must lie"),
        ([math.nan], [1.0], None, "p must be finite"),
        ([0.5], [1.0], [-1.0], "w must be finite and not negative"),
    ],
)
def test_bad_arrays_are_refused_by_name(p: Any, y: Any, w: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        measures(p, y, w)


def test_an_honest_model_has_a_small_calibration_error_and_a_liar_its_lie() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(200_000)
    y = (rng.random(p.size) < p).astype(float)
    assert measures(p, y)["ece"] < 0.005
    assert measures(np.clip(p * 0.5, 0, 1), y)["ece"] == pytest.approx(0.25, abs=0.005)


def test_bins_have_equal_mass_and_keep_the_means() -> None:
    rng = np.random.default_rng(2)
    p, y = rng.random(1500), rng.random(1500)
    bins = reliability(p, y)
    assert bins.mass.tolist() == [100.0] * 15
    assert (np.diff(bins.predicted) > 0).all()
    assert (bins.mass * bins.predicted).sum() == pytest.approx(p.sum())
    assert (bins.mass * bins.observed).sum() == pytest.approx(y.sum())
    by_hand = [np.mean(part) for part in np.array_split(y[np.argsort(p)], 15)]
    assert bins.observed == pytest.approx(by_hand)


@given(ROWS)
def test_no_more_bins_than_rows_and_nothing_is_lost(rows: list[Any]) -> None:
    p, y = columns(rows)
    bins = reliability(p, y)
    assert bins.mass.sum() == pytest.approx(p.size)
    assert 1 <= bins.mass.size <= min(15, p.size)


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    p, y = rng.integers(0, 20, 300) / 20, rng.integers(0, 2, 300)
    found = precision_recall(p, y)
    precision, recall, threshold = sk.precision_recall_curve(y, p)
    assert found.threshold.tolist() == threshold[::-1].tolist()
    assert found.precision == pytest.approx(precision[:-1][::-1])
    assert found.recall == pytest.approx(recall[:-1][::-1])


def test_precision_and_recall_of_nothing_are_empty() -> None:
    assert precision_recall([], []).threshold.size == 0
    assert precision_recall([0.3], [0.0]).precision.size == 0


SHARES = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda row: sum(row) > 0.01)


@given(SHARES, SHARES)
def test_divergence_is_symmetric_bounded_and_zero_for_equals(a: Any, b: Any) -> None:
    found = jensen_shannon(a, b)
    assert 0.0 <= found <= 1.0 + 1e-12
    assert found == pytest.approx(jensen_shannon(b, a), abs=1e-12)
    assert jensen_shannon(a, a) == pytest.approx(0.0, abs=1e-12)


def test_divergence_has_its_known_values() -> None:
    from scipy.spatial.distance import jensenshannon

    assert jensen_shannon([1, 0], [0, 1]) == pytest.approx(1.0)
    rows = np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]])
    others = np.array([[0.1, 0.1, 0.8], [0.6, 0.3, 0.1]])
    expected = (jensenshannon(rows, others, axis=1) ** 2).mean()
    assert jensen_shannon(rows, others, base=math.e) == pytest.approx(expected)
    with pytest.raises(ValueError, match="not all 0"):
        jensen_shannon([0, 0], [1, 0])
    with pytest.raises(ValueError, match="differ in shape"):
        jensen_shannon([1, 0], [1, 0, 0])


def test_rates_have_the_denominators_of_their_words() -> None:
    costs = [0, 0, 1, 5, 0, 0, 0, 0]
    found = rates([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0], costs=costs)
    assert (found.conversations, found.escalated, found.needed) == (8, 3, 3)
    assert found.false_escalation_rate == pytest.approx(1 / 3)
    assert found.missed_rate == pytest.approx(1 / 5)
    assert found.automation_rate == pytest.approx(5 / 8)
    assert found.cost_per_conversation == pytest.approx(6 / 8)


def test_a_rate_of_nothing_is_none() -> None:
    none = rates([], [], costs=[])
    assert none.false_escalation_rate is none.missed_rate is none.cost_per_conversation is None
    assert rates([0], [0], costs=[0]).false_escalation_rate is None
    assert rates([1], [0], costs=[1]).missed_rate is None
    with pytest.raises(ValueError, match="differ in shape"):
        rates([1], [1, 0], costs=[0])


# -- the window -----------------------------------------------------------------------------------

LESSONS = st.lists(
    st.tuples(st.integers(0, 3), PROBABILITIES, PROBABILITIES, st.sampled_from([0.0, 0.5, 1.0])),
    max_size=40,
)


def filled(lessons: list[Any], size: int = 8) -> Window:
    window, position = Window(size), 1
    for forward, p, y, w in lessons:
        position += forward
        window.add(position, p, y, w, f"c{position}")
    return window


@given(LESSONS)
def test_the_window_keeps_the_newest_lessons_in_order(lessons: list[Any]) -> None:
    window = filled(lessons)
    counted = [(p, y, w) for _, p, y, w in lessons if w > 0]
    kept = window.scores()
    rows = list(
        zip(kept.probability.tolist(), kept.label.tolist(), kept.weight.tolist(), strict=True)
    )
    assert rows == counted[-8:]
    assert len(window) == len(rows)
    assert (window.lessons, window.uncounted) == (len(counted), len(lessons) - len(counted))
    assert (np.diff(kept.position) >= 0).all()


@given(LESSONS)
def test_totals_cover_all_time(lessons: list[Any]) -> None:
    window = filled(lessons)
    counted = [(p, y, w) for _, p, y, w in lessons if w > 0]
    if not counted:
        assert window.log_loss is None
        assert window.brier is None
        return
    found = measures(*columns(counted))
    assert window.log_loss == pytest.approx(found["log_loss"], rel=1e-9, abs=1e-12)
    assert window.brier == pytest.approx(found["brier"], abs=1e-12)


@given(LESSONS, LESSONS)
def test_a_restored_window_goes_on_as_if_never_stopped(first: list[Any], then: list[Any]) -> None:
    straight, stopped = filled(first), filled(first)
    meta, arrays = stopped.dump()
    resumed = Window()
    resumed.load(json.loads(json.dumps(meta)), arrays)
    for array in arrays.values():
        array.fill(0)
    position = straight.last or 1
    for forward, p, y, w in then:
        position += forward
        straight.add(position, p, y, w, f"c{position}")
        resumed.add(position, p, y, w, f"c{position}")
    assert straight.dump()[0] == resumed.dump()[0]
    for name, array in straight.dump()[1].items():
        assert array.tobytes() == resumed.dump()[1][name].tobytes(), name


def test_a_window_of_another_shape_is_refused() -> None:
    meta, arrays = Window(8).dump()
    arrays["label"] = np.zeros(7)
    with pytest.raises(ValueError, match="label"):
        Window().load(meta, arrays)


def test_the_ledger_is_recorded_in_order() -> None:
    window = Window(8)
    window.add(5, 0.5, 1.0)
    with pytest.raises(ValueError, match="position 4"):
        window.add(4, 0.5, 1.0)


def test_scores_can_be_had_since_a_position_or_the_newest() -> None:
    window = filled(
        [(1, 0.1, 0.0, 1.0), (1, 0.2, 0.0, 1.0), (0, 0.3, 0.0, 1.0), (1, 0.4, 1.0, 1.0)]
    )
    assert window.scores(since=2).probability.tolist() == [0.2, 0.3, 0.4]
    assert window.scores(newest=1).probability.tolist() == [0.4]
    assert window.scores(newest=0).probability.tolist() == []
    assert window.outcomes == 3
    assert len(set(window.scores().conversation.tolist())) == 3


def test_two_lines_are_compared_on_the_lessons_that_both_scored() -> None:
    long, short = Window(100), Window(5)
    for position in range(1, 5):
        for place in range(3):
            long.add(position, position / 10, float(place == 2), conversation=f"c{position}")
            if position > 1:
                short.add(position, position / 20, float(place == 2), conversation=f"c{position}")
    a, b = pair_scores(long.scores(), short.scores())
    assert a.position.tolist() == b.position.tolist() == [3, 3, 4, 4, 4]
    assert a.label.tolist() == b.label.tolist() == [0, 1, 0, 0, 1]
    assert a.probability == pytest.approx(b.probability * 2)
    assert a.conversation.tolist() == b.conversation.tolist()
    nothing = pair_scores(long.scores(), Window(5).scores())
    assert len(nothing[0]) == len(nothing[1]) == 0


def test_a_curve_walks_along_the_ledger_and_ends_at_its_end() -> None:
    window = filled([(1, n / 25, float(n % 2), 1.0) for n in range(25)], size=100)
    points = list(curve(window.scores(), span=10))
    assert [point.position for point in points] == [11, 21, 26]
    assert [point.lessons for point in points] == [10, 20, 25]
    assert all(point.measures["n"] == 10 for point in points)
    assert [p.lessons for p in curve(window.scores(), span=10, every=5)] == [10, 15, 20, 25]
    assert [p.measures["n"] for p in curve(window.scores(newest=3), span=10)] == [3]
    assert list(curve(Window(3).scores())) == []


# -- thresholds and handoff points ----------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.tuples(PROBABILITIES, st.booleans()), min_size=1, max_size=80))
def test_the_learned_threshold_has_the_best_f1_of_its_steps(rows: list[Any]) -> None:
    threshold = OnlineThreshold(bins=20)
    for p, y in rows:
        threshold.learn(p, float(y))
    steps = np.array([min(int(p * 20), 19) for p, _ in rows])
    truth = np.array([y for _, y in rows])
    if not truth.any():
        assert threshold.value == 0.5
        return
    best = max(sk.f1_score(truth, steps >= step) for step in range(20))
    decided = np.array([threshold.decides(p) for p, _ in rows])
    assert sk.f1_score(truth, decided) == pytest.approx(best)


def test_a_threshold_lies_between_the_classes() -> None:
    threshold = OnlineThreshold()
    assert threshold.value == 0.5
    for p, y in ((0.1, 0.0), (0.2, 0.0), (0.4, 0.9), (0.6, 1.0)):
        threshold.learn(p, y)
    assert threshold.value == pytest.approx(0.3, abs=0.002)
    assert threshold.decides(0.35)
    assert not threshold.decides(0.25)
    assert threshold.decides(1.0)
    assert not threshold.decides(0.0)


def test_a_restored_threshold_decides_the_same() -> None:
    threshold, other = OnlineThreshold(50), OnlineThreshold()
    for n in range(30):
        threshold.learn(n / 30, float(n > 20))
    other.load(*threshold.dump())
    assert other.value == threshold.value
    assert other.bins == 50
    with pytest.raises(ValueError, match="positive"):
        other.load({"bins": 3}, threshold.dump()[1])


def test_handoff_match_has_the_values_of_its_formula() -> None:
    assert handoff_match([], [], 1) == 1.0
    assert handoff_match([3], [], 1) == handoff_match([], [3], 1) == 0.0
    assert handoff_match([3], [3], 1) == 1.0
    assert handoff_match([3], [4], 1) == pytest.approx(math.exp(-0.5), abs=1e-6)
    assert handoff_match([3], [5], 2) == pytest.approx(math.exp(-0.5), abs=1e-6)
    assert handoff_match([3, 9], [4, 9], 1) == pytest.approx((math.exp(-0.5) + 1) / 2, abs=1e-6)
    assert handoff_match([3], [4], 1, lam=0.5) == pytest.approx(math.exp(-1.0), abs=1e-6)
    assert handoff_match([3], [2], 1, lam=0.5) == pytest.approx(math.exp(-1 / 3), abs=1e-6)
    assert handoff_match([3], [4], 1, lam=1.0) == 0.0


PLACES = st.lists(st.integers(0, 30), max_size=6, unique=True)


@given(PLACES, PLACES)
def test_a_greater_tolerance_never_matches_worse(gold: list[int], predicted: list[int]) -> None:
    one, two, three = (handoff_match(gold, predicted, t) for t in (1, 2, 3))
    assert 0.0 <= one <= two <= three <= 1.0
