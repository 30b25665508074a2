"""Rates and their intervals: within bounds, true as often as promised, at one look or at many."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from learning.estimation.rate_intervals import (
    Rate,
    missed_rate,
    under_drift,
)

LOOKS = (5, 10, 20, 30, 45, 60, 80, 100, 130, 160, 200, 250, 300)


@st.composite
def counts(draw: st.DrawFn, most: int = 500) -> tuple[int, int]:
    among = draw(st.integers(1, most))
    return draw(st.integers(0, among)), among


def wilson(count: int, among: int) -> Rate:
    """Wilson's score interval, which holds for one look at a fixed sample."""
    low, high = binomtest(count, among).proportion_ci(method="wilson")
    return Rate(count, among, count / among, low, high)


def covers(found: Rate, truth: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low - 1e-9 <= truth <= found.high + 1e-9


def always_covered(
    interval: Callable[[int, int], Rate], rates: list[float], streams: int, seed: int
) -> float:
    """Share of streams whose interval held the running mean of the true rates at every look."""
    held = 0
    for number in range(streams):
        rng = random.Random(f"{seed}/{number}")
        seen = [rng.random() < rate for rate in rates]
        held += all(
            covers(interval(sum(seen[:look]), look), sum(rates[:look]) / look) for look in LOOKS
        )
    return held / streams


@given(given_=counts())
def test_an_interval_holds_its_rate_and_stays_in_bounds(given_: tuple[int, int]) -> None:
    count, among = given_
    found = under_drift(count, among)
    assert (found.count, found.among, found.rate) == (count, among, count / among)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= count / among + 1e-9
    assert count / among - 1e-9 <= found.high <= 1


def test_of_nothing_there_is_no_rate() -> None:
    assert missed_rate(0, 0, 0, 0) == Rate(0, 0, None, None, None)
    assert under_drift(0, 0) == Rate(0, 0, None, 0.0, 1.0)


@given(counts())
def test_what_is_not_counted_has_the_mirrored_interval(given_: tuple[int, int]) -> None:
    count, among = given_
    one, other = under_drift(count, among), under_drift(among - count, among)
    assert one.low is not None
    assert one.high is not None
    assert other.high == pytest.approx(1 - one.low)
    assert other.low == pytest.approx(1 - one.high)


def test_an_interval_for_one_look_is_untrue_when_looked_at_often() -> None:
    """The reason for confidence sequences: Wilson's interval covers fewer of the same streams."""
    assert always_covered(wilson, [0.1] * 300, 200, seed=1) < 0.9


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
def test_a_confidence_sequence_holds_at_every_look(rate: float) -> None:
    assert always_covered(under_drift, [rate] * 300, 100, seed=2) >= 0.95


@pytest.mark.parametrize("first, last", [(0.02, 0.4), (0.4, 0.02)])
def test_under_drift_the_running_mean_is_covered(first: float, last: float) -> None:
    rates = [first + (last - first) * n / 299 for n in range(300)]
    assert always_covered(under_drift, rates, 100, seed=3) >= 0.95


@given(counts(), st.integers(2, 6))
def test_more_of_the_same_makes_the_interval_narrower(given_: tuple[int, int], times: int) -> None:
    count, among = given_
    few, many = under_drift(count, among), under_drift(count * times, among * times)
    assert few.low is not None
    assert many.low is not None
    assert few.high is not None
    assert many.high is not None
    assert many.high - many.low <= few.high - few.low + 1e-9


@given(st.integers(1, 2000), st.data())
def test_a_missed_rate_is_never_below_what_was_caught(kept: int, data: st.DataObject) -> None:
    caught = data.draw(st.integers(0, kept))
    audited = data.draw(st.integers(0, kept - caught))
    found = data.draw(st.integers(0, audited))
    rate = missed_rate(kept, caught, audited, found)
    assert rate.low is not None
    assert rate.high is not None
    assert caught / kept - 1e-9 <= rate.low <= rate.high <= 1 + 1e-9
    assert (rate.rate is None) == (audited == 0 and caught < kept)
    if rate.rate is not None:
        assert rate.low - 1e-9 <= rate.rate <= rate.high + 1e-9


def test_without_audits_a_missed_rate_has_bounds_and_no_value() -> None:
    assert missed_rate(100, 7, 0, 0) == Rate(7, 7, None, 0.07, 1.0)


def test_a_missed_rate_from_a_uniform_sample_covers_the_truth() -> None:
    """1000 kept, 80 truly missed of which complaints catch 30; every tenth other is audited."""
    held = 0
    for number in range(200):
        rng = random.Random(f"missed/{number}")
        others = [n < 50 for n in range(970)]
        drawn = [truth for truth in others if rng.random() < 0.1]
        held += covers(missed_rate(1000, 30, len(drawn), sum(drawn)), 0.08)
    assert held / 200 >= 0.95
