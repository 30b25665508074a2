"""Test martingales for a change point in an annotator's behaviour; reject at 1/alpha (Ville 1939).

A stake of 1 is divided over every moment from which on the behaviour may have begun, and each part
is multiplied by how much likelier what was seen is under the suspected behaviour than under the
most suspicious one that is still usual. While all is usual the sum is expected never to grow
above 1, so that it ever reaches b has a chance of at most 1/b, at whatever moment one looks
(Ville 1939; with stakes on change points, Shin, Ramdas and Rinaldo 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CAPITAL_MAX = 1e250

STAKES = 2.11
"""A little more than the sum of 1 / (n ln(n)^2) over n from 2: no more than 1 is ever staked."""

_STEPS = 40


@dataclass(slots=True)
class Martingale:
    """Test martingale against one behaviour: its worth, and the most likely change point (`since`).

    `stakes` parts of the stake are in the `capital`, `reserve` is the rest; `log_ratio` is the log
    likelihood ratio since the change point.
    """

    stakes: int = 0
    reserve: float = 1.0
    capital: float = 0.0
    log_ratio: float = 0.0
    since: int = 0

    @property
    def worth(self) -> float:
        """Evidence: the capital and the stakes to come; 1 before anything was seen."""
        return self.capital + self.reserve

    def multiply(self, ratio: float, at: int) -> None:
        """Multiply by a likelihood ratio whose mean is at most 1 while all is usual; `at` names the
        moment.
        """
        if self.log_ratio <= 0.0:
            self.log_ratio, self.since = 0.0, at
        self.log_ratio += math.log(ratio)
        self.stakes += 1
        stake = 1.0 / (STAKES * (self.stakes + 1) * math.log(self.stakes + 1) ** 2)
        self.reserve -= stake
        self.capital = min(CAPITAL_MAX, (self.capital + stake) * ratio)

    def learn(self, happened: bool, suspected: float, usual: tuple[float, float], at: int) -> None:
        """Update by a Bernoulli observation: `suspected` is its chance under the behaviour.

        `usual` bounds the chance otherwise; a behaviour within them says nothing.
        """
        low, high = usual
        if low <= suspected <= high:
            return
        nearest = high if suspected > high else low
        self.multiply(
            suspected / nearest if happened else (1 - suspected) / (1 - nearest),
            at,
        )


@dataclass(slots=True)
class MartingaleFamily:
    """Mixture of test martingales, one for each behaviour by name, each with an equal share."""

    by_name: dict[str, Martingale] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str]) -> MartingaleFamily:
        return cls({name: Martingale() for name in names})

    @property
    def worth(self) -> float:
        return sum(martingale.worth for martingale in self.by_name.values()) / len(self.by_name)

    @property
    def leading(self) -> tuple[str, int]:
        """The behaviour with the most evidence, and its change point."""
        name = max(self.by_name, key=lambda behaviour: self.by_name[behaviour].worth)
        return name, self.by_name[name].since

    def dump(self) -> dict[str, list[float]]:
        return {
            name: [getattr(martingale, name_) for name_ in _FIELDS]
            for name, martingale in self.by_name.items()
        }

    @classmethod
    def load(cls, state: Mapping[str, Sequence[Any]]) -> MartingaleFamily:
        return cls(
            {
                name: Martingale(**dict(zip(_FIELDS, values, strict=True)))
                for name, values in state.items()
            }
        )


_FIELDS = ("stakes", "reserve", "capital", "log_ratio", "since")


def two_sample_ratio(
    mine: tuple[int, int], theirs: tuple[int, int], suspected: tuple[float, float], within: float
) -> float:
    """Likelihood ratio of two counts (of, positive), for an anytime-valid two-sample test.

    How much likelier they are at two `suspected` chances than at the nearest two that differ by no
    more than `within`. Its mean is at most 1 wherever they differ no more. The nearest are those of
    least n KL + m KL on the line one - other = -within or +within (Turner, Ly and Gruenwald 2024,
    for one = other): along it the logarithm of the mean ratio is concave and 0 at this point, and
    away from it, towards equal chances, the mean falls.
    """
    (n, s), (m, t), (one, other) = mine, theirs, suspected
    if abs(one - other) <= within or not m:
        return 1.0
    apart = -within if one < other else within
    low, high = max(0.0, -apart) + 1e-9, min(1.0, 1.0 - apart) - 1e-9
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if n * _slope(one, middle + apart) + m * _slope(other, middle) > 0:
            low = middle
        else:
            high = middle
    near_other = (low + high) / 2
    near_one = near_other + apart
    return math.exp(_ln_ratio(n, s, one, near_one) + _ln_ratio(m, t, other, near_other))


def _slope(chance: float, near: float) -> float:
    return chance / near - (1 - chance) / (1 - near)


def _ln_ratio(among: int, positive: int, chance: float, near: float) -> float:
    missing = among - positive
    return positive * math.log(chance / near) + missing * math.log((1 - chance) / (1 - near))
