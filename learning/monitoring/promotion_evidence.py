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

BETS = np.geomspace(0.01, 1.0, 10)
LAMBDAS = np.array([0.1, 0.3, 0.5, 0.6, 0.7, 0.8])
PSI = -np.log1p(-LAMBDAS) - LAMBDAS
STEPS = 60


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

    def skip(self, conversations: int) -> None:
        """So many conversations with gain 0."""
        self.conversations += conversations

    def copy(self) -> FixedChallengerTest:
        """The same test, that goes on by itself."""
        test = FixedChallengerTest(self.propensity_min, self.cost_max)
        test.load(self.dump())
        return test

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

    x = gain / propensity / `bound` >= -1 and any mu: sum_k w_k exp(lam_k (S - n mu) - psi(lam_k) Q)
    with S the sum of x, Q that of its squares and psi(lam) = -ln(1 - lam) - lam is a
    supermartingale while mu is the mean of the expected gains so far, however they change (Fan
    2015; Howard, Ramdas, McAuliffe and Sekhon 2021, with fixed lam). So `low` bounds that mean, at
    every look.
    """

    def __init__(self, bound: float, alpha: float = 0.05) -> None:
        if bound <= 0:
            raise ValueError("bound must be above 0: the largest gain / propensity")
        self.bound, self.alpha = bound, alpha
        self.conversations = self.differing = 0
        self._sum = self._squares = 0.0

    def learn(self, gain: float, propensity: float = 1.0) -> None:
        """One conversation's gain (0 where both decide alike), divided by its propensity."""
        x = gain / propensity / self.bound
        if not -1 <= x <= 1:
            raise ValueError("gain / propensity is beyond the bound")
        self.conversations += 1
        self.differing += gain != 0
        self._sum += x
        self._squares += x * x

    def skip(self, conversations: int) -> None:
        """So many conversations with gain 0."""
        self.conversations += conversations

    def copy(self) -> LearningChallengerTest:
        """The same test, that goes on by itself."""
        test = LearningChallengerTest(self.bound, self.alpha)
        test.load(self.dump())
        return test

    def _ln_evidence(self, mean: float) -> float:
        """Log evidence that the mean gain so far, over the bound, is above `mean`."""
        terms = LAMBDAS * (self._sum - self.conversations * mean) - PSI * self._squares
        largest = float(terms.max())
        return largest + math.log(float(np.exp(terms - largest).mean()))

    @property
    def low(self) -> float:
        """Lower end of the mean gain per conversation, in the gain's own unit."""
        below, above, bar = -1.0, 1.0, math.log(1 / self.alpha)
        if not self.conversations or self._ln_evidence(below) < bar:
            return -self.bound
        for _ in range(STEPS):
            middle = (below + above) / 2
            if self._ln_evidence(middle) >= bar:
                below = middle
            else:
                above = middle
        return below * self.bound

    def proven(self) -> bool:
        return self._ln_evidence(0.0) >= math.log(1 / self.alpha)

    def dump(self) -> dict[str, Any]:
        """Exact state as plain JSON."""
        counts = {"conversations": self.conversations, "differing": self.differing}
        return counts | {"sum": self._sum, "squares": self._squares}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a dumped state exactly."""
        self.conversations, self.differing = int(state["conversations"]), int(state["differing"])
        self._sum, self._squares = float(state["sum"]), float(state["squares"])
