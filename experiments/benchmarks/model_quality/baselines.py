"""Baselines: batch logistic regression refitted on all labels so far, and River's own classifiers.

The batch fit sees every label many times, where an online learner sees each once. On Baton's
features it fits the very rows that Baton learns; the plain one fits TF-IDF of the words and pairs
of words of the message and of the turn before it. Soft labels are two lessons that share a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from river import base, linear_model, optim

from experiments.benchmarks.inputs.feature_rows import FeatureRows, Floats
from learning.measures.scores import jensen_shannon
from learning.models.hashed_features import BUCKETS, Row

FOLDS = 5
INPUTS = ("features", "TF-IDF")


class Matrix:
    """The messages of some conversations as one sparse matrix, a row each, with their labels."""

    def __init__(self, talks: Sequence[FeatureRows], inputs: str) -> None:
        self.label: Floats = np.array([y for talk in talks for y in talk.labels], np.float64)
        self.talk = np.repeat(np.arange(len(talks)), [len(talk.labels) for talk in talks])
        self._talks = list(talks)
        self.inputs = inputs
        self._rows: Any = _rows(talks) if inputs == "features" else None

    def fitted(self, train: np.ndarray, test: np.ndarray, strength: float = 1.0) -> Floats:
        """Probabilities of the rows `tested` after a fit on the rows `learned` (numbers of rows).

        The vocabulary of TF-IDF is that of the rows learned.
        """
        from sklearn.linear_model import LogisticRegression

        train_x, test_x = self._parts(train, test)
        y = self.label[train]
        classes = np.concatenate([train * 0 + 1, train * 0]).astype(float)
        weight = np.concatenate([y, 1.0 - y])
        counts = weight > 0.0
        if len(set(classes[counts])) < 2:
            return np.full(len(test), float(y.mean()) if len(y) else 0.5)
        rows = np.tile(np.arange(len(train)), 2)[counts]
        model = LogisticRegression(C=strength, solver="liblinear", tol=1e-3)
        model.fit(train_x[rows], classes[counts], sample_weight=weight[counts])
        return np.asarray(model.predict_proba(test_x)[:, 1], np.float64)

    def folds(self, strength: float = 1.0) -> Floats:
        """A probability for every row from a fit on the other folds, split by conversation."""
        random = np.random.default_rng(11)
        fold = random.permutation(np.arange(len(self._talks)) % FOLDS)[self.talk]
        probabilities = np.zeros(len(self.label))
        for number in range(FOLDS):
            test = np.flatnonzero(fold == number)
            probabilities[test] = self.fitted(np.flatnonzero(fold != number), test, strength)
        return probabilities

    def _parts(self, train: np.ndarray, test: np.ndarray) -> tuple[Any, Any]:
        if self._rows is not None:
            return self._rows[train], self._rows[test]
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        parts = []
        for field in ("texts", "texts_before"):
            texts = np.array([t for talk in self._talks for t in getattr(talk, field)], object)
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
            try:
                parts.append((words.fit_transform(texts[train]), words.transform(texts[test])))
            except ValueError:  # no word occurs twice
                continue
        if not parts:
            return np.zeros((len(train), 1)), np.zeros((len(test), 1))
        return tuple(hstack(several).tocsr() for several in zip(*parts, strict=True))


def _rows(talks: Sequence[FeatureRows]) -> Any:
    from scipy.sparse import csr_matrix

    rows = [row for talk in talks for row in talk.rows]
    starts = np.cumsum([0, *(len(row.index) for row in rows)])
    index = np.concatenate([row.index for row in rows])
    value = np.concatenate([row.value for row in rows])
    return csr_matrix((value, index, starts), shape=(len(rows), BUCKETS))


def soft_errors(p: Floats, y: Floats) -> dict[str, float]:
    """Mean squared error and Jensen-Shannon divergence (bits) of shares p and y, both 0 to 1."""
    predicted, observed = (np.stack([share, 1.0 - share], axis=1) for share in (p, y))
    return {"mse": float(((p - y) ** 2).mean()), "js": jensen_shannon(predicted, observed)}


STOCK: Mapping[str, Callable[[], base.Classifier]] = MappingProxyType(
    {
        "River LogisticRegression": linear_model.LogisticRegression,
        "River LogisticRegression(AdaGrad(.1))": lambda: linear_model.LogisticRegression(
            optim.AdaGrad(0.1)
        ),
        "River AdPredictor": lambda: linear_model.AdPredictor(epsilon=0.001),
    }
)


def play(talks: Sequence[FeatureRows], name: str) -> list[float]:
    """Test, then learn at the end of each conversation; soft labels count as the nearer class."""
    model, probabilities = STOCK[name](), []
    for talk in talks:
        examples = [_features(row) for row in talk.rows]
        probabilities += [float(model.predict_proba_one(x).get(True, 0.0)) for x in examples]
        for x, label in zip(examples, talk.labels, strict=True):
            model.learn_one(x, label > 0.5)
    return probabilities


def _features(row: Row) -> dict[Hashable, Any]:
    return dict(zip(row.index[1:].tolist(), row.value[1:].tolist(), strict=True))
