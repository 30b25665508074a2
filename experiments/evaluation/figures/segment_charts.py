"""Champion by segment (rule, team, language, channel, hour): a table and a CSV.

Everything here reads `Report.body()`, the plain JSON that is kept of an evaluation.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plotly.graph_objects import Figure

from experiments.evaluation.decision_costs import ALWAYS_CONTINUE, RULES_ONLY
from experiments.evaluation.figures.comparison_charts import table

FILE = "segments.csv"

KINDS = ("rule", "team", "language", "channel")

Interval = Sequence[float | None] | None

SHOWN = {
    "cost": "its decisions cost",
    "rules only cost": "rules only",
    "always continue cost": "always continue",
    "escalated": "escalated",
    "false_escalation_rate": "not needed, judged",
    "missed_of_audited": "missed, audited",
}
"""Columns of the table by the figure that they show."""


def _figures(segment: Mapping[str, Any]) -> dict[str, Interval]:
    """The measures of a part, each with the ends of its interval, None where it is not known."""
    decided, yardsticks = segment["made"], segment["yardsticks"]
    figures: dict[str, Interval] = {"cost": segment["cost_per_conversation"]}
    figures |= {f"{name} cost": yardsticks[name] for name in (RULES_ONLY, ALWAYS_CONTINUE)}
    for name in ("escalated", "missed_of_kept", "unneeded_of_escalated", "needed", "log_loss"):
        figures[name] = segment[name]
    for name in ("false_escalation_rate", "missed_of_audited"):
        figures[name] = [decided[name][bound] for bound in ("rate", "low", "high")]
    return figures


def _segments(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The parts by kind, the hours last; of a kind the largest first."""
    segments = report["segments"]
    return {name: segments[name] for name in sorted(segments, key=_kind)}


def _kind(name: str) -> int:
    kind = name.split(maxsplit=1)[0]
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def rows(report: Mapping[str, Any]) -> Iterator[dict[str, str | float | None]]:
    """One for each part: its name, its counts, and each measure with `low` and `high`."""
    for name, segment in _segments(report).items():
        counts = {count: segment["made"][count] for count in ("audited", "caught", "unknowable")}
        row = {"part": name, "conversations": segment["conversations"], **counts}
        for measure, interval in _figures(segment).items():
            ends = (measure, f"{measure} low", f"{measure} high")
            row |= dict(zip(ends, interval or (None,) * 3, strict=True))
        yield row


def files(report: Mapping[str, Any]) -> dict[str, str]:
    """The CSV, which MLflow shows as a table; none where there is nothing in it."""
    table_rows = list(rows(report))
    if not table_rows:
        return {}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table_rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows)
    return {FILE: text.getvalue()}


def figure(report: Mapping[str, Any]) -> Figure:
    """The table, in which each measure has its interval under it."""
    segments = _segments(report)
    columns: dict[str, list[object]] = {
        "part": list(segments),
        "outcomes": [segment["conversations"] for segment in segments.values()],
    }
    for measure, heading in SHOWN.items():
        form = ".2f" if measure.endswith("cost") else ".1%"
        columns[heading] = [
            _cell(_figures(segment)[measure], form) for segment in segments.values()
        ]
    widths = [24, 13, *[20] * len(SHOWN)]
    return table("The champion by part of the traffic", columns, widths, lines=2)


def _cell(interval: Interval, form: str) -> str:
    if interval is None or interval[0] is None:
        return "not known"
    middle, low, high = (format(max(x or 0.0, 0.0), form) for x in interval)
    return f"{middle}<br>{low} to {high}"
