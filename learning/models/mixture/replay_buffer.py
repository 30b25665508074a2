"""Experience-replay buffer: the newest lessons, so that each may be learned more than once."""

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
    """A lesson in the buffer: its row, label and weight; and its `duals`, the dual
    variables of the experts by dual ascent.
    """

    row: Row
    label: float
    weight: float
    duals: list[float]


class ReplayBuffer:
    """Experience replay: a ring of at most `size` lessons, drawn pseudorandomly.

    The sequence (Knuth's MMIX linear congruential generator) is part of the state, so the same
    lessons in the same order are replayed in the same order, in any process.
    """

    def __init__(self, size: int, duals: int, buckets: int) -> None:
        self.size = size
        self.duals = duals
        self.buckets = buckets
        self._lessons: list[StoredLesson] = []
        self._oldest = 0
        self._generator = _START

    def add(self, lesson: StoredLesson) -> StoredLesson | None:
        """Add a lesson, and return the oldest where it had to make room."""
        if len(self._lessons) < self.size:
            self._lessons.append(lesson)
            return None
        evicted, self._lessons[self._oldest] = self._lessons[self._oldest], lesson
        self._oldest = (self._oldest + 1) % self.size
        return evicted

    def draw(self) -> StoredLesson:
        """The next lesson to replay, by the generator."""
        self._generator = (self._generator * _TIMES + _PLUS) % _MODULUS
        return self._lessons[(self._generator >> 33) % len(self._lessons)]

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The state as JSON scalars and plain arrays."""
        lessons = self._lessons
        rows = [lesson.row for lesson in lessons]
        return {"oldest": self._oldest, "drawn": self._generator}, {
            "length": np.array([len(row.index) for row in rows], np.int64),
            "index": _concatenate([row.index for row in rows], np.int32),
            "value": _concatenate([row.value for row in rows], np.float64),
            "label": np.array([lesson.label for lesson in lessons], np.float64),
            "weight": np.array([lesson.weight for lesson in lessons], np.float64),
            "dual": np.array([lesson.duals for lesson in lessons], np.float64).reshape(
                -1, self.duals
            ),
        }

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore a dumped state exactly. Raises ValueError for what cannot be a state."""
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
        oldest, generator = int(meta["oldest"]), int(meta["drawn"])
        if not (0 <= oldest < self.size and 0 <= generator < _MODULUS):
            raise ValueError("the order of the lessons held cannot be")
        ends = np.cumsum(lengths)
        self._lessons = [
            StoredLesson(
                Row.of(index[end - n : end], value[end - n : end]), float(y), float(w), owed
            )
            for end, n, y, w, owed in zip(ends, lengths, label, weight, dual.tolist(), strict=True)
        ]
        self._oldest, self._generator = oldest, generator


def _concatenate(arrays: list[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate(arrays).astype(kind) if arrays else np.zeros(0, kind)
