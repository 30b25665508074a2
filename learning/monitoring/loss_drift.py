"""Change detection on the loss: anytime-valid e-detectors with a bounded false-alarm rate.

An e-detector sums, over every past moment, the evidence that something changed then. Under no
change its mean grows by one a step, so an alarm at A comes once in A steps at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.estimation.rate_intervals import under_drift

CALM = 300
"""Outcomes from which a champion's usual loss is learned before it is watched."""

TOLERANCE = 1.1
"""What is still usual, as a multiple of the upper end of the usual mean loss."""

BETS = np.geomspace(0.5, 8.0, 12)
"""Each grows fastest at another size of the change: a loss of .12 that comes to .17, or to more.
What a bet costs is the logarithm of its weight, in units of evidence. A small change brings little
evidence with each label, so the small bets weigh most: as 1 / lam."""


class LossAlarm:
    """E-detector: alarms when the mean of a loss in [0, 1] rises above `allowed`.

    M_k <- (M_k + 1) (1 + lam_k (x - m0)), lam geometric from .5 to 8 and at most .9 / m0; alarm at
    sum_k w_k M_k >= `once_in`, w_k proportional to 1 / lam_k: at most one false alarm in so many
    labels, whatever the past rate up to `allowed` was, since any fixed mean of e-detectors is one.
    (Shin, Ramdas and Rinaldo 2024, "E-detectors".) ValueError for `allowed` outside (0, 1).
    """

    def __init__(self, allowed: float, once_in: float = 10_000.0) -> None:
        if not 0 < allowed < 1:
            raise ValueError(f"allowed mean loss lies between 0 and 1, not {allowed}")
        self.allowed = allowed
        self.once_in = once_in
        self.labels = 0
        self._bets: NDArray[np.float64] = np.minimum(BETS, 0.9 / allowed)
        self._weights = 1.0 / self._bets / (1.0 / self._bets).sum()
        self._evidence = np.zeros(self._bets.size)

    def learn(self, loss: float) -> bool:
        """Update by one loss; True when the evidence reaches the bar."""
        if not 0 <= loss <= 1:
            raise ValueError(f"a loss lies between 0 and 1, not {loss}")
        self.labels += 1
        self._evidence = (self._evidence + 1) * (1 + self._bets * (loss - self.allowed))
        return self.evidence >= self.once_in

    @property
    def evidence(self) -> float:
        return float((self._weights * self._evidence).sum())

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Exact state as JSON scalars and arrays (copies)."""
        meta = {"allowed": self.allowed, "once_in": self.once_in, "labels": self.labels}
        return meta, {"evidence": self._evidence.copy()}

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore a dumped state exactly. ValueError where it does not fit."""
        fresh = LossAlarm(float(meta["allowed"]), float(meta["once_in"]))
        if arrays["evidence"].shape != fresh._evidence.shape:
            raise ValueError("evidence does not fit this detector")
        fresh.labels = int(meta["labels"])
        fresh._evidence = np.array(arrays["evidence"], np.float64)
        self.__dict__.update(fresh.__dict__)


class LossMonitor:
    """Loss monitor of a champion: usual loss from the first CALM outcomes, then an e-detector.

    The mean that is allowed is the upper end of the interval of the usual one, times TOLERANCE; a
    loss in [0, 1] is dominated by a Bernoulli variable of the same mean, so the interval holds for
    it, too.
    """

    def __init__(self, calm: int = CALM) -> None:
        self.calm = calm
        self.outcomes = 0
        self._sum = 0.0
        self.alarm: LossAlarm | None = None

    def learn(self, loss: float) -> bool:
        """Update by one outcome's loss, in [0, 1]; True when it is clearly above the usual."""
        self.outcomes += 1
        if self.alarm is not None:
            return self.alarm.learn(loss)
        self._sum += loss
        if self.outcomes >= self.calm:
            usual = under_drift(self._sum, self.outcomes)
            self.alarm = LossAlarm(min(0.95, max(0.01, TOLERANCE * (usual.high or 1.0))))
        return False
