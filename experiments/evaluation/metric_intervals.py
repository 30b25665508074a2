"""Confidence intervals of log loss and AUC at each point, and bootstrap intervals, for one look.

Cheap enough for every point of every line; `intervals` draws again for the figures that matter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from learning.estimation.rate_intervals import Z_95
from learning.measures.scores import Scores, log_losses, measures

LEAST = 20
"""Fewer conversations say nothing about their own spread."""


def band(scores: Scores) -> dict[str, list[float]]:
    """The 95 % intervals of these lessons' measures, as low and high; without those not known.

    Conversations are independent, lessons of one are not. The log loss is a ratio of their sums,
    whose error is linearised (Cochran 1977, chapter 6). The AUC's error is Hanley and McNeil's
    (1982), with conversations in place of lessons.
    """
    names, place = np.unique(scores.conversation, return_inverse=True)
    total_weight = float(scores.weight.sum())
    if names.size < LEAST or total_weight <= 0.0:
        return {}
    losses = log_losses(scores.probability, scores.label)
    mean = float((scores.weight * losses).sum()) / total_weight
    residuals = np.bincount(place, scores.weight * (losses - mean))
    error = math.sqrt(float((residuals**2).sum())) / total_weight
    bands = {"log_loss": _around(mean, error)}
    auc = measures(scores.probability, scores.label, scores.weight).get("auc")
    has_weight = scores.weight > 0
    positive = np.unique(scores.conversation[has_weight & (scores.label > 0.5)]).size
    negative = np.unique(scores.conversation[has_weight & (scores.label <= 0.5)]).size
    if auc is not None and positive and negative:
        low, high = _around(auc, _auc_error(auc, positive, negative))
        bands["auc"] = [max(0.0, low), min(1.0, high)]
    return bands


def _auc_error(auc: float, positive: int, negative: int) -> float:
    two_positives, two_negatives = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    variance = (
        auc * (1.0 - auc)
        + (positive - 1) * (two_positives - auc**2)
        + (negative - 1) * (two_negatives - auc**2)
    ) / (positive * negative)
    return math.sqrt(max(0.0, variance))


def _around(middle: float, error: float) -> list[float]:
    return [round(middle - Z_95 * error, 6), round(middle + Z_95 * error, 6)]


DRAWS = 100
SHOWN = ("auc", "average_precision", "log_loss", "brier", "ece")


def intervals(scores: Scores, draws: int = DRAWS) -> dict[str, list[float]]:
    """The middle 95 % of each measure over so many draws of as many conversations, for one look.

    ECE is pushed up by every redraw, so its interval is read with care.
    """
    _, first, place = np.unique(scores.conversation, return_index=True, return_inverse=True)
    if first.size < LEAST:
        return {}
    rows = np.argsort(place, kind="stable")
    sizes = np.bincount(place)
    starts = np.cumsum(sizes) - sizes
    random = np.random.Generator(np.random.PCG64(7))
    values_by_measure: dict[str, list[float]] = {name: [] for name in SHOWN}
    for _ in range(draws):
        resample = random.integers(0, first.size, first.size)
        lessons = np.concatenate([rows[starts[n] : starts[n] + sizes[n]] for n in resample])
        resampled = measures(
            scores.probability[lessons], scores.label[lessons], scores.weight[lessons]
        )
        for name in SHOWN:
            if name in resampled:
                values_by_measure[name].append(resampled[name])
    return {
        name: [round(float(x), 6) for x in np.quantile(values, (0.025, 0.975))]
        for name, values in values_by_measure.items()
        if len(values) >= draws / 2
    }


def noise_floor(p: ArrayLike, w: ArrayLike | None = None, draws: int = 10) -> float:
    """The ECE that a perfectly calibrated model with these probabilities shows by chance, the mean
    over some draws; 0 where there are none.
    """
    said = np.asarray(p, np.float64)
    random = np.random.Generator(np.random.PCG64(5))
    found = [
        measures(said, random.random(said.size) < said, w).get("ece", 0.0) for _ in range(draws)
    ]
    return float(np.mean(found))
