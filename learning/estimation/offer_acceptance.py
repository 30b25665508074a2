"""Who accepts a person that is offered: the shares behind offers, learned from answers.

Of those who accept, an agent tells who needed one; of those who decline, complaints and audits
do. From both follows how many of those in need accept, and how many of the others.
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
    """Of those who need a person, and of those who do not, the share that accepts an offer."""

    needed: Bounds
    unneeded: Bounds


def shares(
    accepted: Sequence[LoggedConversation], declined: Sequence[LoggedConversation]
) -> AcceptanceEstimate:
    """Both shares with intervals that hold together; one case a conversation."""
    yes, no = _needed(accepted), _needed(declined)
    return AcceptanceEstimate(
        ratio_bounds(yes, no), ratio_bounds(yes.out_of(len(accepted)), no.out_of(len(declined)))
    )


def _needed(cases: Sequence[LoggedConversation]) -> Bounds:
    sources = [[c for c in cases if c.source == source] for source in ("audit", "person")]
    return sum_bounds(*(needed_among(found) for found in sources if found))
