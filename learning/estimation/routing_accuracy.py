"""Routing accuracy: how often routing named the right team, with confidence sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from learning.decision.teams.team_classifier import RoutingScores
from learning.estimation.rate_intervals import NO_RATE, Rate, under_drift

SPAN, SPAN_MIN = 100, 20
"""Lessons in each point of a curve, and in those of a short history."""
POINTS_MAX = 80

METHODS: Mapping[str, str] = {
    "route": "rules, model and default team",
    "model": "the model's first choice",
    "rules": "rules and default team alone",
    "frequent": "always the most frequent team",
}
"""Each way of naming a team that is compared, and what it is called."""


def accuracy(scores: RoutingScores) -> dict[str, Any]:
    """Prequential routing accuracy by method and by team, as plain JSON.

    Of the lessons in which an agent said or moved whose work it was, the share named right; each
    was routed anew just before it was learned. `tested`, for each of METHODS a rate with its
    interval, and the rate of `by_team`, each true team's lessons.
    """
    report: dict[str, Any] = {"tested": scores.tested}
    for method in METHODS:
        report[method] = asdict(_rate(scores.right[method], scores.tested))
    report["by_team"] = {
        team: asdict(_rate(right, among)) for team, (among, right) in sorted(scores.by_team.items())
    }
    return report


def curve(scores: RoutingScores) -> list[list[Any]]:
    """Learning curve: [position, {method: share right of the last SPAN}]."""
    rows = scores.rows()
    count = rows["position"].size
    span = min(SPAN, max(SPAN_MIN, count // 4))
    every = max(SPAN_MIN // 2, -(-count // POINTS_MAX))
    return [
        [
            int(rows["position"][end - 1]),
            {method: float(rows[method][end - span : end].mean()) for method in METHODS},
        ]
        for end in range(span, count + 1, every)
    ]


def _rate(count: int, among: int) -> Rate:
    return under_drift(count, among) if among else NO_RATE
