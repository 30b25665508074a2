"""Extended Kalman filter for logistic regression in a few parameters, with full covariance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any

from learning.models.hashed_features import sigmoid


class KalmanLogistic:
    """Online logistic regression; theta is normal, and each label makes one extended Kalman step.

    p = sigma(theta.x); for a label y of weight w: h = w p(1-p), s2 = x'Px, d = 1/(1 + h s2),
    theta += P x w (y-p) d, P -= (Px)(Px)' h d. Bounded however large w grows. The cost is
    quadratic in the number of parameters. (Bishop 2006, 4.5; Feldkamp and Puskorius 1994.)

    Parameters
    ----------
    start
        Prior mean: the parameters before any label.
    variances
        Prior variances.
    forgetting
        Forgetting factor: below 1, old labels fade by it, though never beyond the prior variances.
    """

    def __init__(
        self, start: Sequence[float], variances: Sequence[float], forgetting: float = 1.0
    ) -> None:
        self.variances = tuple(variances)
        self.forgetting = forgetting
        self.theta = list(start)
        self.reset_covariance()

    def reset_covariance(self) -> None:
        """Reset the covariance to the prior, and keep the parameters."""
        self.cov = [
            [v if i == j else 0.0 for j in range(len(self.theta))]
            for i, v in enumerate(self.variances)
        ]

    def margin(self, x: Sequence[float]) -> float:
        """theta.x, the log odds."""
        total: float = sum(map(mul, self.theta, x))
        return total

    def learn(self, x: Sequence[float], y: float, w: float) -> None:
        """One step towards the label y (0 to 1) of inputs x, with a finite weight w > 0."""
        if self.forgetting < 1.0:
            self._inflate_covariance()
        p = sigmoid(self.margin(x))
        px = [sum(map(mul, row, x)) for row in self.cov]
        h = w * p * (1.0 - p)
        d = 1.0 / (1.0 + h * sum(map(mul, px, x)))
        step, shrink = w * (y - p) * d, h * d
        self.theta = [t + step * g for t, g in zip(self.theta, px, strict=True)]
        self.cov = [
            [c - a * b for c, b in zip(row, px, strict=True)]
            for row, a in zip(self.cov, [shrink * g for g in px], strict=True)
        ]

    def _inflate_covariance(self) -> None:
        factor_max = math.sqrt(1.0 / self.forgetting)
        factors = [
            min(math.sqrt(v / row[i]), factor_max) if row[i] > 0.0 else 1.0
            for i, (v, row) in enumerate(zip(self.variances, self.cov, strict=True))
        ]
        self.cov = [
            [c * a * b for c, b in zip(row, factors, strict=True)]
            for row, a in zip(self.cov, factors, strict=True)
        ]

    def dump(self) -> dict[str, Any]:
        """The learned state as JSON scalars."""
        return {"theta": list(self.theta), "cov": [list(row) for row in self.cov]}

    def load(self, meta: Mapping[str, Any]) -> None:
        """Restore a dumped state exactly. Raises ValueError for what cannot be a state."""
        theta = [float(v) for v in meta["theta"]]
        cov = [[float(v) for v in row] for row in meta["cov"]]
        n = len(self.theta)
        if len(theta) != n or [len(row) for row in cov] != [n] * n:
            raise ValueError(f"the state is not of {n} parameters")
        if not all(map(math.isfinite, [*theta, *(v for row in cov for v in row)])):
            raise ValueError("the state is not made of finite numbers alone")
        self.theta, self.cov = theta, cov
