"""When lines take each other's place: the terms, harm in a segment, and a guarded promotion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from learning.decision.policy import Policy
from learning.decision.promotion_terms import (
    PromotionEvidence,
    PromotionTerms,
    SegmentCount,
    harmed_segments,
    objections,
)
from learning.monitoring.promotion_evidence import FixedChallengerTest, LearningChallengerTest
from learning.monitoring.rollback_guard import Finding, PairedLosses, guard

TERMS = PromotionTerms()
READY = PromotionEvidence(
    proven=True, judged=500, days=5.0, days_since_switch=5.0, ece=0.02, champion_ece=0.03
)


def test_nothing_speaks_against_one_that_meets_every_term() -> None:
    assert objections(READY, TERMS) == []


@pytest.mark.parametrize(
    "changed, why",
    [
        ({"proven": False}, "not proven"),
        ({"judged": 199}, "199 of 200"),
        ({"days": 1.9}, "1.9 of 2 days"),
        ({"days_since_switch": 0.5}, "cool-down"),
        ({"ece": 0.051}, "calibration error is 0.051"),
        ({"ece": None}, "calibration error is unknown"),
        ({"harmed": ("language de",)}, "harm in language de"),
    ],
)
def test_each_term_alone_holds_it_back(changed: dict[str, object], why: str) -> None:
    (said,) = objections(replace(READY, **changed), TERMS)  # type: ignore[arg-type]
    assert why in said


def test_a_challenger_may_be_calibrated_as_badly_as_the_champion() -> None:
    assert objections(replace(READY, ece=0.2, champion_ece=0.21), TERMS) == []
    assert objections(replace(READY, ece=0.2, champion_ece=0.19), TERMS)


def tally(gains: Sequence[float]) -> SegmentCount:
    found = SegmentCount()
    for gain in gains:
        found.add(gain)
    return found


def test_harm_in_one_segment_is_named_and_a_small_one_is_not_judged() -> None:
    random = np.random.default_rng(1)
    good = random.choice([-1.0, 0.0, 1.0], 400, p=[0.02, 0.88, 0.1]).tolist()
    bad = random.choice([-1.0, 0.0, 1.0], 400, p=[0.15, 0.83, 0.02]).tolist()
    segments = {"a": tally(good), "b": tally(bad), "c": tally(bad[:20])}
    assert harmed_segments(segments, TERMS) == ["b"]
    assert harmed_segments({"c": tally([-1.0] * 60)}, TERMS) == ["c"]


def test_segments_without_harm_seldom_hold_a_good_one_back() -> None:
    random = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        segments = {
            str(n): tally(random.choice([-1.0, 0.0, 1.0], 200, p=[0.05, 0.9, 0.05]).tolist())
            for n in range(20)
        }
        held += bool(harmed_segments(segments, TERMS))
    assert held / 200 <= 0.09


def test_the_terms_are_part_of_the_policy_and_are_checked() -> None:
    policy = Policy.model_validate({"switching": {"automatic": False, "alpha": 0.01}})
    assert (policy.switching.automatic, policy.switching.judged_min) == (False, 200)
    for wrong in ({"alpha": 0.0}, {"judged_min": 0}, {"days_min": -1}, {"unknown": 1}):
        with pytest.raises(ValidationError):
            Policy.model_validate({"switching": wrong})


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.25, 1.0]), st.floats(0.5, 1.0))), st.data())
def test_a_count_that_was_stored_goes_on_as_if_it_had_never_stopped(
    rows: list[tuple[float, float]], data: st.DataObject
) -> None:
    stop = data.draw(st.integers(0, len(rows)))
    for whole, first, second in (
        (LearningChallengerTest(2.0), LearningChallengerTest(2.0), LearningChallengerTest(2.0)),
        (
            FixedChallengerTest(0.5, 1.0),
            FixedChallengerTest(0.5, 1.0),
            FixedChallengerTest(0.5, 1.0),
        ),
    ):
        for row in rows:
            whole.learn(*row)
        for row in rows[:stop]:
            first.learn(*row)
        second.load(json.loads(json.dumps(first.dump())))
        for row in rows[stop:]:
            second.learn(*row)
        assert second.dump() == whole.dump()


def losses(mean: float, count: int, seed: int) -> list[float]:
    random = np.random.default_rng(seed)
    found: list[float] = random.beta(4 * mean, 4 * (1 - mean), count).tolist()
    return found


@pytest.mark.parametrize(
    "champion, previous, anchor, finding",
    [
        (0.1, 0.1, 0.1, "calm"),
        (0.3, 0.1, 0.3, "previous"),
        (0.3, 0.3, 0.1, "anchor"),
        (0.3, 0.1, 0.1, "previous"),
        (0.3, 0.3, 0.3, "world"),
        (0.1, 0.02, 0.1, "previous"),
    ],
)
def test_who_rose_says_whose_harm_it_is(
    champion: float, previous: float, anchor: float, finding: Finding
) -> None:
    usual, own = losses(0.1, 400, 1), losses(champion, 300, 2)
    beside = [
        PairedLosses(own, losses(mean, 300, seed), 0.1)
        for seed, mean in ((3, previous), (4, anchor))
    ]
    assert guard(usual, own, beside[0], beside[1], 10_000.0).finding == finding


@pytest.mark.parametrize("saves", [0.0, -0.1])
def test_nothing_goes_back_to_a_line_whose_decisions_cost_no_less(saves: float) -> None:
    usual, own = losses(0.1, 400, 1), losses(0.3, 300, 2)
    beside = PairedLosses(own, losses(0.1, 300, 3), saves)
    assert guard(usual, own, beside, beside, 10_000.0).finding == "world"


def test_a_harder_world_is_not_taken_for_harm() -> None:
    """All lose as much more, and none of them more than another."""
    for seed in range(30):
        own, other = losses(0.3, 400, seed), losses(0.3, 400, 500 + seed)
        pair = PairedLosses(own, other, 0.1)
        found = guard(losses(0.1, 400, 900 + seed), own, pair, pair, 10_000.0)
        assert found.finding == "world"


def test_without_a_past_nothing_is_judged() -> None:
    own = losses(0.5, 300, 1)
    found = guard([], own, PairedLosses(own, losses(0.1, 300, 2), 0.1), None, 10_000.0)
    assert (found.finding, found.allowed) == ("calm", None)


def test_a_harmless_promotion_is_hardly_ever_rolled_back() -> None:
    back = 0
    for seed in range(40):
        usual, own = losses(0.1, 400, 3 * seed), losses(0.1, 600, 3 * seed + 1)
        pair = PairedLosses(own, losses(0.1, 600, 3 * seed + 2), 0.1)
        back += guard(usual, own, pair, pair, 10_000.0).finding != "calm"
    assert back == 0
