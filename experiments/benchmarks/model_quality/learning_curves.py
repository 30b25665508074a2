"""How much is known after so many labels: each learner on the same conversations, held out alike.

The last three of ten conversations, in an order shuffled by the seed, are never learned; the others
are learned one after another. After about 100, 500 and 2000 labels (whole conversations) and after
all of them every learner is tested on what was held out. The online ones saw each label once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.inputs import vowpal_format
from experiments.benchmarks.inputs.feature_rows import FeatureRows, Floats, ModelLine, ordered
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
    mixed = ordered(talks, seed + 1)
    cut = round(len(mixed) * (1 - HELD_OUT))
    learned, held = mixed[:cut], mixed[cut:]
    stops = _stops(learned)
    reached = np.cumsum([len(talk.labels) for talk in learned])
    counts = {name: int(reached[number]) for number, name in stops.items()}
    truth = np.array([y for talk in held for y in talk.labels], np.float64)

    def said(learner: str, labels: str, p: Sequence[float] | Floats) -> Row:
        found = measures(p, truth)
        figures = {"auc": found.get("auc"), "log_loss": found["log_loss"]}
        return {"learner": learner, "after": labels, "labels": counts[labels], **figures}

    for recipe in (*RECIPES, EMPTY):
        for labels, p in _online(ModelLine(recipe), learned, held, stops):
            yield said(f"Baton {recipe}", labels, p)
    for given in vowpal_format.INPUTS:
        made = [vowpal_format.examples(talk, given) for talk in mixed]
        for setting in vowpal_format.SETTINGS:
            for labels, p in _wabbit(given, setting, made, learned, stops):
                yield said(f"VW {setting}, {given}", labels, p)
    for given in OFFLINE:
        yield from _offline(Matrix(mixed, given), cut, stops, said)


def _stops(learned: Sequence[FeatureRows]) -> dict[int, str]:
    """After which conversation to test, and what that is called."""
    reached = np.cumsum([len(talk.labels) for talk in learned])
    found = {int(np.searchsorted(reached, n)): str(n) for n in AFTER if n < reached[-1]}
    return found | {len(learned) - 1: "all"}


def _online(
    line: ModelLine,
    learned: Sequence[FeatureRows],
    held: Sequence[FeatureRows],
    stops: dict[int, str],
) -> Iterator[tuple[str, list[float]]]:
    for number, talk in enumerate(learned):
        line.learn(talk)
        if number in stops:
            yield stops[number], [line.score(row) for one in held for row in one.rows]


def _wabbit(
    given: str,
    setting: str,
    made: Sequence[Sequence[str]],
    learned: Sequence[FeatureRows],
    stops: dict[int, str],
) -> Iterator[tuple[str, list[float]]]:
    one = vowpal_format.Vowpal(given, setting)
    held = [line for lines in made[len(learned) :] for line in lines]
    for number, talk in enumerate(learned):
        one.learn(made[number], talk.labels)
        if number in stops:
            yield stops[number], one.score(held)
    one.end()


def _offline(
    matrix: Matrix, cut: int, stops: dict[int, str], said: Callable[..., Row]
) -> Iterator[Row]:
    tested = np.flatnonzero(matrix.talk >= cut)
    for number, labels in stops.items():
        learned = np.flatnonzero(matrix.talk <= number)
        for strength in STRENGTHS if matrix.given == "features" else (1.0,):
            p = matrix.fitted(learned, tested, strength)
            yield said(f"offline, {matrix.given}, C={strength:g}", labels, p)
