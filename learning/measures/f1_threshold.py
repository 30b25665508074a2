"""Online decision threshold that maximises F1, learned label by label in bounded memory.

A threshold picked on the labels that judge it flatters every model. This one is prequential: a
decision uses only labels that came before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scalar = str | int | float | bool | None
BINS = 1000


class OnlineThreshold:
    """The F1-best threshold of the (probability, label) pairs learned so far.

    Two histograms of `bins` equal steps of probability hold all it remembers; soft labels count
    as positive above one half. Before the first positive label the threshold is one half.
    Between two occupied steps every threshold has the same F1: the middle one is taken, the
    lowest such run where several tie.
    """

    def __init__(self, bins: int = BINS) -> None:
        if bins < 2:
            raise ValueError(f"a threshold needs at least two bins, not {bins}")
        self.bins = bins
        self._positive = np.zeros(bins, np.float64)
        self._negative = np.zeros(bins, np.float64)
        self._step: int | None = None

    def learn(self, p: float, y: float, w: float = 1.0) -> None:
        """Update by one labelled probability; the threshold may move from the next decision on."""
        histogram = self._positive if y > 0.5 else self._negative
        histogram[self._bin(p)] += w
        self._step = None

    def decides(self, p: float) -> bool:
        """Whether `p` reaches the threshold learned so far."""
        return self._bin(p) >= self.step

    @property
    def value(self) -> float:
        """The threshold as a probability, a multiple of 1/bins."""
        return self.step / self.bins

    @property
    def step(self) -> int:
        """The threshold as a number of histogram steps; a probability of that step reaches it."""
        if self._step is None:
            self._step = self._best_step()
        return self._step

    def _best_step(self) -> int:
        positives = self._positive.sum()
        if positives <= 0.0:
            return self.bins // 2
        hits = self._positive[::-1].cumsum()[::-1]
        alarms = self._negative[::-1].cumsum()[::-1]
        f1 = 2.0 * hits / (hits + alarms + positives)
        first = int(f1.argmax())
        last = first
        while last + 1 < self.bins and f1[last + 1] == f1[first]:
            last += 1
        return (first + last + 1) // 2

    def _bin(self, p: float) -> int:
        return min(max(int(p * self.bins), 0), self.bins - 1)

    def dump(self) -> tuple[dict[str, Scalar], dict[str, NDArray[np.generic]]]:
        """Exact state as JSON scalars and arrays (copies)."""
        arrays: dict[str, NDArray[np.generic]] = {
            "positive": self._positive.copy(),
            "negative": self._negative.copy(),
        }
        return {"bins": self.bins}, arrays

    def load(self, meta: Mapping[str, Scalar], arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore a dumped state exactly; the arrays are copied. ValueError on another shape."""
        bins = int(meta["bins"])  # type: ignore[arg-type]
        for name in ("positive", "negative"):
            if arrays[name].shape != (bins,):
                raise ValueError(f"threshold array {name} has shape {arrays[name].shape}")
        self.bins = bins
        self._positive = np.array(arrays["positive"], np.float64, copy=True)
        self._negative = np.array(arrays["negative"], np.float64, copy=True)
        self._step = None
