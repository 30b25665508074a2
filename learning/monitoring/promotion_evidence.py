"""Anytime-valid sequential tests (test martingales) that a challenger decides better.

Only conversations on which the two decide differently count, each weighted by the inverse of the
probability that its truth would be known. The evidence is a nonnegative supermartingale while the
challenger is no better, so at 1/alpha it is proof at level alpha at any time (Ville 1939).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from learning.measures.prequential import Scores

BETS = np.geomspace(0.01, 1.0, 10)


@dataclass
class FixedChallengerTest:
    """Test martingale of the champion against a frozen challenger: the product form.

    x = (loss of champion - loss of challenger) O / pi, with losses in units of `cost_max` and
    propensities of at least `propensity_min`; E = mean_k prod(1 + lam_k x), with
    lam_k = .9 g_k propensity_min / cost_max <= 1. `conversations` counts all that were compared.
    """

    propensity_min: float
    cost_max: float
    conversations: int = 0
    differing: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.propensity_min <= 1 and self.cost_max > 0):
            raise ValueError("propensity_min lies in (0, 1], cost_max above 0")
        scale = min(1.0, self.propensity_min / self.cost_max)
        self._bets = 0.9 * BETS * scale
        self._ln = np.zeros(self._bets.size)

    def learn(self, gain: float, propensity: float) -> None:
        """One conversation whose truth is known: what the challenger's decision would have saved.

        Conversations on which both decide alike, or whose truth stays unknown, have gain 0.
        """
        if abs(gain) > self.cost_max or propensity < self.propensity_min:
            raise ValueError("gain beyond cost_max, or propensity below propensity_min")
        self.conversations += 1
        if gain:
            self.differing += 1
            self._ln += np.log1p(self._bets * gain / propensity)

    @property
    def evidence(self) -> float:
        most = float(self._ln.max())
        return math.exp(min(most, 700.0)) * float(np.exp(self._ln - most).mean())

    def proven(self, alpha: float, challengers: int = 1) -> bool:
        """Whether the challenger is better, at level alpha shared by all challengers."""
        return self.evidence >= challengers / alpha

    def dump(self) -> dict[str, Any]:
        """Exact state as plain JSON."""
        return {
            "conversations": self.conversations,
            "differing": self.differing,
            "ln": self._ln.tolist(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a dumped state exactly. ValueError for another number of bets."""
        ln = np.array(state["ln"], np.float64)
        if ln.shape != self._ln.shape:
            raise ValueError("evidence does not fit this test")
        self.conversations, self.differing = int(state["conversations"]), int(state["differing"])
        self._ln = ln


class LearningChallengerTest:
    """Confidence sequence for a challenger that goes on learning: the empirical-Bernstein form.

    Gains in [-1, 1] after scaling; the lower end of the confidence sequence for the mean gain so
    far, by a predictable plug-in (Waudby-Smith and Ramdas 2024, theorem 2; Choe and Ramdas 2024).
    """

    def __init__(self, bound: float, alpha: float = 0.05) -> None:
        if bound <= 0:
            raise ValueError("bound must be above 0: the largest gain / propensity")
        self.bound, self.alpha = bound, alpha
        self.conversations = self.differing = 0
        self._weights = self._weighted = self._spent = 0.0
        self._mean_sum, self._squares = 0.0, 0.25

    def learn(self, gain: float, propensity: float = 1.0) -> None:
        """One conversation's gain (0 where both decide alike), divided by its propensity."""
        x = (gain / propensity / self.bound + 1) / 2
        if not 0 <= x <= 1:
            raise ValueError("gain / propensity is beyond the bound")
        t = self.conversations + 1
        mean = (0.5 + self._mean_sum) / t
        variance = self._squares / t
        lam = min(0.5, math.sqrt(2 * math.log(2 / self.alpha) / (variance * t * math.log(1 + t))))
        self._weights += lam
        self._weighted += lam * x
        self._spent += (x - mean) ** 2 * (-math.log1p(-lam) - lam)
        self.conversations = t
        self.differing += gain != 0
        self._mean_sum += x
        self._squares += (x - (0.5 + self._mean_sum) / (t + 1)) ** 2

    @property
    def low(self) -> float:
        """Lower end of the mean gain per conversation, in the gain's own unit."""
        if not self.conversations:
            return -self.bound
        center = self._weighted / self._weights
        half = (math.log(1 / self.alpha) + self._spent) / self._weights
        return (2 * max(0.0, center - half) - 1) * self.bound

    def proven(self) -> bool:
        return self.low > 0

    def dump(self) -> dict[str, Any]:
        """Exact state as plain JSON."""
        sums = {name: getattr(self, f"_{name}") for name in _SUMS}
        return {"conversations": self.conversations, "differing": self.differing} | sums

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a dumped state exactly."""
        self.conversations, self.differing = int(state["conversations"]), int(state["differing"])
        for name in _SUMS:
            setattr(self, f"_{name}", float(state[name]))


_SUMS = ("weights", "weighted", "spent", "mean_sum", "squares")


def gains(
    champion: Scores, challenger: Scores, threshold: float, unneeded: float, missed: float
) -> list[tuple[int, float]]:
    """Cost savings by outcome, in order: its position, and what the challenger would have saved.

    Both scored the same lessons (`learning.measures.prequential.pair_scores`). A line hands a
    conversation over when any of its lessons reaches the threshold; where both decide alike nothing
    is saved.
    """
    positions, place = np.unique(champion.position, return_inverse=True)
    needed = np.zeros(positions.size, bool)
    np.logical_or.at(needed, place, champion.label > 0.5)
    costs = []
    for line in (champion, challenger):
        highest = np.zeros(positions.size)
        np.maximum.at(highest, place, line.probability)
        escalated = highest >= threshold
        costs.append(
            np.where(escalated, np.where(needed, 0.0, unneeded), np.where(needed, missed, 0.0))
        )
    return list(zip(positions.tolist(), (costs[0] - costs[1]).tolist(), strict=True))
