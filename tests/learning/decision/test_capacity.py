"""The price of escalating holds the capacity, whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.decision.capacity_price import ETA, ShadowPrice, next_price

CAPACITIES = st.floats(0.01, 0.99)
STEPS = st.floats(0.005, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), CAPACITIES, STEPS, st.floats(0, 1))
def test_the_escalated_share_stays_within_its_bound_for_any_sequence(
    probabilities: list[float], capacity: float, eta: float, start: float
) -> None:
    price, escalated = ShadowPrice(start, capacity, eta), 0
    for n, q in enumerate(probabilities, 1):
        up = price.escalates(q)
        escalated += up
        price = price.after(up)
        assert abs(escalated / n - capacity) <= price.bound(n) + 1e-9


@given(st.integers(1, 600), CAPACITIES, STEPS, st.floats(0, 1), st.floats(0, 1e-6))
def test_an_adversary_who_knows_the_threshold_cannot_break_the_bound(
    decisions: int, capacity: float, eta: float, start: float, margin: float
) -> None:
    for wants_up in (True, False):
        price, escalated = ShadowPrice(start, capacity, eta), 0
        for n in range(1, decisions + 1):
            q = price.threshold + margin if wants_up else price.threshold - margin - 1e-9
            up = price.escalates(min(max(q, 0.0), 1.0))
            escalated += up
            price = price.after(up)
            assert abs(escalated / n - capacity) <= price.bound(n) + 1e-9


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=20), min_size=1, max_size=60),
    CAPACITIES,
    STEPS,
)
def test_a_price_moved_once_a_batch_keeps_the_wider_bound(
    batches: list[list[float]], capacity: float, eta: float
) -> None:
    price, escalated, decided = ShadowPrice(0.5, capacity, eta), 0, 0
    longest = max(map(len, batches))
    for batch in batches:
        up = sum(price.escalates(q) for q in batch)
        escalated, decided = escalated + up, decided + len(batch)
        price = price.after(up, len(batch))
    assert abs(escalated / decided - capacity) <= price.bound(decided, longest) + 1e-9


def test_a_capacity_of_nothing_or_everything_is_refused() -> None:
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match="capacity"):
            ShadowPrice(0.5, wrong)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), CAPACITIES, STEPS)
def test_a_limit_is_kept_over_batches_whatever_comes(
    shares: list[float], capacity: float, eta: float
) -> None:
    """Each batch hands over as much as it likes, or nothing once the price is above 1."""
    price, total = 0.0, 0.0
    for n, share in enumerate(shares, 1):
        handed_over = share if price <= 1 else 0.0
        price = next_price(price, handed_over, capacity, eta)
        total += handed_over
        assert total / n <= capacity + (1 + eta) / (eta * n) + 1e-9


@given(st.lists(st.floats(0, 1), max_size=100), CAPACITIES)
def test_the_price_never_makes_handing_over_cheaper(shares: list[float], capacity: float) -> None:
    """A capacity is a limit, not a goal: with people to spare the costs alone decide."""
    price = 0.0
    for share in shares:
        price = next_price(price, share, capacity)
        assert 0 <= price <= 1 + ETA
    for _ in range(10_000):
        price = next_price(price, 0.0, capacity)
    assert price == 0.0
