"""How often routing named the right team, with intervals that hold at every look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from learning.decision.team_classifier import RoutingScores
from learning.estimation.rate_intervals import NO_RATE, Rate, under_drift

SPAN, SPAN_MIN = 100, 20
"""Lessons in each point of a curve, and in those of a short history."""
POINTS_MAX = 80

WAYS: Mapping[str, str] = {
    "route": "rules, model and default team",
    "model": "the model's first choice",
    "rules": "rules and default team alone",
    "frequent": "always the most frequent team",
}
"""Each way of naming a team that is compared, and what it is called."""


def accuracy(record: RoutingScores) -> dict[str, Any]:
    """Of the lessons in which an agent said or moved whose work it was, the share named right.

    Each was routed anew just before it was learned. Plain JSON: `tested`, for each of WAYS a rate
    with its interval, and the rate of `by_team`, each true team's lessons.
    """
    found: dict[str, Any] = {"tested": record.tested}
    for way in WAYS:
        found[way] = asdict(_rate(record.right[way], record.tested))
    found["by_team"] = {
        team: asdict(_rate(right, among)) for team, (among, right) in sorted(record.by_team.items())
    }
    return found


def curve(record: RoutingScores) -> list[list[Any]]:
    """Shares named right over ledger positions: [position, {way: share of the last SPAN}]."""
    rows = record.rows()
    kept = rows["position"].size
    span = min(SPAN, max(SPAN_MIN, kept // 4))
    every = max(SPAN_MIN // 2, -(-kept // POINTS_MAX))
    return [
        [
            int(rows["position"][end - 1]),
            {way: float(rows[way][end - span : end].mean()) for way in WAYS},
        ]
        for end in range(span, kept + 1, every)
    ]


def _rate(count: int, among: int) -> Rate:
    return under_drift(count, among) if among else NO_RATE
