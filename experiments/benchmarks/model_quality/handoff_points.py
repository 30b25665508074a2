"""Handoff-point detection (F1, AUC, GT-T) in dialogues with every utterance annotated.

The learner goes through one file and then, test-then-learn, through another. The threshold is the
one that served F1 best on the labels of earlier dialogues. GT-T says how near the chosen points
lie to the annotated ones; a blind rule that always names the same place does well by it, so
it stands beside, and F1 and AUC with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.inputs.feature_rows import FeatureRows, Floats, ModelLine
from experiments.benchmarks.model_quality.baselines import Matrix
from learning.measures.scores import OnlineThreshold, handoff_match, measures
from learning.models.recipes import DEFAULT

TOLERANCES = (1, 2, 3)
BLIND = 4
"""The place of the utterance, counted from 0, that the blind rule names: the best of all."""


def handoffs(
    before: Sequence[FeatureRows], tested: Sequence[FeatureRows], recipe: str = DEFAULT
) -> dict[str, Any]:
    """F1, AUC, AP and GT on the tested dialogues after learning those before."""
    line, threshold = ModelLine(recipe), OnlineThreshold()
    decided: list[tuple[FeatureRows, list[float], list[bool]]] = []
    for talk in (*before, *tested):
        scores = [line.score(row) for row in talk.rows]
        decided.append((talk, scores, [threshold.decides(p) for p in scores]))
        line.learn(talk)
        for p, label in zip(scores, talk.labels, strict=True):
            threshold.learn(p, label)
    return figures(decided[len(before) :])


def blind(tested: Sequence[FeatureRows]) -> dict[str, Any]:
    """Always the same place, whatever was said."""
    picked = [[float(place == BLIND) for place in talk.places] for talk in tested]
    return figures([(t, p, [x > 0 for x in p]) for t, p in zip(tested, picked, strict=True)])


def offline(
    before: Sequence[FeatureRows], tested: Sequence[FeatureRows], inputs: str
) -> dict[str, Any]:
    """Logistic regression fitted on the dialogues before, its threshold the best one there."""
    matrix = Matrix([*before, *tested], inputs)
    train = np.flatnonzero(matrix.talk < len(before))
    test = np.flatnonzero(matrix.talk >= len(before))
    threshold = OnlineThreshold()
    half = len(before) // 2
    first, second = train[matrix.talk[train] < half], train[matrix.talk[train] >= half]
    for p, y in zip(matrix.fitted(first, second), matrix.label[second], strict=True):
        threshold.learn(float(p), float(y))
    scores = matrix.fitted(train, test)
    parts = _split(scores, tested)
    return figures(
        [(t, p, [threshold.decides(x) for x in p]) for t, p in zip(tested, parts, strict=True)]
    )


def _split(scores: Floats, talks: Sequence[FeatureRows]) -> list[list[float]]:
    ends = np.cumsum([len(talk.labels) for talk in talks])[:-1]
    return [[float(x) for x in part] for part in np.split(scores, ends)]


def figures(decided: Sequence[tuple[FeatureRows, list[float], list[bool]]]) -> dict[str, Any]:
    p = np.array([x for _, scores, _ in decided for x in scores])
    y = np.array([x for talk, _, _ in decided for x in talk.labels])
    escalated = np.array([x for _, _, chosen in decided for x in chosen], bool)
    true_positives = int((escalated & (y > 0.5)).sum())
    scored = measures(p, y)
    gt = {t: float(np.mean([_match(*case, t) for case in decided])) for t in TOLERANCES}
    return {
        "f1": 2 * true_positives / max(int(escalated.sum() + (y > 0.5).sum()), 1),
        "auc": scored["auc"],
        "ap": scored["average_precision"],
        **{f"gt_{t}": value for t, value in gt.items()},
    }


def _match(
    talk: FeatureRows, _: Sequence[float], escalated: Sequence[bool], tolerance: int
) -> float:
    gold = [place for place, y in zip(talk.places, talk.labels, strict=True) if y > 0.5]
    predicted = [place for place, yes in zip(talk.places, escalated, strict=True) if yes]
    return handoff_match(gold, predicted, tolerance)
