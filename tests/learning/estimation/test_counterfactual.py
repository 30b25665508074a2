"""Another policy's outlook: exact where all is known, honest where it is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.decision.policy import AcceptanceRates, Costs
from learning.estimation.off_policy import Bounds, LoggedConversation, outlook

COSTS, SHARES = Costs(), AcceptanceRates()
cases = st.lists(
    st.builds(
        LoggedConversation,
        action=st.sampled_from(["kept", "offered", "escalated"]),
        source=st.sampled_from(["person", "audit"]),
        needed=st.sampled_from([True, False, None]),
        propensity=st.floats(0.02, 1),
        certain=st.just(False),
    ),
    max_size=40,
)


def ordered(amount: Bounds) -> bool:
    value = amount.low if amount.value is None else amount.value
    return amount.low - 1e-6 <= value <= amount.high + 1e-6


@given(cases)
def test_an_estimate_lies_within_its_interval(found: list[LoggedConversation]) -> None:
    seen = outlook(found, COSTS, SHARES)
    assert seen.kept + seen.offered + seen.escalated == seen.conversations == len(found)
    for amount in (seen.missed, seen.unneeded, seen.cost_per_conversation):
        assert ordered(amount)
        assert amount.low >= -1e-9
    for rate in (seen.missed_rate, seen.false_escalation_rate):
        assert ordered(rate)
        assert 0 <= rate.low <= rate.high <= 1


def test_where_every_truth_is_known_the_figures_are_exact() -> None:
    found = (
        [LoggedConversation("escalated", "person", True)] * 6
        + [LoggedConversation("escalated", "person", False)] * 2
        + [LoggedConversation("kept", "audit", True, certain=True)] * 3
        + [LoggedConversation("kept", "audit", False, certain=True)] * 9
    )
    seen = outlook(found, COSTS, SHARES)
    assert seen.missed == Bounds(3, 3, 3)
    assert seen.missed_rate.value == pytest.approx(3 / 12)
    assert seen.false_escalation_rate.value == pytest.approx(2 / 8)
    assert seen.cost_per_conversation.value == pytest.approx((3 * 4 + 2) / 20)


def test_of_those_offered_a_person_the_shares_of_the_policy_accept() -> None:
    found = [LoggedConversation("offered", "person", True)] * 10 + [
        LoggedConversation("offered", "person", False)
    ] * 20
    seen = outlook(found, COSTS, AcceptanceRates(needed=0.8, unneeded=0.1))
    assert seen.missed.value == pytest.approx(2)
    assert seen.unneeded.value == pytest.approx(2)
    assert seen.false_escalation_rate.value == pytest.approx(2 / 10)


def test_what_nobody_looked_at_is_not_guessed() -> None:
    seen = outlook([LoggedConversation("kept", "audit", None)] * 10, COSTS, SHARES)
    assert seen.missed == Bounds(None, 0, 10)
    assert seen.cost_per_conversation.value is None


def test_intervals_hold_the_truth_with_uneven_propensities() -> None:
    """200 seeded services: kept and newly escalated ones, audited more where a miss is likely."""
    held = 0
    for seed in range(200):
        rng = random.Random(seed)
        found, missed, unneeded = [], 0, 0
        for _ in range(400):
            risky = rng.random() < 0.3
            needed = rng.random() < (0.2 if risky else 0.03)
            way = "escalated" if risky and rng.random() < 0.5 else "kept"
            missed += needed and way == "kept"
            unneeded += way == "escalated" and not needed
            pi = 0.4 if risky else 0.15
            seen = needed if rng.random() < pi else None
            found.append(LoggedConversation(way, "audit", seen, pi))  # type: ignore[arg-type]
        seen_ = outlook(found, COSTS, SHARES)
        held += (
            seen_.missed.low <= missed <= seen_.missed.high
            and seen_.unneeded.low <= unneeded <= seen_.unneeded.high
        )
    assert held >= 190
