"""The price of escalating holds the capacity, whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.capacity import ShadowPrice

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
