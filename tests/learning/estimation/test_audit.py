"""Coins of kept conversations: reproducible, within budget, fair; and agreement of reviewers."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from learning.estimation.audit_sampling import (
    DISAGREEMENT,
    AuditCandidate,
    DailyBudget,
    Draw,
    budget_factor,
    draw,
    kappa,
    targeted_propensities,
    uniform_variate,
)

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=200)
SHARES = st.floats(0.001, 1)


def kept(probabilities: list[float], *, disagreement: bool = False) -> list[AuditCandidate]:
    return [AuditCandidate(f"c{n}", p, disagreement) for n, p in enumerate(probabilities)]


@given(PROBABILITIES, SHARES)
def test_every_targeted_propensity_is_a_probability_that_can_fall(
    probabilities: list[float], share: float
) -> None:
    for pi in targeted_propensities(kept(probabilities), share):
        assert 0 < pi <= 1


@given(PROBABILITIES, st.floats(0.001, 0.3))
def test_the_targeted_coin_spends_its_share_and_no_more(
    probabilities: list[float], share: float
) -> None:
    found = targeted_propensities(kept(probabilities), share)
    assert sum(found) / len(found) <= share * 1.0001 + 0.002


@given(PROBABILITIES, st.floats(0.001, 0.3))
def test_where_lines_differ_the_coin_falls_every_other_time(
    probabilities: list[float], share: float
) -> None:
    found = targeted_propensities(kept(probabilities, disagreement=True), share)
    assert min(found) >= DISAGREEMENT


def test_the_less_sure_the_model_was_the_likelier_the_coin() -> None:
    sure, unsure = targeted_propensities(kept([0.01, 0.5]), 0.05)
    assert unsure > sure


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_chances_sink_with_the_second_half_of_a_budget(left: int, whole: int) -> None:
    found = budget_factor(left, whole)
    assert 0 <= found <= 1
    assert (found == 1) == (0 < whole <= 2 * left)
    assert (found == 0) == (left == 0 or whole == 0)


def test_the_same_seed_draws_the_same_conversations() -> None:
    ones = kept([0.2] * 300)
    shares = {"uniform_share": 0.1, "targeted_share": 0.1}
    assert draw(ones, seed="a", **shares) == draw(ones, seed="a", **shares)
    assert draw(ones, seed="a", **shares) != draw(ones, seed="b", **shares)


def test_the_uniform_coin_falls_as_often_as_it_says_whatever_was_scored() -> None:
    for p in (0.001, 0.5, 0.999):
        draws = draw(kept([p] * 20_000), seed=f"s{p}", uniform_share=0.03, targeted_share=0.0)
        fallen = sum(one.uniform for one in draws)
        assert abs(fallen - 600) < 4 * math.sqrt(600)
        assert {one.uniform_propensity for one in draws} == {0.03}


def test_the_two_coins_are_independent() -> None:
    draws = draw(kept([0.5] * 40_000), seed="s", uniform_share=0.2, targeted_share=0.2)
    both = sum(one.uniform and one.targeted for one in draws)
    assert abs(both - 1600) < 4 * math.sqrt(1600)


def test_propensity_is_that_of_either_coin() -> None:
    assert math.isclose(Draw(0.1, 0.5, False, True).propensity, 0.55)


@given(st.text(), st.text(), st.text())
def test_a_coin_is_a_number_from_zero_to_one(seed: str, stream: str, name: str) -> None:
    assert 0 <= uniform_variate(seed, stream, name) < 1


def test_kappa_is_one_for_agreement_and_nought_for_chance() -> None:
    assert kappa([]) is None
    assert kappa([(False, False)] * 50) is None, "all fine: chance explains it"
    assert kappa([(True, True), (False, False)]) == 1.0
    assert kappa([(True, True), (True, False), (False, True), (False, False)]) == 0.0


def test_part_of_a_days_budget_is_kept_for_where_lines_differ() -> None:
    budget = DailyBudget(per_day=100, share=0.5, each=1)
    spent = budget.spend(50, disagreement=False)
    assert (spent.disagreement, spent.left) == (DISAGREEMENT, 50)
    assert 0 < spent.pace < budget.pace == 1.0, "the others' half is spent, and they go on slowly"
    for _ in range(50):
        assert spent.disagreement == DISAGREEMENT
        spent = spent.spend(1, disagreement=True)
    assert (spent.disagreement, spent.pace) == (0.0, 0.0)
    assert DailyBudget(per_day=100, share=0.0, each=1).disagreement == 0.0
