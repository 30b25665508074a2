"""Measures of one model line with intervals, and the data of its figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.decision_costs import line_levels
from experiments.evaluation.metric_intervals import band, intervals
from experiments.evaluation.windows import RECENT, SPAN_MIN
from learning.decision.teams.team_classifier import RoutingScores
from learning.estimation.decision_loss import ESCALATE, DecisionLoss
from learning.measures.scores import Scores, curve, measures, precision_recall, rates, reliability

POINTS_MAX = 80
PLOT_POINTS_MAX = 200
HISTOGRAM_BINS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EvaluatedLine:
    """A line as it followed the ledger: its role, and its scores from before it learned each.

    `routed` says likewise how often it named the right team.
    """

    role: str
    version: int
    recipe: str
    scores: Scores
    routed: RoutingScores | None = None

    @property
    def name(self) -> str:
        return f"{self.role} (version {self.version}, {self.recipe})"


def line_measures(
    line: EvaluatedLine,
    since: int,
    terms: DecisionLoss,
    openings: Mapping[int, int],
    span: int,
) -> dict[str, Any]:
    """Measures, intervals and curves of a line, as JSON; `since` is the last switch's position."""
    scores = line.scores
    p, y, w = scores.probability, scores.label, scores.weight
    bins = reliability(p, y, w=w)
    every = max(SPAN_MIN // 2, math.ceil(len(p) / POINTS_MAX))
    points = list(curve(scores, span=span, every=every))
    return {
        "role": line.role,
        "version": line.version,
        "recipe": line.recipe,
        "name": line.name,
        "measures": {
            "kept": measures(p, y, w),
            "recent": measures(p[-RECENT:], y[-RECENT:], w[-RECENT:]),
            "since_switch": measures(*(a[scores.position > since] for a in (p, y, w))),
        },
        "intervals": {
            "recent": intervals(_rows(scores, slice(max(0, len(scores) - RECENT), None))),
            "since_switch": intervals(_rows(scores, scores.position > since)),
        },
        "decisions": _decisions(scores, terms, openings),
        "base_rate": float((w * y).sum() / w.sum()) if w.sum() > 0 else None,
        "curve": [[point.position, point.measures] for point in points],
        "bands": [
            [x.position, band(_rows(scores, slice(max(0, x.lessons - span), x.lessons)))]
            for x in points
        ],
        "precision_recall": _precision_recall(scores),
        "roc": _roc(scores),
        "cost": _costs(scores, terms),
        "reliability": _columns(bins.predicted, bins.observed, bins.mass),
        "histogram": np.histogram(p, HISTOGRAM_BINS, (0.0, 1.0))[0].tolist(),
    }


def _rows(scores: Scores, rows: slice | NDArray[np.bool_]) -> Scores:
    return Scores(*(getattr(scores, name)[rows] for name in Scores.__slots__))


def _conversations(scores: Scores) -> tuple[Floats, NDArray[np.bool_]]:
    """Per conversation: its highest probability, and whether it ever needed a person."""
    names, place = np.unique(scores.conversation, return_inverse=True)
    highest, needed = np.zeros(names.size), np.zeros(names.size, bool)
    np.maximum.at(highest, place, scores.probability)
    np.logical_or.at(needed, place, scores.label > 0.5)
    return highest, needed


def _decisions(scores: Scores, terms: DecisionLoss, openings: Mapping[int, int]) -> dict[str, Any]:
    names, place = np.unique(scores.conversation, return_inverse=True)
    by_position = line_levels(scores, openings, terms)
    levels, needed = np.zeros(names.size, np.int64), np.zeros(names.size, bool)
    np.maximum.at(levels, place, [by_position[at] for at in scores.position.tolist()])
    np.logical_or.at(needed, place, scores.label > 0.5)
    decision_rates = rates(levels == ESCALATE, needed, costs=terms.losses(levels, needed))
    return asdict(decision_rates)


def _costs(scores: Scores, terms: DecisionLoss) -> list[list[float]]:
    highest, needed = _conversations(scores)
    if not highest.size:
        return [[], []]
    thresholds = np.linspace(0.0, 1.0, 101)
    up = highest[None, :] >= thresholds[:, None]
    paid = (up & ~needed) * terms.unneeded + (~up & needed) * terms.lost * terms.missed
    return _columns(thresholds, paid.mean(1))


def _precision_recall(scores: Scores) -> list[list[float]]:
    points = precision_recall(scores.probability, scores.label, scores.weight)
    shown = _thinned(points.recall.size)
    return _columns(points.recall[shown], points.precision[shown])


def _roc(scores: Scores) -> list[list[float]]:
    order = np.argsort(-scores.probability, kind="stable")
    p, w = scores.probability[order], scores.weight[order]
    positive = scores.label[order] > 0.5
    last = np.flatnonzero(np.append(p[1:] != p[:-1], True)) if p.size else np.zeros(0, np.intp)
    true_positives, false_positives = (w * positive).cumsum()[last], (w * ~positive).cumsum()[last]
    if not last.size or true_positives[-1] <= 0.0 or false_positives[-1] <= 0.0:
        return [[], []]
    shown = _thinned(last.size)
    ends = [np.append(0.0, rate / rate[-1]) for rate in (false_positives, true_positives)]
    shown = np.append(0, shown + 1)
    return _columns(ends[0][shown], ends[1][shown])


def _thinned(size: int) -> NDArray[np.intp]:
    """At most PLOT_POINTS_MAX places of `size`, evenly, both ends among them."""
    if size <= PLOT_POINTS_MAX:
        return np.arange(size)
    return np.unique(np.linspace(0, size - 1, PLOT_POINTS_MAX).round().astype(np.intp))


def _columns(*columns: Floats) -> list[list[float]]:
    """Arrays as lists of JSON numbers, as exact as a figure can show."""
    return [np.asarray(column, np.float64).round(6).tolist() for column in columns]


def lesson_table(lines: Sequence[EvaluatedLine], most: int = RECENT) -> dict[str, Any]:
    """Columns and rows: ledger position, the lesson's place in its outcome, label, weight, and the
    probability of every line, None where it did not score it. The first line is the yardstick.
    """
    champion, *others = lines
    scored_elsewhere = [dict(_places(line.scores, len(line.scores))) for line in others]
    scores = champion.scores
    rows = []
    for key, (p, label, weight) in _places(scores, most):
        others_said = (line.get(key, [None])[0] for line in scored_elsewhere)
        rows.append([*key, label, weight, p, *others_said])
    columns = ["position", "lesson", "label", "weight", *(line.role for line in lines)]
    return {"columns": columns, "rows": rows}


def _places(scores: Scores, most: int) -> Iterator[tuple[tuple[int, int], list[Any]]]:
    """By position and place in its outcome: probability, label and weight of the newest lessons."""
    last, place = -1, 0
    first = len(scores) - most
    for row, at in enumerate(scores.position.tolist()):
        last, place = at, place + 1 if at == last else 1
        if row >= first:
            values = (scores.probability[row], scores.label[row], scores.weight[row])
            yield (at, place), [round(float(value), 6) for value in values]
