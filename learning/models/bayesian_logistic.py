"""Online Bayesian logistic regression: diagonal Gaussian posterior on fixed hashed arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.models.hashed_features import (
    ALL,
    BUCKETS,
    RESERVED,
    Floats,
    HashedClassifier,
    Ints,
    Row,
    bucket,
    pack,
    sigmoid,
    unpack,
)

__all__ = ["RESERVED", "BayesianLogisticRegression", "bucket"]

PROBIT = math.pi / 8
"""sigma(mu / sqrt(1 + pi/8 s2)) is the mean of sigma over a normal margin (MacKay 1992)."""


class BayesianLogisticRegression(HashedClassifier):
    """Online Bayesian logistic regression; each weight's posterior is a normal distribution.

    With mu = m.x, s2 = x'Vx and p = sigma(mu / sqrt(1 + pi/8 s2)), a label y of weight w makes one
    Newton step: h = w p(1-p), d = 1/(1 + h s2), m += V x w (y-p) d, V -= (V x)^2 h d. The step
    is bounded however large w grows, and s2 is the uncertainty. (Chapelle and Li 2011, "An
    empirical evaluation of Thompson sampling"; Graepel et al. 2010, AdPredictor.)

    Parameters
    ----------
    v0
        Prior variance of every weight of text.
    v0_context
        Prior variance of the weights of context features and the bias.
    forgetting
        Share by which a variance returns to its prior at each touch; 0 never forgets.
    buckets
        Size of the arrays. Memory is 16 bytes each.
    """

    def __init__(
        self,
        v0: float = 0.1,
        v0_context: float = 1.0,
        forgetting: float = 0.0,
        buckets: int = BUCKETS,
    ) -> None:
        self.v0 = v0
        self.v0_context = v0_context
        self.forgetting = forgetting
        self.buckets = buckets
        self._m: Floats = np.zeros(buckets)
        self._v: Floats = self._prior()

    @property
    def weights(self) -> Floats:
        """The means, by bucket; a copy."""
        return self._m.copy()

    def linear_weights(self, index: Ints | slice = ALL, /) -> Floats:
        return self._m[index].copy()

    def _prior(self) -> Floats:
        prior = np.full(self.buckets, float(self.v0))
        prior[:RESERVED] = self.v0_context
        return prior

    def margin_row(self, row: Row) -> tuple[float, float]:
        mu = float((self._m[row.index] * row.value).sum())
        s2 = float((self._v[row.index] * row.square).sum())
        return mu / math.sqrt(1.0 + PROBIT * s2), s2

    def learn_row(self, row: Row, y: float, w: float) -> None:
        margin, s2 = self.margin_row(row)
        p = sigmoid(margin)
        h = w * p * (1.0 - p)
        d = 1.0 / (1.0 + h * s2)
        v = self._v[row.index]
        np.add.at(self._m, row.index, v * row.value * (w * (y - p) * d))
        np.subtract.at(self._v, row.index, v * v * row.square * (h * d))
        if self.forgetting:
            self._forget(np.unique(row.index))

    def _forget(self, index: NDArray[np.intp]) -> None:
        v0 = np.where(index < RESERVED, self.v0_context, self.v0)
        v = self._v[index]
        self._v[index] = v * v0 / ((1.0 - self.forgetting) * v0 + self.forgetting * v)

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        places, m = pack(self._m, 0.0)
        touched, _ = pack(self._v - self._prior(), 0.0)
        arrays = {"m_at": places, "m": m, "v_at": touched, "v": self._v[touched]}
        return self._shape(), arrays

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if dict(meta) != self._shape():
            raise ValueError(f"a state of {dict(meta)} does not fit {self._shape()}")
        m = unpack(arrays["m_at"], arrays["m"], self.buckets, 0.0)
        v = unpack(arrays["v_at"], arrays["v"], self.buckets, 0.0)
        touched = arrays["v_at"]
        if (v[touched] <= 0.0).any():
            raise ValueError("a variance is not above zero")
        self._m, self._v = m, self._prior()
        self._v[touched] = v[touched]

    def _shape(self) -> dict[str, Any]:
        return {
            "v0": self.v0,
            "v0_context": self.v0_context,
            "forgetting": self.forgetting,
            "buckets": self.buckets,
        }
