"""Figures page of an evaluation's report, each figure with a caption on how to read it.

Everything here reads `Report.body()`, the plain JSON that is kept of an evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from plotly.graph_objects import Figure

from experiments.evaluation.attribution import WORD_CONVERSATIONS
from experiments.evaluation.figures import charts, comparison_charts, segment_charts
from experiments.evaluation.figures.rate_charts import rates_over_time
from experiments.registry.markdown import sentence
from learning.estimation.routing_accuracy import METHODS


def figures_page(report: Mapping[str, Any]) -> str:
    """The HTML of a report's figures (`Report.body()`), one file that needs no network."""
    position, verdict = report["position"], report["verdict"]
    title = f"Evaluation at ledger position {position}: {verdict}"
    return charts.page(title, sentence(report["sentence"]), figures(report))


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
        **_rates(report),
        **_compared_costs(report),
        "On the diagonal, of the messages given 30 % three in ten needed a person. Above it the "
        "model says too little, below it too much. The bars show how often it said what.": (
            charts.reliability([_bins(line) for line in lines])
        ),
        "Further up and to the right is better: more of those who need a person are found, with "
        "fewer false alarms.": charts.precision_recall(
            [charts.CurveStyle(x["name"], *x["precision_recall"]) for x in lines], base_rate=base
        ),
        "The same trade against false alarms: further up and to the left is better.": charts.roc(
            [charts.CurveStyle(x["name"], *x["roc"]) for x in lines]
        ),
        "Had there been these two choices only, and the conversations whose outcome is known. The "
        "policy's costs are least at the mark for an honest model: the lowest point should be "
        "near.": charts.cost(
            [charts.CurveStyle(x["name"], *x["cost"]) for x in lines], threshold=_cheapest(report)
        ),
        **_drift(report),
        **_influences(report),
        **_segments(report),
        **_mistakes(report),
        **_routing(report),
    }


def _rates(report: Mapping[str, Any]) -> dict[str, Figure]:
    """The rates as each evaluation found them."""
    points = [
        {
            "at": x["at"],
            "automation_rate": _of(x["automation_rate"], x["kept"]),
            "missed": _of(x["missed_rate"], x["kept"]),
            "false_escalation_rate": _of(x["false_escalation_rate"], x["judged"]),
        }
        for x in report.get("trail") or ()
    ]
    if not any(rate and rate["rate"] is not None for x in points for rate in list(x.values())[1:]):
        return {}
    caption = (
        "Around the newest outcomes at each evaluation. What was missed is estimated from audits, "
        "and missing where none is answered. The bands hold however often one looks; answer audits "
        "and judge handoffs to make them narrower."
    )
    return {caption: rates_over_time("Automation, and how honest it is", points, joined=True)}


def _of(rate: Mapping[str, Any] | None, among: int | None) -> dict[str, Any] | None:
    return None if rate is None else {**rate, "among": among or 0}


def _compared_costs(report: Mapping[str, Any]) -> dict[str, Figure]:
    """What each line's and yardstick's decisions would have cost."""
    beside = (report.get("beside") or {}).get("recent") or {}
    rows = {name: x["cost_per_conversation"] for name, x in beside.items()}
    known_costs = {name: cost for name, cost in rows.items() if cost is not None}
    if not known_costs:
        return {}
    caption = (
        "What the decisions of each line would have cost a conversation, and those of two "
        "yardsticks that learn nothing, over the newest outcomes, weighted by how likely each was "
        "to become known. Bars are 95 % intervals for one look; for the rules alone, and lines "
        "that did not serve, they reach from the least to the most that it can have been. The "
        "holdout is of conversations, drawn by lot, in which rules alone decided."
    )
    return {caption: comparison_charts.side_by_side(known_costs)}


def _drift(report: Mapping[str, Any]) -> dict[str, Figure]:
    """The evidence of the detector on the champion's loss, and what was found to have shifted."""
    charts_by_caption: dict[str, Figure] = {}
    points = [x for x in report.get("trail") or () if x["evidence"] is not None]
    if points:
        caption = (
            "Evidence that the champion's own loss has risen above what was usual, at each "
            "evaluation. At the dashed line it gives alarm and opens a challenger; nothing is "
            "reset."
        )
        evidence = [(x["position"], x["evidence"]) for x in points]
        charts_by_caption[caption] = comparison_charts.evidence(evidence, points[-1]["alarm_at"])
    tested = (report.get("drift") or {}).get("tested") or {}
    if shifts := tested.get("shifts"):
        caption = (
            f"What clearly differs between the newest {tested['recent']} closed conversations and "
            f"{tested['reference']} before them."
        )
        charts_by_caption[caption] = comparison_charts.shifts(shifts)
    return charts_by_caption


def _influences(report: Mapping[str, Any]) -> dict[str, Figure]:
    insight = report.get("insight") or {}
    if not (rows := insight.get("moving")):
        return {}
    caption = (
        f"By how much a name alone moves the log odds at its typical value, in the newest "
        f"{insight['conversations']} conversations with an outcome: to the right it speaks for a "
        "person. The whiskers are two standard deviations of what the model believes. Words stand "
        f"behind whose they are (user, bot); one is named only if {WORD_CONVERSATIONS} "
        "conversations used it."
    )
    groups = {
        "what was seen": [row for row in rows if "=" not in row["name"]],
        "words": [row for row in rows if "=" in row["name"]],
    }
    return {caption: comparison_charts.influence_bars(groups)}


def _segments(report: Mapping[str, Any]) -> dict[str, Figure]:
    """The parts of the traffic beside one another."""
    if not report.get("segments"):
        return {}
    caption = (
        "Each part of the newest outcomes by rule, team, language, channel and hour: what the "
        "champion's decisions would have cost a conversation, beside the two yardsticks, with "
        "95 % intervals for one look; and of the handoffs and audits that there really were, the "
        "shares not needed and missed, with intervals that hold at every look. All of it is in "
        "segments.csv."
    )
    return {caption: segment_charts.figure(report)}


def _mistakes(report: Mapping[str, Any]) -> dict[str, Figure]:
    if not (rows := report.get("mistakes")):
        return {}
    caption = (
        "What was decided, ordered by its cost times how sure the champion was of the contrary. "
        "The run's description links to the transcripts in Baton."
    )
    return {caption: comparison_charts.mistakes(rows)}


def _routing(report: Mapping[str, Any]) -> dict[str, Figure]:
    """How often the right team was named, where anybody said which it was."""
    routing = report.get("routing")
    if not routing or not routing["curve"]:
        return {}
    lines = [
        charts.CurveStyle(
            label, [at for at, _ in routing["curve"]], [y[way] for _, y in routing["curve"]]
        )
        for way, label in METHODS.items()
    ]
    caption = (
        "Of the conversations whose team an agent named or moved them to, the share that had been "
        "routed there, each before it was learned."
    )
    title = "The right team over the ledger"
    return {caption: charts.over_positions(title, "share right", lines, lower_is_better=False)}


def _bins(line: Mapping[str, Any]) -> charts.Bins:
    predicted, observed, mass = line["reliability"]
    return charts.Bins(line["name"], predicted, observed, mass, line["histogram"])


def _over(report: Mapping[str, Any], measure: str, base: float | None) -> Figure:
    lines = []
    for line in report["lines"]:
        points = [(at, measures[measure]) for at, measures in line["curve"] if measure in measures]
        lines.append(
            charts.CurveStyle(line["name"], [x for x, _ in points], [y for _, y in points])
        )
    first = min((point[0] for line in report["lines"] for point in line["curve"]), default=0)
    marks = [
        charts.Mark(switch["position"], f"version {switch['version']}", switch["reason"])
        for switch in report["switches"]
        if switch["position"] >= first
    ]
    if measure == "auc":
        figure = charts.over_positions(
            "Ranking (AUC) over the ledger", "AUC", lines, lower_is_better=False, marks=marks
        )
        return _with_interval(figure, report["lines"][0], measure)
    figure = charts.over_positions(
        "Log loss over the ledger",
        "log loss, nats",
        lines,
        lower_is_better=True,
        marks=marks,
        reference=None if base is None else (_entropy(base), "always saying the base rate"),
    )
    return _with_interval(figure, report["lines"][0], measure)


def _with_interval(figure: Figure, line: Mapping[str, Any], measure: str) -> Figure:
    """With the interval of one line's measure behind it."""
    bands = [
        (at, *intervals[measure])
        for at, intervals in line.get("bands") or ()
        if measure in intervals
    ]
    if not bands:
        return figure
    at, low, high = zip(*bands, strict=True)
    return comparison_charts.with_band(
        figure, at, low, high, f"95 % interval of the {line['role']}"
    )


def _cheapest(report: Mapping[str, Any]) -> float:
    """Where escalating begins to cost less than going on, for a calibrated probability."""
    unneeded, missed = report["costs"]["unneeded"], report["costs"]["missed"]
    return float(unneeded / (unneeded + missed))


def _entropy(rate: float) -> float:
    """The log loss, in nats, of always predicting `rate` where it is the truth."""
    return -sum(q * math.log(q) for q in (rate, 1.0 - rate) if q > 0.0)
