"""Hidden need of a person (two-state hidden Markov model) and its exact forward filter.

A person is not needed at first. At each message of the customer they may become needed, with a
chance (`hazard`) that depends on the intent, the product, the failed answers since and the temper;
from then on they are. The truth shows only through what is said and done: every such draw goes
through `Need.draw`, which gives the observer's likelihood to a two-state forward filter (Rabiner
1989, eq. 19-20), so `belief` is the exact probability for one who knows the world's parameters
and the customer's temper: no learner that sees text alone can do better on average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

OFFSETS = (
    (0.0098, -4.5),
    (0.0251, -3.5),
    (0.0398, -3.0),
    (0.061, -2.5),
    (0.0904, -2.0),
    (0.131, -1.5),
    (0.179, -1.0),
    (0.242, -0.5),
    (0.313, 0.0),
    (0.387, 0.5),
    (0.467, 1.0),
    (0.626, 2.0),
    (0.767, 3.0),
)
"""Share of conversations that come to need a person when the bot is left alone, and the log odds
that the world adds to every hazard for it; measured over 20 000 conversations each."""


def offset(base_rate: float) -> float:
    """The log odds for a base rate, interpolated in logits; ValueError outside .0098 to .767."""
    if not OFFSETS[0][0] <= base_rate <= OFFSETS[-1][0]:
        low, high = OFFSETS[0][0], OFFSETS[-1][0]
        raise ValueError(f"base rate {base_rate} is not between {low} and {high}")
    for (below, at), (above, then) in pairwise(OFFSETS):
        if base_rate <= above:
            share = (_logit(base_rate) - _logit(below)) / (_logit(above) - _logit(below))
            return at + share * (then - at)
    return OFFSETS[-1][1]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


@dataclass(slots=True)
class Need:
    """`now`: whether a person is needed; `belief`: its probability given all that showed so far."""

    rng: Random
    now: bool = False
    belief: float = 0.0

    def arise(self, log_odds: float) -> bool:
        """Perhaps a person becomes needed. True where this very moment did it."""
        hazard = sigmoid(log_odds)
        self.belief += (1 - self.belief) * hazard
        arose = self.rng.random() < hazard and not self.now
        self.now = self.now or arose
        return arose

    def draw(self, needed: Sequence[float], otherwise: Sequence[float]) -> int:
        """Something that shows, by the chances of each kind under either truth; its number.

        The chances may lack the last kind's, which is the rest up to 1.
        """
        spot = self.rng.random()
        chances = needed if self.now else otherwise
        kind = 0
        while kind < len(chances) and spot >= chances[kind]:
            spot -= chances[kind]
            kind += 1
        yes = needed[kind] if kind < len(needed) else 1 - sum(needed)
        no = otherwise[kind] if kind < len(otherwise) else 1 - sum(otherwise)
        both = self.belief * yes + (1 - self.belief) * no
        self.belief = self.belief * yes / both if both > 0 else self.belief
        return kind

    def settle(self) -> None:
        """A person has dealt with it: all begins anew."""
        self.now, self.belief = False, 0.0
