"""Is one model line clearly worse than another? The plain rule of rollback, with its evidence.

It is a rule for one look at the newest lessons; sequential tests, valid at every look, replace it
(LEARNING.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether A is clearly worse than B on the same lessons, and all the evidence for it."""

    worse: bool
    conversations: int
    lessons: int
    mean_a: float
    mean_b: float
    difference: float
    standard_error: float | None
    sentence: str


def clearly_worse(
    loss_a: ArrayLike,
    loss_b: ArrayLike,
    conversation: ArrayLike,
    *,
    conversations_min: int = 100,
    errors_min: float = 3.0,
    nats_min: float = 0.01,
) -> Verdict:
    """Is A's loss clearly above B's, lesson by lesson?

    Losses are paired by row and averaged within each conversation, because lessons of one
    conversation are not independent. A is clearly worse when there are at least
    `conversations_min`, and the mean difference exceeds both `errors_min` standard errors and
    `nats_min`.
    """
    a, b = np.asarray(loss_a, np.float64), np.asarray(loss_b, np.float64)
    group = np.asarray(conversation)
    if not a.shape == b.shape == group.shape or a.ndim != 1:
        raise ValueError(f"shapes differ: {a.shape}, {b.shape} and {group.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("losses must be finite")
    mean_a, mean_b = _by_conversation(a, group), _by_conversation(b, group)
    n = int(mean_a.size)
    gaps = mean_a - mean_b
    gap = float(gaps.mean()) if n else 0.0
    error = float(gaps.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    enough = n >= conversations_min and error is not None
    worse = enough and gap > nats_min and gap > errors_min * (error or 0.0)
    found: dict[str, Any] = {
        "conversations": n,
        "lessons": int(a.size),
        "mean_a": float(mean_a.mean()) if n else 0.0,
        "mean_b": float(mean_b.mean()) if n else 0.0,
        "difference": gap,
        "standard_error": error,
    }
    if not enough:
        said = f"{n} conversations are too few to judge; {conversations_min} are needed"
    else:
        said = (
            f"over {n} conversations the loss is {gap:+.4f} nats with a standard error of "
            f"{error:.4f}: {'clearly worse' if worse else 'not clearly worse'} (the rule asks for "
            f"more than {errors_min:g} standard errors and more than {nats_min:g} nats)"
        )
    return Verdict(worse=worse, sentence=said, **found)


def _by_conversation(loss: Floats, group: NDArray[Any]) -> Floats:
    _, place = np.unique(group, return_inverse=True)
    return np.asarray(np.bincount(place, loss) / np.maximum(np.bincount(place), 1), np.float64)
