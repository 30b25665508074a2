"""The figures of an evaluation's report, as one page: what MLflow shows of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from experiments import charts


def figures_page(report: Mapping[str, Any]) -> str:
    """The HTML of a report's figures (`Report.body()`), one file that needs no network."""
    position, verdict = report["position"], report["verdict"]
    return charts.page(
        f"Evaluation at ledger position {position}: {verdict}", report["sentence"], figures(report)
    )


def figures(report: Mapping[str, Any]) -> dict[str, go.Figure]:
    """Each figure of a report under the sentence that says how to read it."""
    lines = report["lines"]
    base = lines[0]["base_rate"]
    return {
        "Each point is the mean over 200 lessons, scored before they were learned. Falling is "
        "learning; a rise after a switch speaks against it.": _over(report, "log_loss", base),
        "How well those who need a person are told from the rest: 0.5 is chance, 1 is perfect. "
        "Missing where a span of lessons has one kind only.": _over(report, "auc", None),
        "On the diagonal, of the messages given 30 % three in ten needed a person. Above it the "
        "model says too little, below it too much. The bars show how often it said what.": (
            charts.reliability([_bins(line) for line in lines])
        ),
        "Further up and to the right is better: more of those who need a person are found, with "
        "fewer false alarms.": charts.precision_recall(
            [charts.Line(x["name"], *x["precision_recall"]) for x in lines], base_rate=base
        ),
        "The same trade against false alarms: further up and to the left is better.": charts.roc(
            [charts.Line(x["name"], *x["roc"]) for x in lines]
        ),
        "By the model alone, over the conversations whose outcome is known. The policy's "
        "threshold should stand near the lowest point.": charts.cost(
            [charts.Line(x["name"], *x["cost"]) for x in lines],
            threshold=report["costs"]["threshold"],
        ),
    }


def _bins(line: Mapping[str, Any]) -> charts.Bins:
    predicted, observed, mass = line["reliability"]
    return charts.Bins(line["name"], predicted, observed, mass, line["histogram"])


def _over(report: Mapping[str, Any], measure: str, base: float | None) -> go.Figure:
    lines = []
    for line in report["lines"]:
        points = [(at, found[measure]) for at, found in line["curve"] if measure in found]
        lines.append(charts.Line(line["name"], [x for x, _ in points], [y for _, y in points]))
    first = min((point[0] for line in report["lines"] for point in line["curve"]), default=0)
    marks = [
        charts.Mark(switch["position"], f"version {switch['version']}", switch["reason"])
        for switch in report["switches"]
        if switch["position"] >= first
    ]
    if measure == "auc":
        return charts.over_positions(
            "Ranking (AUC) over the ledger", "AUC", lines, lower_is_better=False, marks=marks
        )
    return charts.over_positions(
        "Log loss over the ledger",
        "log loss, nats",
        lines,
        lower_is_better=True,
        marks=marks,
        reference=None if base is None else (_entropy(base), "always saying the base rate"),
    )


def _entropy(rate: float) -> float:
    """The log loss, in nats, of always predicting `rate` where it is the truth."""
    return -sum(q * math.log(q) for q in (rate, 1.0 - rate) if q > 0.0)
