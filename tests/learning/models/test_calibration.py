"""The calibrator: the identity at first, honest soon, and never turning an order around."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.models.calibration import Calibrator
from learning.models.hashed_features import sigmoid
from learning.models.kalman import KalmanLogistic

probabilities = st.floats(0, 1)
taught = st.lists(st.tuples(probabilities, probabilities, st.floats(0, 20)), max_size=60)


def learned(labels: list[tuple[float, float, float]]) -> Calibrator:
    calibrator = Calibrator()
    for p, y, w in labels:
        calibrator.learn(p, y, w)
    return calibrator


def stream(n: int, seed: int, shift: float = 0.0) -> list[tuple[float, float, float]]:
    """Scores twice as sure as they should be, and labels drawn from the truth."""
    draw = random.Random(seed)
    found = []
    for _ in range(n):
        margin = draw.gauss(-1.0, 1.0)
        label = float(draw.random() < sigmoid(margin + shift))
        found.append((sigmoid(2 * margin), label, 1.0))
    return found


def test_before_any_label_an_unknowing_score_says_that_few_need_a_person() -> None:
    assert Calibrator()(0.5) == pytest.approx(0.05)
    assert Calibrator()(0.9) > Calibrator()(0.5) > Calibrator()(0.1)


def test_the_caution_is_gone_with_some_hundred_labels() -> None:
    even = [(p, y, 1.0) for p, y in ((0.5, 0.0), (0.5, 1.0))]
    assert learned(even * 25)(0.5) == pytest.approx(0.25, abs=0.03)
    assert learned(even * 250)(0.5) == pytest.approx(0.5, abs=0.03)


@given(taught, probabilities, probabilities)
def test_a_higher_score_never_becomes_a_lower_probability(
    labels: list[tuple[float, float, float]], one: float, other: float
) -> None:
    calibrator = learned(labels)
    low, high = sorted((one, other))
    assert 0.0 <= calibrator(low) <= calibrator(high) <= 1.0


@given(taught)
def test_no_label_or_weight_makes_it_leave_the_numbers(
    labels: list[tuple[float, float, float]],
) -> None:
    assert math.isfinite(learned(labels)(0.5))


def test_scores_twice_as_sure_as_they_should_be_become_honest() -> None:
    calibrator = learned(stream(4000, seed=1))
    for margin in (-2.0, -1.0, 0.0):
        assert calibrator(sigmoid(2 * margin)) == pytest.approx(sigmoid(margin), abs=0.05)


def test_a_jump_of_the_base_rate_is_followed() -> None:
    calibrator = learned([*stream(3000, seed=2), *stream(1500, seed=3, shift=1.5)])
    assert calibrator(sigmoid(-2.0)) == pytest.approx(sigmoid(-1.0 + 1.5), abs=0.08)


def test_a_jump_is_noticed_within_hundreds_of_labels_not_thousands() -> None:
    calibrator = learned(stream(3000, seed=4))
    slow = learned(stream(3000, seed=4))
    slow._detect_change = lambda *_: None  # type: ignore[method-assign]
    late = stream(400, seed=5, shift=1.5)
    for p, y, w in late:
        calibrator.learn(p, y, w)
        slow.learn(p, y, w)
    truth = sigmoid(-1.0 + 1.5)
    assert abs(calibrator(sigmoid(-2.0)) - truth) < 0.6 * abs(slow(sigmoid(-2.0)) - truth)


def test_a_few_parameters_are_learned_with_all_their_covariance() -> None:
    """Two inputs that always come together are told apart by the one lesson that parts them."""
    model = KalmanLogistic((0.0, 0.0), (1.0, 1.0))
    for n in range(200):
        model.learn((1.0, 1.0), float(n % 4 == 0), 1.0)
    before = model.theta[1]
    for _ in range(50):
        model.learn((1.0, 0.0), 1.0, 1.0)
    assert model.theta[0] > 1.0
    assert model.theta[1] < before - 1.0


def test_a_label_of_no_weight_teaches_nothing() -> None:
    assert learned([(0.3, 1.0, 0.0)]).dump() == Calibrator().dump()


@given(taught, taught)
def test_a_loaded_calibrator_goes_on_to_the_same_bits(
    first: list[tuple[float, float, float]], then: list[tuple[float, float, float]]
) -> None:
    live, loaded = learned(first), Calibrator()
    loaded.load(*live.dump())
    for p, y, w in then:
        live.learn(p, y, w)
        loaded.learn(p, y, w)
    assert loaded.dump() == live.dump()


@pytest.mark.parametrize("bad", [(math.nan, 1.0, 1.0), (0.5, 2.0, 1.0), (0.5, 1.0, -1.0)])
def test_what_is_no_probability_or_weight_is_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="cannot calibrate"):
        Calibrator().learn(*bad)


def test_a_state_of_nonsense_is_refused() -> None:
    meta, arrays = Calibrator().dump()
    with pytest.raises(ValueError, match="of 3 parameters"):
        Calibrator().load({**meta, "theta": [1.0]}, arrays)
    with pytest.raises(ValueError, match="finite"):
        Calibrator().load({**meta, "theta": [1.0, math.inf, 0.0]}, arrays)
