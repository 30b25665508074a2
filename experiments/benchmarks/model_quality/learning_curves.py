"""Learning curves: held-out AUC and log loss by number of labels, for every learner.

The last three of ten conversations, in an order shuffled by the seed, are never learned; the others
are learned one after another. After about 100, 500 and 2000 labels (whole conversations) and after
all of them every learner is tested on what was held out. The online ones saw each label once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.inputs import vowpal_format
from experiments.benchmarks.inputs.feature_rows import FeatureRows, Floats, ModelLine, in_order
from experiments.benchmarks.model_quality.baselines import INPUTS as OFFLINE
from experiments.benchmarks.model_quality.baselines import Matrix
from learning.measures.scores import measures
from learning.models.recipes import EMPTY, RECIPES

AFTER = (100, 500, 2000)
HELD_OUT = 0.3
STRENGTHS = (0.03, 0.1, 1.0)
Row = dict[str, Any]


def curves(talks: Sequence[FeatureRows], seed: int) -> Iterator[Row]:
    """A row for each learner and number of labels: `learner`, `after` (as asked for), `labels` (as
    learned), `auc`, `log_loss`.
    """
    shuffled = in_order(talks, seed + 1)
    cut = round(len(shuffled) * (1 - HELD_OUT))
    train, test = shuffled[:cut], shuffled[cut:]
    stops = _stops(train)
    labels_so_far = np.cumsum([len(talk.labels) for talk in train])
    counts = {name: int(labels_so_far[number]) for number, name in stops.items()}
    test_labels = np.array([y for talk in test for y in talk.labels], np.float64)

    def point(learner: str, labels: str, p: Sequence[float] | Floats) -> Row:
        scores = measures(p, test_labels)
        figures = {"auc": scores.get("auc"), "log_loss": scores["log_loss"]}
        return {"learner": learner, "after": labels, "labels": counts[labels], **figures}

    for recipe in (*RECIPES, EMPTY):
        for labels, p in _online(ModelLine(recipe), train, test, stops):
            yield point(f"Baton {recipe}", labels, p)
    for inputs in vowpal_format.INPUTS:
        lines = [vowpal_format.examples(talk, inputs) for talk in shuffled]
        for setting in vowpal_format.SETTINGS:
            for labels, p in _wabbit(inputs, setting, lines, train, stops):
                yield point(f"VW {setting}, {inputs}", labels, p)
    for inputs in OFFLINE:
        yield from _offline(Matrix(shuffled, inputs), cut, stops, point)


def _stops(train: Sequence[FeatureRows]) -> dict[int, str]:
    """After which conversation to test, and what that is called."""
    labels_so_far = np.cumsum([len(talk.labels) for talk in train])
    stops = {int(np.searchsorted(labels_so_far, n)): str(n) for n in AFTER if n < labels_so_far[-1]}
    return stops | {len(train) - 1: "all"}


def _online(
    line: ModelLine,
    train: Sequence[FeatureRows],
    test: Sequence[FeatureRows],
    stops: dict[int, str],
) -> Iterator[tuple[str, list[float]]]:
    for number, talk in enumerate(train):
        line.learn(talk)
        if number in stops:
            yield stops[number], [line.score(row) for other in test for row in other.rows]


def _wabbit(
    inputs: str,
    setting: str,
    examples: Sequence[Sequence[str]],
    train: Sequence[FeatureRows],
    stops: dict[int, str],
) -> Iterator[tuple[str, list[float]]]:
    learner = vowpal_format.Vowpal(inputs, setting)
    test = [line for lines in examples[len(train) :] for line in lines]
    for number, talk in enumerate(train):
        learner.learn(examples[number], talk.labels)
        if number in stops:
            yield stops[number], learner.score(test)
    learner.end()


def _offline(
    matrix: Matrix, cut: int, stops: dict[int, str], point: Callable[..., Row]
) -> Iterator[Row]:
    test = np.flatnonzero(matrix.talk >= cut)
    for number, labels in stops.items():
        train = np.flatnonzero(matrix.talk <= number)
        for strength in STRENGTHS if matrix.inputs == "features" else (1.0,):
            p = matrix.fitted(train, test, strength)
            yield point(f"offline, {matrix.inputs}, C={strength:g}", labels, p)
