"""The Bayesian logistic regression does what its formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.models.bayesian_logistic import PROBIT, RESERVED, BayesianLogisticRegression, bucket
from learning.models.hashed_features import Row, sigmoid

BUCKETS = 2**13
values = st.floats(-3, 3)
rows = st.dictionaries(st.sampled_from([*"abcdef", "user=a", "user=b"]), values, max_size=6)
lessons = st.lists(st.tuples(rows, st.floats(0, 1), st.floats(0, 5)), max_size=20)


def small(v0: float = 0.3, forgetting: float = 0.0) -> BayesianLogisticRegression:
    return BayesianLogisticRegression(v0, v0, forgetting, BUCKETS)


def test_one_step_is_the_newton_step_of_the_formula() -> None:
    model, x, y, w, v0 = small(), {"a": 2.0, "user=b": -1.0}, 1.0, 0.5, 0.3
    s2 = v0 * (1 + 4 + 1)
    p = 0.5
    assert model.margin_row(Row(x, BUCKETS)) == pytest.approx((0.0, s2))
    model.learn_one(x, y, w)
    h = w * p * (1 - p)
    d = 1 / (1 + h * s2)
    means = [v0 * value * w * (y - p) * d for value in (1.0, 2.0, -1.0)]
    variances = [v0 - (v0 * value) ** 2 * h * d for value in (1.0, 2.0, -1.0)]
    mu = sum(m * v for m, v in zip(means, (1.0, 2.0, -1.0), strict=True))
    s2 = sum(v * value**2 for v, value in zip(variances, (1.0, 2.0, -1.0), strict=True))
    expected = sigmoid(mu / math.sqrt(1 + PROBIT * s2))
    assert model.predict_proba_one(x)[True] == pytest.approx(expected)
    assert model.assess_one(x)[1] == pytest.approx(s2)


@settings(max_examples=30, deadline=None)
@given(lessons, rows)
def test_uncertainty_never_grows_by_learning_and_stays_above_zero(
    taught: list[tuple[dict[str, float], float, float]], x: dict[str, float]
) -> None:
    model = small()
    before = model.assess_one(x)[1]
    for row, y, w in taught:
        model.learn_one(row, y, w)
        now = model.assess_one(x)[1]
        assert 0.0 < now <= before + 1e-12
        before = now


@given(st.floats(1, 1e12))
def test_even_an_enormous_weight_makes_a_bounded_step(w: float) -> None:
    model, x = small(), {"a": 1.0}
    model.learn_one(x, True, w)
    mu = model._m[bucket("a", BUCKETS)]
    assert 0.0 < mu <= 0.3 * 0.5 / (0.25 * 0.6) + 1e-9
    assert model.predict_proba_one(x)[True] < 0.9


def test_soft_labels_lead_to_their_share() -> None:
    model = small(v0=1.0)
    for _ in range(400):
        model.learn_one({"a": 1.0}, 0.3)
    assert model.predict_proba_one({"a": 1.0})[True] == pytest.approx(0.3, abs=0.02)


def test_forgetting_keeps_a_touched_variance_from_vanishing() -> None:
    keeps, forgets = small(), small(forgetting=0.01)
    for n in range(2000):
        for model in (keeps, forgets):
            model.learn_one({"a": 1.0}, n % 2 == 0)
    assert forgets.assess_one({"a": 1.0})[1] > 3 * keeps.assess_one({"a": 1.0})[1]


def test_names_that_share_a_bucket_add_up_and_keep_the_variance_positive() -> None:
    model = BayesianLogisticRegression(0.3, 0.3, 0.0, RESERVED + 1)
    x = {f"user={n}": 1.0 for n in range(50)}
    for _ in range(20):
        model.learn_one(x, True, 50.0)
    assert (model._v > 0.0).all()
    assert model.predict_proba_one(x)[True] > 0.9


def test_buckets_are_those_of_crc32_on_every_machine() -> None:
    assert bucket("user=refund", 2**18) == 189097
    assert bucket("of no feature", 2**18) == 3374


def test_a_loaded_state_must_fit() -> None:
    model = small()
    model.learn_one({"a": 1.0}, True)
    meta, arrays = model.dump()
    with pytest.raises(ValueError, match="does not fit"):
        small(v0=0.5).load(meta, arrays)
    broken = {**arrays, "m": np.array([np.nan] * len(arrays["m"]))}
    with pytest.raises(ValueError, match="not finite"):
        small().load(meta, broken)
