"""Feature hashing (the hashing trick), and the base class of estimators on fixed arrays of buckets.

Bucket 0 is the bias. Context names (without "=") go to 1..RESERVED-1, each name that `features`
has to a bucket of its own, and names of text to the rest, so no text can ever move the weight of
a context feature. CRC-32 is stable between processes, machines and hash seeds.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from river import base

from learning.conversation.features import CONTEXT, Parts

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

RESERVED = 4096
"""Buckets of bias and context: the lower half for the names of `features`, the upper for others."""
BUCKETS = 2**18
ALL = slice(None)

_CONTEXT_BUCKETS = {name: place for place, name in enumerate(CONTEXT, 1)}
_OTHER_CONTEXT = RESERVED // 2
_CACHED_MAX = 2**16
_VALUE_MAX = 100.0


def bucket(name: str, buckets: int) -> int:
    """Hash of a feature name: its bucket, among `buckets` (more than RESERVED) of them."""
    if (place := _CONTEXT_BUCKETS.get(name)) is not None:
        return place
    code = crc32(name.encode("utf-8", "surrogatepass"))
    if "=" in name:
        return RESERVED + code % (buckets - RESERVED)
    return _OTHER_CONTEXT + code % (RESERVED - _OTHER_CONTEXT)


class _BucketCache(dict[Any, int]):
    """Memoised buckets of one namespace, by what stands for a name there (see `Parts`).

    The checksum of a namespace that ends in "=" is taken once for all its words.
    """

    def __init__(self, caches: _NamespaceCache, namespace: str) -> None:
        super().__init__()
        self._caches = caches
        self._namespace = namespace
        self._prefix_checksum = crc32(namespace.encode()) if namespace.endswith("=") else None

    def __missing__(self, word: Any) -> int:
        self._caches.count_entry()
        buckets = self._caches.buckets
        if self._prefix_checksum is None:
            place = bucket(self._namespace + str(word), buckets)
        else:
            code = crc32(word.encode("utf-8", "surrogatepass"), self._prefix_checksum)
            place = RESERVED + code % (buckets - RESERVED)
        self[word] = place
        return place


class _NamespaceCache(dict[str, _BucketCache]):
    """Bucket caches by namespace; all are cleared at once when they hold too much."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets
        self._count = 0

    def __missing__(self, namespace: str) -> _BucketCache:
        bucket_cache = self[namespace] = _BucketCache(self, namespace)
        return bucket_cache

    def count_entry(self) -> None:
        self._count += 1
        if self._count > _CACHED_MAX:
            self._count = 1
            for bucket_cache in self.values():
                bucket_cache.clear()


@cache
def _namespace_cache(buckets: int) -> _NamespaceCache:
    return _NamespaceCache(buckets)


class Row:
    """One hashed example: buckets (the bias first), values, and their squares.

    No bucket stands twice: what collides is summed. `cached_margins` belongs to the model that
    scored the row last: its state then, and its experts' margins.
    """

    __slots__ = ("cached_margins", "index", "square", "value")

    def __init__(self, x: Mapping[Any, Any], buckets: int) -> None:
        places = [0, *map(_namespace_cache(buckets)[""].__getitem__, x)]
        values = [1.0, *x.values()]
        try:
            self.value: Floats = np.array(values, np.float64)
        except (TypeError, ValueError, OverflowError):
            self._fill_cleaned(places, values)
            return
        if np.abs(self.value).max() <= _VALUE_MAX:
            self._fill(places, values)
        else:
            self._fill_cleaned(places, values)

    @classmethod
    def of_parts(cls, parts: Parts, buckets: int) -> Row:
        """The row of what `features` would spell out, which is bounded and finite."""
        caches, places, values = _namespace_cache(buckets), [0], [1.0]
        for namespace, group in parts.items():
            places += map(caches[namespace].__getitem__, group)
            values += group.values()
        row = cls.__new__(cls)
        row.value = np.array(values)
        row._fill(places, values)
        return row

    def _fill(self, places: list[int], values: list[Any]) -> None:
        if len(set(places)) < len(places):
            self._fill_cleaned(places, values)
            return
        self.index: Ints = np.array(places, np.intp)
        self.square: Floats = self.value * self.value
        self.cached_margins: tuple[object, list[float]] | None = None

    @classmethod
    def of(cls, index: NDArray[Any], value: NDArray[Any]) -> Row:
        """Restore a row from its buckets, none twice, and its values."""
        row = cls.__new__(cls)
        row.index, row.value = index.astype(np.intp), value.astype(np.float64)
        row.square = row.value * row.value
        row.cached_margins = None
        return row

    def _fill_cleaned(self, places: Iterable[int], values: Iterable[Any]) -> None:
        """Without what is no finite number, no value beyond +-100, and no bucket twice."""
        by_bucket: dict[int, float] = {}
        for place, value in zip(places, values, strict=True):
            if number := _number(value):
                by_bucket[place] = _number(by_bucket.get(place, 0.0) + number)
        self.index = np.array(list(by_bucket), np.intp)
        self.value = np.array(list(by_bucket.values()))
        self.square = self.value * self.value
        self.cached_margins = None


def _number(value: Any) -> float:
    """The value as a float within +-100; 0 for whatever is no finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    if not math.isfinite(number):
        return 0.0
    return min(max(number, -_VALUE_MAX), _VALUE_MAX)


def sigmoid(margin: float) -> float:
    """1 / (1 + exp(-margin)), without overflow."""
    if margin >= 0:
        return 1.0 / (1.0 + math.exp(-margin))
    exponential = math.exp(margin)
    return exponential / (1.0 + exponential)


def pack(array: Floats, default: float) -> tuple[NDArray[np.int64], Floats]:
    """Sparse form of a flat array: where it differs from its default, and the values there."""
    places = np.flatnonzero(array != default)
    return places.astype(np.int64), array[places]


def unpack(places: NDArray[Any], values: NDArray[Any], buckets: int, default: float) -> Floats:
    """The inverse of `pack`. Raises ValueError for places or values that cannot be."""
    if places.shape != values.shape or places.ndim != 1 or places.dtype.kind != "i":
        raise ValueError("places and values must be two lists of one length")
    if len(places) and (places.min() < 0 or places.max() >= buckets):
        raise ValueError(f"a place lies outside the {buckets} buckets")
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    array = np.full(buckets, default)
    array[places] = values
    return array


class HashedClassifier(base.Classifier):
    """Base of the online binary classifiers (River's interface) on hashed rows.

    Labels may be soft, weights any number >= 0. Subclasses implement `margin_row` and `learn_row`.
    """

    buckets: int

    @abstractmethod
    def margin_row(self, row: Row) -> tuple[float, float]:
        """The log odds of a row, and their variance."""

    @abstractmethod
    def learn_row(self, row: Row, y: float, w: float) -> None:
        """Learn a label in [0, 1] with a weight > 0."""

    @abstractmethod
    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The learned state: JSON scalars, and arrays that later learning does not touch."""

    @abstractmethod
    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore a dumped state exactly. Raises ValueError where it does not fit."""

    def row(self, parts: Parts) -> Row:
        """An example of `features`' groups, as this model takes it."""
        return Row.of_parts(parts, self.buckets)

    @abstractmethod
    def linear_weights(self, index: Ints | slice = ALL, /) -> Floats:
        """The model as one linear one: the weights of some buckets, by default of all; a copy.
        TypeError where it is none.
        """

    def attribute(self, row: Row, groups: Sequence[Collection[str]]) -> list[float]:
        """Leave-one-out attribution: by how much the log odds fall without each group of features,
        which `features` names. Of a linear model it is the sum of weight times value.
        """
        contributions = (self.linear_weights(row.index) * row.value).tolist()
        by_bucket = dict(zip(row.index.tolist(), contributions, strict=True))
        places = [{bucket(name, self.buckets) for name in group} for group in groups]
        return [math.fsum(by_bucket.get(place, 0.0) for place in group) for group in places]

    def learn_rows(
        self, rows: Sequence[Row], labels: Sequence[float], weights: Sequence[float]
    ) -> None:
        """Learn what belongs together, a conversation's lessons, in order; each weight > 0."""
        for row, label, weight in zip(rows, labels, weights, strict=True):
            self.learn_row(row, label, weight)

    def learn_one(self, x: dict[Any, Any], y: Any, w: float = 1.0) -> None:
        """Learn that `x` has the label `y` (a bool, or a share between 0 and 1)."""
        self.learn([Row(x, self.buckets)], [float(y)], [float(w)])

    def learn(self, rows: Sequence[Row], labels: Sequence[float], weights: Sequence[float]) -> None:
        """Learn what belongs together: a conversation's lessons, in order.

        ValueError, and nothing learned, for a label or a weight that cannot be.
        """
        for y, w in zip(labels, weights, strict=True):
            if not 0.0 <= y <= 1.0:
                raise ValueError(f"a label lies between 0 and 1, not {y!r}")
            if not 0.0 <= w < math.inf:
                raise ValueError(f"a weight is a finite number from 0 on, not {w!r}")
        weighted = [n for n, w in enumerate(weights) if w > 0.0]
        self.learn_rows(
            [rows[n] for n in weighted],
            [labels[n] for n in weighted],
            [weights[n] for n in weighted],
        )

    def assess_one(self, x: Mapping[Any, Any]) -> tuple[float, float]:
        """Probability of True and its uncertainty (variance of the log odds), in one pass."""
        return self.assess(Row(x, self.buckets))

    def assess(self, row: Row) -> tuple[float, float]:
        """Probability of True and its uncertainty for a row."""
        margin, variance = self.margin_row(row)
        return sigmoid(margin), variance

    def predict_proba_one(self, x: dict[Any, Any], **_: Any) -> dict[Any, float]:
        """The probability of each label, under the keys False and True."""
        p = self.assess_one(x)[0]
        return {False: 1.0 - p, True: p}
