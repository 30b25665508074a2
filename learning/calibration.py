"""From a raw probability to an honest one, online."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from learning.hashing import sigmoid

PRIOR = (0.1, 0.1, 1.0)
"""Variances of a, b and c around the identity, before any label."""

SLOPE_MIN = 0.05
"""Slopes stay above zero: calibration never turns the order of two scores around."""

_P_MIN = 1e-6


class Calibrator:
    """Beta calibration q = sigma(a ln p - b ln(1-p) + c), learned by an extended Kalman filter.

    The three parameters start at the identity (1, 1, 0) with a normal prior and a full
    covariance; each label makes a Newton step, and `forgetting` below 1 lets old ones fade so that
    a jump of the base rate is followed. (Kull et al. 2017, "Beta calibration".)
    """

    def __init__(self, forgetting: float = 0.998) -> None:
        self.forgetting = forgetting
        self._labels = 0
        self._theta = [1.0, 1.0, 0.0]
        self._cov = [[PRIOR[i] if i == j else 0.0 for j in range(3)] for i in range(3)]

    def __call__(self, p: float) -> float:
        """The calibrated probability; `p` itself before any label."""
        if not self._labels:
            return p
        a, b, c = self._theta
        one, other, _ = _inputs(p)
        return sigmoid(a * one + b * other + c)

    def learn(self, p: float, y: float, w: float = 1.0) -> None:
        """Learn that a score of `p` had the label `y` (0 to 1), with a finite weight >= 0."""
        if not (0.0 <= p <= 1.0 and 0.0 <= y <= 1.0 and 0.0 <= w < math.inf):
            raise ValueError(f"cannot calibrate p={p!r}, y={y!r}, w={w!r}")
        if w == 0.0:
            return
        self._fade()
        x = _inputs(p)
        q = sigmoid(sum(t * v for t, v in zip(self._theta, x, strict=True)))
        px = [sum(row[j] * x[j] for j in range(3)) for row in self._cov]
        s2 = sum(px[i] * x[i] for i in range(3))
        h = w * q * (1.0 - q)
        d = 1.0 / (1.0 + h * s2)
        step = w * (y - q) * d
        self._theta = [t + step * g for t, g in zip(self._theta, px, strict=True)]
        self._theta[:2] = [max(t, SLOPE_MIN) for t in self._theta[:2]]
        self._cov = [[self._cov[i][j] - h * d * px[i] * px[j] for j in range(3)] for i in range(3)]
        self._labels += 1

    def _fade(self) -> None:
        """Widen the posterior by the forgetting, but never beyond the prior."""
        wider = [
            min(math.sqrt(PRIOR[i] / self._cov[i][i]), math.sqrt(1.0 / self.forgetting))
            if self._cov[i][i] > 0.0
            else 1.0
            for i in range(3)
        ]
        self._cov = [[self._cov[i][j] * wider[i] * wider[j] for j in range(3)] for i in range(3)]

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The learned state as JSON scalars (and no arrays)."""
        meta = {
            "forgetting": self.forgetting,
            "labels": self._labels,
            "theta": list(self._theta),
            "cov": [list(row) for row in self._cov],
        }
        return meta, {}

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Stand exactly where `dump` stood. Raises ValueError for what cannot be a state."""
        theta = [float(v) for v in meta["theta"]]
        cov = [[float(v) for v in row] for row in meta["cov"]]
        numbers = [*theta, *(v for row in cov for v in row)]
        if len(theta) != 3 or [len(row) for row in cov] != [3, 3, 3]:
            raise ValueError("a calibrator has three parameters")
        if not all(map(math.isfinite, numbers)) or arrays:
            raise ValueError("a calibrator is made of finite numbers alone")
        if float(meta["forgetting"]) != self.forgetting:
            raise ValueError(f"forgets {meta['forgetting']}, this one {self.forgetting}")
        self._theta, self._cov, self._labels = theta, cov, int(meta["labels"])


def _inputs(p: float) -> tuple[float, float, float]:
    p = min(max(p, _P_MIN), 1.0 - _P_MIN)
    return math.log(p), -math.log(1.0 - p), 1.0
