"""Who accepts a person that is offered: the shares behind offers, learned from answers.

Of those who accept, an agent tells who needed one; of those who decline, complaints and audits
do. From both follows how many of those in need accept, and how many of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from learning.counterfactual import Amount, Case, needed_among, total

ANSWERS_MIN = 50
"""Of fewer answered offers nothing is proposed."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of those who need a person, and of those who do not, the share that accepts an offer."""

    needed: Amount
    unneeded: Amount


def shares(accepted: Sequence[Case], declined: Sequence[Case]) -> Shares:
    """Both shares with intervals that hold together; one case a conversation."""
    yes, no = _needed(accepted), _needed(declined)
    return Shares(_share(yes, no), _share(yes.out_of(len(accepted)), no.out_of(len(declined))))


def _needed(cases: Sequence[Case]) -> Amount:
    sources = [[c for c in cases if c.source == source] for source in ("audit", "person")]
    return total(*(needed_among(found) for found in sources if found))


def _share(yes: Amount, no: Amount) -> Amount:
    """The part `yes` of yes and no: least where yes is least and no is greatest."""
    value = None
    if yes.value is not None and no.value is not None and yes.value + no.value > 0:
        value = yes.value / (yes.value + no.value)
    low = yes.low / (yes.low + no.high) if yes.low > 0 else 0.0
    high = yes.high / (yes.high + no.low) if no.low > 0 else 1.0
    return Amount(value, low, high)
