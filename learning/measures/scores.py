"""Evaluation measures: AUC, average precision, log loss, Brier, ECE, reliability, decision rates.

Every figure that Baton shows, publishes or acts on is computed here, from probabilities and
labels alone. Labels lie in 0..1: log loss, Brier and calibration take soft labels as they are;
measures that need a class count a label above one half as positive. A measure that is undefined
(AUC with one class, anything of nothing) is absent, never NaN and never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learning.measures.f1_threshold import OnlineThreshold
from learning.measures.prequential import CLIP, Scores, Window, pair_scores

__all__ = [
    "OnlineThreshold",
    "Point",
    "PrecisionRecall",
    "Rates",
    "Reliability",
    "Scores",
    "Window",
    "curve",
    "handoff_match",
    "jensen_shannon",
    "log_losses",
    "measures",
    "pair_scores",
    "precision_recall",
    "rates",
    "reliability",
]

Floats = NDArray[np.float64]
BINS = 15


def measures(p: ArrayLike, y: ArrayLike, w: ArrayLike | None = None) -> dict[str, float]:
    """Every measure of probabilities `p` against labels `y` (both shape (n,), in 0..1).

    `w` are weights, not negative; rows of weight 0 are left out. Always there: `n` and
    `positives` (rows, unweighted). With any row: `log_loss` (nats, p clipped at 1e-15), `brier`,
    `ece` (15 bins of equal mass). With both classes: `auc`; with a positive: `average_precision`.
    AUC and average precision are exact, ties included (those of scikit-learn).

    ValueError names the array that is not finite, out of range or of another length.
    """
    p, y, w = _validate(p, y, w)
    values: dict[str, float] = {"n": int(p.size), "positives": int((y > 0.5).sum())}
    if p.size == 0:
        return values
    total = float(w.sum())
    values["log_loss"] = float((w * log_losses(p, y)).sum()) / total
    values["brier"] = float((w * (p - y) ** 2).sum()) / total
    bins = reliability(p, y, w=w)
    gaps = np.abs(bins.observed - bins.predicted)
    values["ece"] = float((bins.mass * gaps).sum()) / total
    hits, alarms = _rank(p, y, w)[1:]
    if values["positives"]:
        steps = np.diff(hits, prepend=0.0)
        values["average_precision"] = float((steps * hits / (hits + alarms)).sum()) / float(
            hits[-1]
        )
    if 0 < values["positives"] < p.size:
        widths = np.diff(alarms, prepend=0.0)
        heights = (hits + np.append(0.0, hits[:-1])) / 2.0
        values["auc"] = float((widths * heights).sum()) / (float(hits[-1]) * float(alarms[-1]))
    return values


def log_losses(p: ArrayLike, y: ArrayLike) -> Floats:
    """Log loss of each row in nats, p clipped at 1e-15; labels may be soft."""
    p = np.clip(np.asarray(p, np.float64), CLIP, 1.0 - CLIP)
    y = np.asarray(y, np.float64)
    return np.asarray(-(y * np.log(p) + (1.0 - y) * np.log1p(-p)), np.float64)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Reliability diagram: per bin, lowest first, the mean prediction, mean label and mass."""

    predicted: Floats
    observed: Floats
    mass: Floats


def reliability(
    p: ArrayLike, y: ArrayLike, bins: int = BINS, w: ArrayLike | None = None
) -> Reliability:
    """Predicted against observed in at most `bins` bins of equal mass; empty bins are left out.

    Rows that share a probability share their mean label first, so the figure does not depend on
    the order of the rows even where a bin's edge falls among equals.
    """
    p, y, w = _validate(p, y, w)
    values, group = np.unique(p, return_inverse=True)
    mass = np.bincount(group, w, values.size)
    shared = np.bincount(group, w * y, values.size) / mass if values.size else mass
    order = np.argsort(p, kind="stable")
    weight = w[order]
    middle = weight.cumsum() - weight / 2.0
    place = np.minimum((middle / max(weight.sum(), CLIP) * bins).astype(np.int64), bins - 1)
    full = np.asarray(np.bincount(place, weight, bins), np.float64)
    predicted = np.bincount(place, weight * p[order], bins)
    observed = np.bincount(place, weight * shared[group[order]], bins)
    occupied = full > 0.0
    return Reliability(
        predicted[occupied] / full[occupied], observed[occupied] / full[occupied], full[occupied]
    )


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision-recall curve: at each distinct threshold, highest first, deciding p >= it."""

    threshold: Floats
    precision: Floats
    recall: Floats


def precision_recall(p: ArrayLike, y: ArrayLike, w: ArrayLike | None = None) -> PrecisionRecall:
    """Precision and recall at every distinct probability; all empty where nothing is positive."""
    p, y, w = _validate(p, y, w)
    threshold, hits, alarms = _rank(p, y, w)
    if not threshold.size or hits[-1] <= 0.0:
        empty = np.zeros(0)
        return PrecisionRecall(empty, empty, empty)
    return PrecisionRecall(threshold, hits / (hits + alarms), hits / hits[-1])


def jensen_shannon(a: ArrayLike, b: ArrayLike, base: float = 2.0) -> float:
    """Jensen-Shannon divergence of distributions along the last axis, the mean over the others.

    In bits unless another `base` is given: 0 for equal, 1 for disjoint distributions. Rows are
    normalised; ValueError for a negative, empty or all-zero row.
    """
    rows = [np.atleast_1d(np.asarray(x, np.float64)) for x in (a, b)]
    if rows[0].shape != rows[1].shape or rows[0].size == 0:
        raise ValueError(f"distributions differ in shape: {rows[0].shape} and {rows[1].shape}")
    for row in rows:
        if not (np.isfinite(row).all() and (row >= 0.0).all() and (row.sum(-1) > 0.0).all()):
            raise ValueError("a distribution needs shares that are finite, not negative, not all 0")
    left, right = (row / row.sum(-1, keepdims=True) for row in rows)
    middle = (left + right) / 2.0
    divergence = (_relative_entropy(left, middle) + _relative_entropy(right, middle)) / 2.0
    return max(0.0, float(divergence.mean()) / math.log(base))


@dataclass(frozen=True, slots=True)
class Rates:
    """Error rates and mean cost of decisions, one per conversation; a rate of nothing is None."""

    conversations: int
    escalated: int
    needed: int
    false_escalation_rate: float | None
    missed_rate: float | None
    automation_rate: float | None
    cost_per_conversation: float | None


def rates(escalated: ArrayLike, needed: ArrayLike, *, costs: ArrayLike) -> Rates:
    """Rates and mean of the `costs` of decisions whose truth is known for every conversation.

    False escalations are a share of those escalated, misses a share of those kept. Where the truth
    is known only for audited ones, use `estimates`.
    """
    up = np.asarray(escalated, bool)
    true = np.asarray(needed, bool)
    if up.shape != true.shape or up.ndim != 1:
        raise ValueError(f"escalated and needed differ in shape: {up.shape} and {true.shape}")
    n, handed = int(up.size), int(up.sum())
    unneeded, missed = int((up & ~true).sum()), int((~up & true).sum())
    return Rates(
        conversations=n,
        escalated=handed,
        needed=int(true.sum()),
        false_escalation_rate=unneeded / handed if handed else None,
        missed_rate=missed / (n - handed) if n > handed else None,
        automation_rate=(n - handed) / n if n else None,
        cost_per_conversation=float(np.asarray(costs, np.float64).mean()) if n else None,
    )


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a learning curve: the measures of the lessons up to a ledger position."""

    position: int
    lessons: int
    measures: dict[str, float]


def curve(scores: Scores, *, span: int = 500, every: int | None = None) -> Iterator[Point]:
    """Learning curve: rolling measures of the newest `span` lessons, one point `every` so many.

    Spans do not overlap unless `every` is smaller; the last point always stands at the end, so
    a short history has one point of what there is. ValueError for a span or step below 1.
    """
    every = span if every is None else every
    if span < 1 or every < 1:
        raise ValueError("span and every must be at least one lesson")
    ends = list(range(min(span, len(scores)), len(scores) + 1, every)) if len(scores) else []
    if ends and ends[-1] != len(scores):
        ends.append(len(scores))
    for end in ends:
        rows = slice(max(0, end - span), end)
        values = measures(scores.probability[rows], scores.label[rows], scores.weight[rows])
        yield Point(int(scores.position[end - 1]), end, values)


def handoff_match(
    gold: Sequence[int], predicted: Sequence[int], tolerance: int, lam: float = 0.0
) -> float:
    """Golden transfer within tolerance (GT-T) of one dialogue: closeness of handoff points, 0 to 1.

    Positions are utterance numbers, `tolerance` is T, `lam` in [-1, 1] forgives early (below 0
    late) points. Liu et al., AAAI 2021; the formula is the one quoted in data/README.md.
    """
    if not gold and not predicted:
        return 1.0
    if not gold or not predicted:
        return 0.0
    nearest = [max(_closeness(p - q, tolerance, lam) for q in gold) for p in predicted]
    return math.fsum(nearest) / len(nearest)


def _closeness(late: int, tolerance: int, lam: float) -> float:
    if late == 0:
        return 1.0
    room = (1.0 - lam * math.copysign(1.0, late)) * 2.0 * (tolerance + 1e-7) ** 2
    return math.exp(-(late * late) / room) if room > 0.0 else 0.0


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0.0)
    return np.asarray((p * np.log(ratio)).sum(-1), np.float64)


def _rank(p: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Distinct probabilities, highest first; positive and negative weight from each one up."""
    order = np.argsort(-p, kind="stable")
    p, w, positive = p[order], w[order], y[order] > 0.5
    last = np.flatnonzero(np.append(p[1:] != p[:-1], True)) if p.size else np.zeros(0, np.intp)
    return p[last], (w * positive).cumsum()[last], (w * ~positive).cumsum()[last]


def _validate(p: ArrayLike, y: ArrayLike, w: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    p, y = np.asarray(p, np.float64), np.asarray(y, np.float64)
    w = np.ones(p.shape) if w is None else np.asarray(w, np.float64)
    for name, array in (("p", p), ("y", y), ("w", w)):
        if array.ndim != 1 or array.shape != p.shape:
            raise ValueError(f"{name} has shape {array.shape}; p, y and w must be equally long")
        if not (np.isfinite(array).all() and (array >= 0.0).all()):
            raise ValueError(f"{name} must be finite and not negative")
        if name != "w" and (array > 1.0).any():
            raise ValueError(f"{name} must lie in 0..1")
    weighted = w > 0.0
    return (p, y, w) if weighted.all() else (p[weighted], y[weighted], w[weighted])
