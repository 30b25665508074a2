"""Rates with honest intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `among`, with a 95 % interval; all None where there is nothing to divide by."""

    count: int
    among: int
    rate: float | None
    low: float | None
    high: float | None


def proportion(count: int, among: int) -> Rate:
    """A share with Wilson's 95 % score interval, for one look at a fixed sample.

    Wilson 1927; it stays inside [0, 1] and holds for small counts, where the normal one fails.
    """
    if among == 0:
        return Rate(0, 0, None, None, None)
    share, z2 = count / among, Z_95 * Z_95
    middle = (share + z2 / (2 * among)) / (1 + z2 / among)
    spread = Z_95 * math.sqrt(share * (1 - share) / among + z2 / (4 * among * among))
    half = spread / (1 + z2 / among)
    return Rate(count, among, share, max(0.0, middle - half), min(1.0, middle + half))
