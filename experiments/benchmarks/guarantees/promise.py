"""A row of the guarantee table, and means and medians over streams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]


def promise(name: str, promised: str, value: float, *, holds: bool, of: int | None = None) -> Row:
    """One row; with `of`, the rate of so many streams, its standard error besides."""
    row = {"name": name, "promised": promised, "seen": float(f"{value:.4g}"), "holds": holds}
    error = {} if of is None else {"standard_error": round(math.sqrt(value * (1 - value) / of), 4)}
    return row | error


def mean(rows: Sequence[Row], key: str) -> float:
    """The mean of one figure over the streams."""
    return float(np.mean([row[key] for row in rows]))


def median(rows: Sequence[Row], key: str) -> float:
    """Its median."""
    return float(np.median([row[key] for row in rows]))
