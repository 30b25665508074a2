"""Acceptance rates of offers, estimated for those in need of a person and for the others.

Of those who accept, an agent tells who needed a person; of those who decline, complaints and audits
do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from learning.estimation.off_policy import (
    Bounds,
    LoggedConversation,
    needed_among,
    ratio_bounds,
    sum_bounds,
)

ANSWERS_MIN = 50
"""Of fewer answered offers nothing is proposed."""


@dataclass(frozen=True, slots=True)
class AcceptanceEstimate:
    """Acceptance rates of those who need a person and of those who do not, with bounds."""

    needed: Bounds
    unneeded: Bounds


def shares(
    accepted: Sequence[LoggedConversation], declined: Sequence[LoggedConversation]
) -> AcceptanceEstimate:
    """Estimate both acceptance rates, with intervals that hold together."""
    yes, no = _needed(accepted), _needed(declined)
    return AcceptanceEstimate(
        ratio_bounds(yes, no), ratio_bounds(yes.out_of(len(accepted)), no.out_of(len(declined)))
    )


def _needed(cases: Sequence[LoggedConversation]) -> Bounds:
    sources = [[c for c in cases if c.source == source] for source in ("audit", "person")]
    return sum_bounds(*(needed_among(group) for group in sources if group))
