"""Adapter of a River classifier of one's own to the interface of Baton's estimators."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from numpy.typing import NDArray

from learning.conversation.features import Parts
from learning.models.hashed_features import ALL, BUCKETS, Floats, HashedClassifier, Ints, Row

P_MIN = 1e-6


class NamedRow:
    """An example by the names of its features, as River's models take it."""

    __slots__ = ("x",)

    def __init__(self, x: dict[str, float]) -> None:
        self.x = x


class OwnClassifier(HashedClassifier):
    """A wrapped classifier: named features in, log odds out; its uncertainty is not known.

    A label between 0 and 1 is learned as both, each with its share of the weight.
    """

    def __init__(self, make: Callable[[], Any], buckets: int = BUCKETS) -> None:
        self.make = make
        self.buckets = buckets
        self.inner = make()

    def row(self, parts: Parts) -> Row:
        return cast(
            "Row", NamedRow({ns + w: x for ns, part in parts.items() for w, x in part.items()})
        )

    def margin_row(self, row: Row) -> tuple[float, float]:
        p = self.inner.predict_proba_one(dict(_names(row))).get(True, 0.5)
        p = min(max(float(p), P_MIN), 1.0 - P_MIN)
        return math.log(p / (1.0 - p)), 0.0

    def linear_weights(self, _: Ints | slice = ALL, /) -> Floats:
        raise TypeError(f"{type(self.inner).__name__} has no weights that another could take")

    def attribute(self, row: Row, groups: Sequence[Collection[str]]) -> list[float]:
        whole = _names(row)
        margin, _ = self.margin_row(row)
        margins = []
        for group in groups:
            rest = {name: x for name, x in whole.items() if name not in group}
            margins.append(self.margin_row(cast("Row", NamedRow(rest)))[0])
        return [margin - without for without in margins]

    def learn_row(self, row: Row, y: float, w: float) -> None:
        for label, share in ((True, y), (False, 1.0 - y)):
            if share * w > 0.0:
                self.inner.learn_one(dict(_names(row)), label, w=share * w)

    def learn_one(self, x: dict[Any, Any], y: Any, w: float = 1.0) -> None:
        named = {str(name): float(value) for name, value in x.items()}
        self.learn([cast("Row", NamedRow(named))], [float(y)], [float(w)])

    def assess_one(self, x: Mapping[Any, Any]) -> tuple[float, float]:
        named = {str(name): float(value) for name, value in x.items()}
        return self.assess(cast("Row", NamedRow(named)))

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta, arrays = self.inner.dump()
        return dict(meta), dict(arrays)

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        fresh = self.make()
        fresh.load(dict(meta), dict(arrays))
        self.inner = fresh


def _names(row: Row | NamedRow) -> Mapping[str, float]:
    return cast("NamedRow", row).x


def missing_methods(candidate: Any) -> Sequence[str]:
    """The methods that a candidate lacks."""
    wanted = ("learn_one", "predict_proba_one", "dump", "load")
    return [name for name in wanted if not callable(getattr(candidate, name, None))]
