"""Intervals that hold at every look; proofs and alarms that seldom err."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from learning.estimation.rate_intervals import missed_rate, under_drift
from learning.monitoring.loss_drift import LossAlarm
from learning.monitoring.promotion_evidence import FixedChallengerTest, LearningChallengerTest


@given(st.integers(1, 5000), st.floats(0, 1))
def test_an_interval_contains_the_share_it_is_about(among: int, part: float) -> None:
    count = int(part * among)
    found = under_drift(count, among)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= count / among <= found.high <= 1


def test_nothing_audited_leaves_everything_possible() -> None:
    found = missed_rate(1000, 0, 0, 0)
    assert (found.rate, found.low, found.high) == (None, 0.0, 1.0)
    assert missed_rate(0, 0, 0, 0).low is None


def test_caught_misses_are_known_and_narrow_the_interval() -> None:
    without, caught = missed_rate(1000, 0, 100, 5), missed_rate(1000, 200, 100, 5)
    assert caught.low is not None
    assert caught.low >= 0.2
    assert without.high is not None
    assert without.low is not None
    assert caught.high is not None
    assert caught.high - caught.low < without.high - without.low


@pytest.mark.parametrize("drifting", [False, True], ids=["stationary", "drifting"])
def test_the_missed_rate_is_covered_at_every_look_in_95_of_100_streams(*, drifting: bool) -> None:
    random = np.random.default_rng(11)
    held, widths, streams, size = 0, [], 60, 12_000
    rate = 0.02 * (1 + 0.9 * np.sin(np.arange(size) / 1500)) if drifting else np.full(size, 0.02)
    for _ in range(streams):
        needed = random.random(size) < rate
        audited = np.flatnonzero(random.random(size) < 0.03)
        truth = needed.cumsum() / np.arange(1, size + 1)
        found = needed[audited].cumsum()
        looks = range(4, len(audited), 7)
        intervals = [under_drift(int(found[n]), n + 1) for n in looks]
        held += all(
            i.low <= truth[audited[n]] <= i.high  # type: ignore[operator]
            for n, i in zip(looks, intervals, strict=True)
        )
        s, n = int(found[-1]), len(found)
        last = under_drift(s, n)
        exact = beta.ppf(0.975, s + 1, n - s) - (beta.ppf(0.025, s, n - s + 1) if s else 0.0)
        widths.append((last.high - last.low) / exact)  # type: ignore[operator]
    assert held / streams >= 0.93
    assert np.median(widths) <= 1.6


def test_a_challenger_that_is_no_better_is_seldom_promoted_however_often_one_looks() -> None:
    random = np.random.default_rng(5)
    promoted = 0
    for _ in range(200):
        duel = FixedChallengerTest(propensity_min=0.5, cost_max=1.0)
        for gain in random.choice([-1.0, 0.0, 1.0], 2000, p=[0.05, 0.9, 0.05]):
            known = random.random() < 0.5
            duel.learn(gain if known else 0.0, 0.5)
            if duel.proven(0.05):
                promoted += 1
                break
    assert promoted / 200 <= 0.05


def test_a_clearly_better_challenger_is_promoted_soon() -> None:
    random = np.random.default_rng(6)
    for _ in range(20):
        duel = FixedChallengerTest(propensity_min=0.5, cost_max=1.0)
        for gain in random.choice([-1.0, 0.0, 1.0], 4000, p=[0.02, 0.9, 0.08]):
            known = random.random() < 0.5
            duel.learn(gain if known else 0.0, 0.5)
            if duel.proven(0.05):
                break
        assert duel.proven(0.05)
        assert duel.conversations < 3000


def test_the_empirical_bernstein_form_proves_a_gain_and_not_a_loss() -> None:
    random = np.random.default_rng(7)
    better, worse = LearningChallengerTest(bound=2.0), LearningChallengerTest(bound=2.0)
    for gain in random.choice([-1.0, 0.0, 1.0], 20_000, p=[0.02, 0.9, 0.08]):
        better.learn(gain)
        worse.learn(-gain)
    assert better.proven()
    assert not worse.proven()
    assert better.low <= 0.06


def test_a_loss_that_stays_alarms_once_in_10_000_labels_at_most_and_one_that_doubles_soon() -> None:
    random = np.random.default_rng(8)
    false, delays = 0, []
    for _ in range(20):
        alarm = LossAlarm(allowed=0.12)
        for lost in random.random(3000) < 0.1:
            if alarm.learn(float(lost)):
                false, alarm = false + 1, LossAlarm(allowed=0.12)
        doubled = random.random(3000) < 0.24
        delays.append(next(n for n, x in enumerate(doubled) if alarm.learn(float(x))))
    assert false <= 20 * 3000 / 10_000
    assert np.median(delays) < 500


def test_a_restored_alarm_goes_on_as_if_it_had_never_stopped() -> None:
    random = np.random.default_rng(9)
    one, other = LossAlarm(0.2), LossAlarm(0.2)
    for x in random.random(500):
        one.learn(float(x))
    other.load(*one.dump())
    for x in random.random(500):
        assert one.learn(float(x)) == other.learn(float(x))
    assert one.evidence == other.evidence
