"""The newest lessons, kept for a while, so that each may be learned more than once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.models.hashed_features import Row

_START = 12345
_TIMES, _PLUS, _MODULUS = 6364136223846793005, 1442695040888963407, 2**64


@dataclass(slots=True)
class StoredLesson:
    """A lesson that is kept: its row, label and weight; and its `duals`, one for each expert that
    can take back what it has learned from it.
    """

    row: Row
    label: float
    weight: float
    duals: list[float]


class ReplayBuffer:
    """At most `size` lessons, the newest; which one comes next is drawn by a sequence of its own.

    The sequence (Knuth's MMIX generator) is part of the state, so the same lessons in the same
    order are rehearsed in the same order, in any process.
    """

    def __init__(self, size: int, duals: int, buckets: int) -> None:
        self.size = size
        self.duals = duals
        self.buckets = buckets
        self._held: list[StoredLesson] = []
        self._oldest = 0
        self._drawn = _START

    def add(self, held: StoredLesson) -> StoredLesson | None:
        """Keep one more lesson; the oldest one leaves where there is no room."""
        if len(self._held) < self.size:
            self._held.append(held)
            return None
        gone, self._held[self._oldest] = self._held[self._oldest], held
        self._oldest = (self._oldest + 1) % self.size
        return gone

    def draw(self) -> StoredLesson:
        """The next lesson to rehearse, of those that are held."""
        self._drawn = (self._drawn * _TIMES + _PLUS) % _MODULUS
        return self._held[(self._drawn >> 33) % len(self._held)]

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The state as JSON scalars and plain arrays."""
        held = self._held
        rows = [one.row for one in held]
        return {"oldest": self._oldest, "drawn": self._drawn}, {
            "length": np.array([len(row.index) for row in rows], np.int64),
            "index": _joined([row.index for row in rows], np.int32),
            "value": _joined([row.value for row in rows], np.float64),
            "label": np.array([one.label for one in held], np.float64),
            "weight": np.array([one.weight for one in held], np.float64),
            "dual": np.array([one.duals for one in held], np.float64).reshape(-1, self.duals),
        }

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Stand exactly where `dump` stood. Raises ValueError for what cannot be a state."""
        lengths, index, value = (arrays[name] for name in ("length", "index", "value"))
        label, weight, dual = (arrays[name] for name in ("label", "weight", "dual"))
        count = len(lengths)
        fits = (
            count <= self.size
            and label.shape == weight.shape == (count,)
            and dual.shape == (count, self.duals)
            and index.shape == value.shape == (int(lengths.sum()),)
            and lengths.dtype.kind == index.dtype.kind == "i"
        )
        if not fits or (lengths < 1).any():
            raise ValueError(f"the lessons held are not at most {self.size} whole ones")
        if index.size and not (index.min() >= 0 and index.max() < self.buckets):
            raise ValueError(f"a lesson names a place outside the {self.buckets} buckets")
        if not all(np.isfinite(array).all() for array in (value, label, weight, dual)):
            raise ValueError("a lesson is not made of finite numbers")
        oldest, drawn = int(meta["oldest"]), int(meta["drawn"])
        if not (0 <= oldest < self.size and 0 <= drawn < _MODULUS):
            raise ValueError("the order of the lessons held cannot be")
        ends = np.cumsum(lengths)
        self._held = [
            StoredLesson(
                Row.of(index[end - n : end], value[end - n : end]), float(y), float(w), owed
            )
            for end, n, y, w, owed in zip(ends, lengths, label, weight, dual.tolist(), strict=True)
        ]
        self._oldest, self._drawn = oldest, drawn


def _joined(arrays: list[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate(arrays).astype(kind) if arrays else np.zeros(0, kind)
