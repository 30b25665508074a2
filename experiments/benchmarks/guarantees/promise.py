"""A promise beside what was seen, and the figures of many streams that it is judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]


def promise(name: str, promised: str, seen: float, *, holds: bool, of: int | None = None) -> Row:
    """One row; with `of`, the rate of so many streams, its standard error besides."""
    row = {"name": name, "promised": promised, "seen": float(f"{seen:.4g}"), "holds": holds}
    error = {} if of is None else {"standard_error": round(math.sqrt(seen * (1 - seen) / of), 4)}
    return row | error


def mean(found: Sequence[Row], key: str) -> float:
    """The mean of one figure over the streams."""
    return float(np.mean([one[key] for one in found]))


def median(found: Sequence[Row], key: str) -> float:
    """Its median."""
    return float(np.median([one[key] for one in found]))
