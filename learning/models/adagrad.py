"""AdaGrad logistic regression (online, binary) on fixed hashed arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.models.hashed_features import (
    ALL,
    BUCKETS,
    Floats,
    HashedClassifier,
    Ints,
    Row,
    pack,
    sigmoid,
    unpack,
)

WEIGHT_MAX = 4.0
"""A gradient counts at most this often: plain gradients have no bound in their weight."""


class AdaGradLogisticRegression(HashedClassifier):
    """Online logistic regression by damped AdaGrad, a step size of its own for each weight.

    Each weight moves by rate * g / (damping + sqrt(sum of its squared gradients)). Without damping
    a weight's first step is the rate itself, however small its gradient: large for rare words. With
    it, steps follow the gradients at first. (Duchi et al. 2011; damped as in McMahan et al. 2013,
    FTRL-proximal without its penalties.)

    Parameters
    ----------
    rate
        Step size.
    damping
        Added to the root of the summed squared gradients of each weight.
    buckets
        Size of the arrays. Memory is 16 bytes each.
    """

    def __init__(self, rate: float = 0.1, damping: float = 1.0, buckets: int = BUCKETS) -> None:
        self.rate = rate
        self.damping = damping
        self.buckets = buckets
        self._m: Floats = np.zeros(buckets)
        self._g: Floats = np.zeros(buckets)

    def linear_weights(self, index: Ints | slice = ALL, /) -> Floats:
        return self._m[index].copy()

    def margin_row(self, row: Row) -> tuple[float, float]:
        """Log odds and, in place of their variance, how far the weights may still move."""
        margin = float((self._m[row.index] * row.value).sum())
        return margin, self.rate * float((row.square / (1.0 + self._g[row.index])).sum())

    def learn_row(self, row: Row, y: float, w: float) -> None:
        p = sigmoid(float((self._m[row.index] * row.value).sum()))
        g = row.value * ((y - p) * min(w, WEIGHT_MAX))
        np.add.at(self._g, row.index, g * g)
        scale = self.damping + np.sqrt(self._g[row.index]) + 1e-12
        np.add.at(self._m, row.index, self.rate * g / scale)

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        m_at, m = pack(self._m, 0.0)
        g_at, g = pack(self._g, 0.0)
        return self._shape(), {"m_at": m_at, "m": m, "g_at": g_at, "g": g}

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if dict(meta) != self._shape():
            raise ValueError(f"a state of {dict(meta)} does not fit {self._shape()}")
        m = unpack(arrays["m_at"], arrays["m"], self.buckets, 0.0)
        g = unpack(arrays["g_at"], arrays["g"], self.buckets, 0.0)
        if (g < 0.0).any():
            raise ValueError("a sum of squares lies below zero")
        self._m, self._g = m, g

    def _shape(self) -> dict[str, Any]:
        return {"rate": self.rate, "damping": self.damping, "buckets": self.buckets}
