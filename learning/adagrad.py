"""Logistic regression by AdaGrad on fixed hashed arrays: quick where labels are clean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.hashing import BUCKETS, Floats, HashedClassifier, Row, pack, sigmoid, unpack

WEIGHT_MAX = 4.0
"""A gradient counts at most this often: plain gradients have no bound in their weight."""


class AdaGradLogisticRegression(HashedClassifier):
    """Each weight moves by rate * g / sqrt(sum of its squared gradients) (Duchi et al. 2011).

    Parameters
    ----------
    rate
        The first step of every weight.
    buckets
        Size of the arrays. Memory is 16 bytes each.
    """

    def __init__(self, rate: float = 0.1, buckets: int = BUCKETS) -> None:
        self.rate = rate
        self.buckets = buckets
        self._m: Floats = np.zeros(buckets)
        self._g: Floats = np.zeros(buckets)

    def predict_row(self, row: Row) -> tuple[float, float]:
        """Probability, and the mean step still to come as a stand-in for the variance."""
        margin = float((self._m[row.index] * row.value).sum())
        open_ = float((row.square / (1.0 + self._g[row.index])).sum())
        return sigmoid(margin), self.rate * open_

    def learn_row(self, row: Row, y: float, w: float) -> None:
        p = sigmoid(float((self._m[row.index] * row.value).sum()))
        g = row.value * ((y - p) * min(w, WEIGHT_MAX))
        np.add.at(self._g, row.index, g * g)
        scale = np.sqrt(self._g[row.index] + 1e-12)
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
        return {"rate": self.rate, "buckets": self.buckets}
