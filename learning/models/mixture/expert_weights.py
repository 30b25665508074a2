"""Weight matrix of several experts: a row for each hashed bucket, a column for each expert."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from learning.models.hashed_features import RESERVED, Floats, Ints


class ExpertWeights:
    """An `array` of shape (buckets, experts), packed as its changed rows.

    Rows of context (and the bias) begin as `context`, RESERVED rows or one for all; rows of text
    as `text`, one row for all. All numbers of a bucket stand together, so that a lesson's buckets
    are fetched and put back in one go each, and computed with as one contiguous line an expert.
    """

    def __init__(self, buckets: int, context: Floats, text: Floats) -> None:
        self._context = context
        self._text = text
        self.array: Floats = np.tile(text, (buckets, 1))
        self.array[:RESERVED] = context
        self._row = np.dtype(f"V{self.array.itemsize * text.size}")

    def take(self, index: Ints) -> Floats:
        """A copy of the rows of some buckets, turned: a line for each expert."""
        return self.array.take(index, axis=0).T.copy()

    def put(self, index: Ints, lines: Floats) -> None:
        """Set the rows of some buckets, none twice, as `take` gave them."""
        rows = lines.T.copy()
        self.array.view(self._row)[:, 0].put(index, rows.view(self._row)[:, 0])

    def pack(self) -> tuple[NDArray[np.int64], Floats]:
        """Sparse form: the places of the rows that differ from their start, and those rows."""
        changed = np.empty(len(self.array), bool)
        changed[:RESERVED] = (self.array[:RESERVED] != self._context).any(axis=1)
        changed[RESERVED:] = (self.array[RESERVED:] != self._text).any(axis=1)
        places = np.flatnonzero(changed)
        return places.astype(np.int64), self.array[places]

    def unpack(self, places: NDArray[np.int64], rows: Floats) -> None:
        """The inverse of `pack`, on fresh columns. Raises ValueError for what cannot be."""
        buckets, experts = self.array.shape
        if places.ndim != 1 or places.dtype.kind != "i" or rows.shape != (len(places), experts):
            raise ValueError(f"places and rows of {experts} numbers must be of one length")
        if len(places) and not (places.min() >= 0 and places.max() < buckets):
            raise ValueError(f"a place lies outside the {buckets} buckets")
        if not np.isfinite(rows).all():
            raise ValueError("a value is not finite")
        self.array[places] = rows
