"""The exact interval for a share at one look (Clopper and Pearson 1934): the yardstick."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def exact(s: int, n: int, alpha: float) -> tuple[float, float]:
    """The exact two-sided interval for s of n at one look, by bisection of the binomial tails."""

    def below(p: float, most: int) -> float:
        k = np.arange(most + 1)
        ways = np.array(
            [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in k]
        )
        return float(np.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p)).sum())

    def crossing(holds: Callable[[float], bool]) -> float:
        low, high = 1e-12, 1 - 1e-12
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return (low + high) / 2

    first = crossing(lambda p: 1 - below(p, s - 1) < alpha / 2) if s else 0.0
    last = crossing(lambda p: below(p, s) > alpha / 2) if s < n else 1.0
    return first, last
