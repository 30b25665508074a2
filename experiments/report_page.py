"""How an evaluation's report is shown: its metrics, curves and description, and its figures.

Everything here reads `Report.body()`, the plain JSON that is kept of an evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from plotly.graph_objects import Figure

from experiments import charts
from learning.accuracy import WAYS

RECENT = 500
"""The newest lessons that `recent` measures speak of."""
SPAN, SPAN_MIN = 200, 50
"""Lessons in each point of a curve, and in those of a short history."""
COLUMNS = ("n", "positives", "auc", "average_precision", "log_loss", "brier", "ece")


def figures_page(report: Mapping[str, Any]) -> str:
    """The HTML of a report's figures (`Report.body()`), one file that needs no network."""
    position, verdict = report["position"], report["verdict"]
    return charts.page(
        f"Evaluation at ledger position {position}: {verdict}", report["sentence"], figures(report)
    )


def figures(report: Mapping[str, Any]) -> dict[str, Figure]:
    """Each figure of a report under the sentence that says how to read it."""
    lines = report["lines"]
    base = lines[0]["base_rate"]
    return {
        f"Each point is the mean over {report['span']} lessons, scored before they were learned. "
        "Falling is learning; a rise after a switch speaks against it.": _over(
            report, "log_loss", base
        ),
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
        "Had there been these two choices only, and the conversations whose outcome is known. The "
        "policy's costs are least at the mark for an honest model: the lowest point should be "
        "near.": charts.cost(
            [charts.Line(x["name"], *x["cost"]) for x in lines], threshold=_cheapest(report)
        ),
    } | _routing(report)


def _routing(report: Mapping[str, Any]) -> dict[str, Figure]:
    """How often the right team was named, where anybody said which it was."""
    found = report.get("routing")
    if not found or not found["curve"]:
        return {}
    lines = [
        charts.Line(called, [at for at, _ in found["curve"]], [y[way] for _, y in found["curve"]])
        for way, called in WAYS.items()
    ]
    said = (
        "Of the conversations whose team an agent named or moved them to, the share that had been "
        "routed there, each before it was learned."
    )
    title = "The right team over the ledger"
    return {said: charts.over_positions(title, "share right", lines, lower_is_better=False)}


def _bins(line: Mapping[str, Any]) -> charts.Bins:
    predicted, observed, mass = line["reliability"]
    return charts.Bins(line["name"], predicted, observed, mass, line["histogram"])


def _over(report: Mapping[str, Any], measure: str, base: float | None) -> Figure:
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


def _cheapest(report: Mapping[str, Any]) -> float:
    """Where escalating begins to cost less than going on, for a calibrated probability."""
    unneeded, missed = report["costs"]["unneeded"], report["costs"]["missed"]
    return float(unneeded / (unneeded + missed))


def _entropy(rate: float) -> float:
    """The log loss, in nats, of always predicting `rate` where it is the truth."""
    return -sum(q * math.log(q) for q in (rate, 1.0 - rate) if q > 0.0)


def metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """The single figures of a report, by their names in MLflow.

    MLflow groups its charts by what stands before the slash, in alphabetical order.
    """
    found: dict[str, float] = {}
    for line in report["lines"]:
        groups = {
            f"{line['role']} - all kept lessons": line["measures"]["kept"],
            f"{line['role']} - newest {RECENT} lessons": line["measures"]["recent"],
            f"{line['role']} - decisions": line["decisions"],
        }
        found |= {
            f"{group}/{name}": value
            for group, values in groups.items()
            for name, value in values.items()
            if value is not None
        }
    routing = report.get("routing") or {}
    for way in WAYS:
        if routing and routing[way]["rate"] is not None:
            for bound in ("rate", "low", "high"):
                found[f"routing - {way}/{bound}"] = routing[way][bound]
    return found


def curves(report: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Measures over ledger positions, by their names in MLflow, which come first of all."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in report["lines"]:
        for position, point in line["curve"]:
            for name in ("log_loss", "auc", "ece", "brier"):
                if name in point:
                    key = f"{line['role']}/{name}"
                    found.setdefault(key, []).append((position, point[name]))
    for position, point in (report.get("routing") or {}).get("curve", ()):
        for way in WAYS:
            found.setdefault(f"routing/{way}", []).append((position, point[way]))
    return found


def description(report: Mapping[str, Any]) -> str:
    """The verdict and a table of the measures in Markdown; MLflow first shows three lines."""
    rows = [
        f"**{report['verdict'].capitalize()}.** {report['sentence']}",
        "",
        f"Measured at ledger position {report['position']}, each lesson before it was learned. "
        "Open **Artifacts, figures.html** for the figures; **report.json** has every number.",
        "",
        "| line | lessons | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for line in report["lines"]:
        for window, said in (("kept", "all that are kept"), ("recent", f"newest {RECENT}")):
            found = line["measures"][window]
            cells = [_shown(found[c]) if c in found else "-" for c in COLUMNS]
            rows.append(f"| {line['name']} | {said} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
