"""River's own recipes on the same rows, as they come in the box."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from river import base, linear_model, optim

from experiments.bench.talks import Talk
from learning.hashing import Row

STOCK: Mapping[str, Callable[[], base.Classifier]] = MappingProxyType(
    {
        "River LogisticRegression": linear_model.LogisticRegression,
        "River LogisticRegression(AdaGrad(.1))": lambda: linear_model.LogisticRegression(
            optim.AdaGrad(0.1)
        ),
        "River AdPredictor": lambda: linear_model.AdPredictor(epsilon=0.001),
    }
)


def played(talks: Sequence[Talk], name: str) -> list[float]:
    """Test, then learn at the end of each conversation; soft labels count as the nearer class."""
    model, found = STOCK[name](), []
    for talk in talks:
        given = [_features(row) for row in talk.rows]
        found += [float(model.predict_proba_one(x).get(True, 0.0)) for x in given]
        for x, label in zip(given, talk.labels, strict=True):
            model.learn_one(x, label > 0.5)
    return found


def _features(row: Row) -> dict[Hashable, Any]:
    return dict(zip(row.index[1:].tolist(), row.value[1:].tolist(), strict=True))
