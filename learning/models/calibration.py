"""Probability calibration, online: beta calibration by an extended Kalman filter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from learning.models.hashed_features import sigmoid
from learning.models.kalman import KalmanLogistic

VARIANCES = (0.02, 0.02, 0.3)
"""Variances of a, b and c around where they stand, before any label and after a surprise."""

SLOPE_MIN = 0.05
"""Slopes stay above zero: calibration never turns the order of two scores around."""

FORGETTING = 0.9998
"""Memory of some 5000 labels. A shorter one costs ranking (AUC -.003 at 500 labels), as scores of
different times become less comparable; sudden changes are the surprise's to notice."""

SURPRISE = 25.0
"""Squared, how many standard deviations the errors of late may add up to. Labels within one
conversation agree, so this is far less strict than five deviations of independent ones."""

CAUTION = math.log(0.05 / 0.95)
"""Log odds that are added before any label: few messages need a person, so an untrained model
leaves the decision to the rules."""

CAUTION_LABELS = 50
"""The caution falls to a third with so many labels, and is gone with ten times as many."""

_FADING = 0.99
_VARIANCE_MIN = 2.0
_P_MIN = 1e-6


class Calibrator:
    """Beta calibration q = sigma(a ln p - b ln(1-p) + c), learned by an extended Kalman filter.

    The three parameters start at the identity (1, 1, 0), with a caution that fades as labels come;
    old labels fade slowly. Change detection: where the signed errors of the last hundred labels or
    so add up to more than chance explains (the base rate jumped), the covariance is reset and the
    parameters are learned anew from where they are. One that is not `cautious`, as its
    model has a donor, has no caution. (Kull et al. 2017, "Beta calibration".)
    """

    def __init__(self, *, cautious: bool = True) -> None:
        self._caution = CAUTION if cautious else 0.0
        self._labels = 0
        self._errors = 0.0
        self._variance = 0.0
        self._beta = KalmanLogistic((1.0, 1.0, 0.0), VARIANCES, FORGETTING)

    def __call__(self, p: float) -> float:
        """Calibrated probability; with few labels a cautious one, in the same order."""
        caution = self._caution * math.exp(-self._labels / CAUTION_LABELS)
        return sigmoid(self._beta.margin(_inputs(p)) + caution)

    @property
    def linear(self) -> tuple[float, float]:
        """Slope and offset of the log odds, where both slopes are taken as their mean."""
        a, b, c = self._beta.theta
        return (a + b) / 2.0, c

    def learn(self, p: float, y: float, w: float = 1.0) -> None:
        """Learn that a score of `p` had the label `y` (0 to 1), with a finite weight >= 0."""
        if not (0.0 <= p <= 1.0 and 0.0 <= y <= 1.0 and 0.0 <= w < math.inf):
            raise ValueError(f"cannot calibrate p={p!r}, y={y!r}, w={w!r}")
        if w == 0.0:
            return
        inputs = _inputs(p)
        self._detect_change(sigmoid(self._beta.margin(inputs)), y, min(w, 1.0))
        self._beta.learn(inputs, y, w)
        self._beta.theta[:2] = [max(slope, SLOPE_MIN) for slope in self._beta.theta[:2]]
        self._labels += 1

    def _detect_change(self, q: float, y: float, w: float) -> None:
        self._errors = _FADING * self._errors + w * (y - q)
        self._variance = _FADING * self._variance + w * w * q * (1.0 - q)
        if self._variance > _VARIANCE_MIN and self._errors**2 > SURPRISE * self._variance:
            self._beta.reset_covariance()
            self._errors = self._variance = 0.0

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The learned state as JSON scalars (and no arrays)."""
        change_detector = {"errors": self._errors, "variance": self._variance}
        return {"labels": self._labels, **change_detector, **self._beta.dump()}, {}

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore a dumped state exactly. Raises ValueError for what cannot be a state."""
        errors, variance = float(meta["errors"]), float(meta["variance"])
        if arrays or not (math.isfinite(errors) and 0.0 <= variance < math.inf):
            raise ValueError("a calibrator is made of finite numbers and no arrays")
        self._beta.load(meta)
        self._errors, self._variance, self._labels = errors, variance, int(meta["labels"])


def _inputs(p: float) -> tuple[float, float, float]:
    p = min(max(p, _P_MIN), 1.0 - _P_MIN)
    return math.log(p), -math.log(1.0 - p), 1.0
