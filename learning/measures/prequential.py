"""Prequential (test-then-learn) scores of one model line: a ring buffer and all-time totals.

A line scores a lesson just before it learns it. Those scores alone say how well the line itself
did, so they travel inside its checkpoints: a restarted process reports the same figures as one
that never stopped, and two lines can be compared lesson by lesson.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Scalar = str | int | float | bool | None

LESSONS = 4096
CLIP = 1e-15
_COLUMNS = ("position", "probability", "label", "weight", "conversation")
_COUNTS = ("lessons", "outcomes", "uncounted")
_SUMS = ("weight", "positives", "loss", "squares")


@dataclass(frozen=True, slots=True)
class Scores:
    """Prequential scores, oldest first; one row per lesson, arrays of one length.

    `position` is the ledger position of the outcome, `conversation` a 64-bit digest of the
    conversation's id (enough to group by, and no id leaves the window).
    """

    position: Integers
    probability: Floats
    label: Floats
    weight: Floats
    conversation: Integers

    def __len__(self) -> int:
        return int(self.position.size)


class Window:
    """Sliding window of prequential scores: a ring buffer of the newest, and running totals.

    Memory is fixed by `size` (lessons; 5 arrays of 8 bytes each), whatever the traffic.
    All totals are weighted except the three counts: `lessons` ever added, `outcomes` they came
    from, `uncounted` lessons without weight, which were not added.
    """

    def __init__(self, size: int = LESSONS) -> None:
        if size < 1:
            raise ValueError(f"a window holds at least one lesson, not {size}")
        self.size = size
        self.lessons = 0
        self.outcomes = 0
        self.uncounted = 0
        self.last: int | None = None
        self.weight = 0.0
        self.positives = 0.0
        self.loss = 0.0
        self.squares = 0.0
        self._position = np.zeros(size, np.int64)
        self._probability = np.zeros(size, np.float64)
        self._label = np.zeros(size, np.float64)
        self._weight = np.zeros(size, np.float64)
        self._conversation = np.zeros(size, np.int64)

    def __len__(self) -> int:
        return min(self.lessons, self.size)

    def add(
        self,
        position: int,
        probability: float,
        label: float,
        weight: float = 1.0,
        conversation: str | None = None,
    ) -> None:
        """Add the score that one lesson of the outcome at `position` got before it was learned.

        Without a conversation's id the outcome itself stands for the conversation. A lesson without
        weight says nothing for or against the model: it is counted in `uncounted` and not added.
        Positions must not fall (ValueError): the ledger is learned in order.
        """
        if self.last is not None and position < self.last:
            raise ValueError(f"a lesson of position {position} came after one of {self.last}")
        if weight <= 0.0:
            self.uncounted += 1
            return
        if self.last != position:
            self.outcomes += 1
            self.last = position
        slot = self.lessons % self.size
        self._position[slot] = position
        self._probability[slot] = probability
        self._label[slot] = label
        self._weight[slot] = weight
        self._conversation[slot] = (
            position if conversation is None else conversation_digest(conversation)
        )
        self.lessons += 1
        self.weight += weight
        self.positives += weight * label
        self.loss += weight * log_loss_one(probability, label)
        self.squares += weight * (probability - label) * (probability - label)

    @property
    def log_loss(self) -> float | None:
        """Weighted mean log loss (nats) over all time; None before any weight was recorded."""
        return self.loss / self.weight if self.weight > 0.0 else None

    @property
    def brier(self) -> float | None:
        """Weighted mean squared error over all time; None before any weight was recorded."""
        return self.squares / self.weight if self.weight > 0.0 else None

    def scores(
        self, newest: int | None = None, since: int | None = None, until: int | None = None
    ) -> Scores:
        """The scores in the ring buffer, oldest first.

        Only those of positions after `since` and up to `until`, and at most the `newest` so many.

        The arrays are copies.
        """
        count = len(self)
        order = (np.arange(self.lessons - count, self.lessons)) % self.size
        if since is not None:
            order = order[self._position[order] > since]
        if until is not None:
            order = order[self._position[order] <= until]
        if newest is not None:
            order = order[max(0, order.size - newest) :]
        return Scores(
            self._position[order],
            self._probability[order],
            self._label[order],
            self._weight[order],
            self._conversation[order],
        )

    def dump(self) -> tuple[dict[str, Scalar], dict[str, NDArray[np.generic]]]:
        """Exact state as JSON scalars and arrays (copies)."""
        meta: dict[str, Scalar] = {"size": self.size, "last": self.last}
        meta.update((name, getattr(self, name)) for name in _COUNTS + _SUMS)
        return meta, {name: getattr(self, f"_{name}").copy() for name in _COLUMNS}

    def load(self, meta: Mapping[str, Scalar], arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore a dumped state exactly, size included; the arrays are copied.

        ValueError if an array does not have the length that the state names.
        """
        size = int(meta["size"])  # type: ignore[arg-type]
        for name in _COLUMNS:
            if arrays[name].shape != (size,):
                raise ValueError(f"window array {name} has shape {arrays[name].shape}, not {size}")
        fresh = Window(size)
        for name in _COLUMNS:
            kind = getattr(fresh, f"_{name}").dtype
            setattr(fresh, f"_{name}", np.array(arrays[name], dtype=kind, copy=True))
        for name in _COUNTS:
            setattr(fresh, name, int(meta[name]))  # type: ignore[arg-type]
        for name in _SUMS:
            setattr(fresh, name, float(meta[name]))  # type: ignore[arg-type]
        last = meta["last"]
        fresh.last = None if last is None else int(last)
        self.__dict__.update(fresh.__dict__)


def conversation_digest(conversation: str) -> int:
    """A stable signed 64-bit digest of a conversation's id (BLAKE2b, 8 bytes)."""
    digest = hashlib.blake2b(conversation.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def log_loss_one(p: float, y: float) -> float:
    """Log loss of one probability against a label in 0..1, in nats, p clipped at 1e-15."""
    p = min(max(p, CLIP), 1.0 - CLIP)
    return -(y * math.log(p) + (1.0 - y) * math.log(1.0 - p))


def pair_scores(a: Scores, b: Scores) -> tuple[Scores, Scores]:
    """Inner join of two lines' scores: the lessons that both scored, row by row the same lesson.

    A lesson is identified by its outcome's position and its place counted from that outcome's last
    lesson, so a conversation cut off at the old end of one ring still pairs.
    """
    width = np.int64(LESSONS * 1024)
    keys = [s.position * width + _places_from_last(s.position) for s in (a, b)]
    _, left, right = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    order = np.argsort(left, kind="stable")
    return _select_rows(a, left[order]), _select_rows(b, right[order])


def _select_rows(scores: Scores, rows: NDArray[np.intp]) -> Scores:
    return Scores(
        scores.position[rows],
        scores.probability[rows],
        scores.label[rows],
        scores.weight[rows],
        scores.conversation[rows],
    )


def _places_from_last(position: Integers) -> Integers:
    if position.size == 0:
        return position
    ends = np.flatnonzero(np.append(position[1:] != position[:-1], True))
    end_of_row = ends[np.searchsorted(ends, np.arange(position.size))]
    return np.asarray(end_of_row - np.arange(position.size), np.int64)
