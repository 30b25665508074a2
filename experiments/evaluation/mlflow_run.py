"""MLflow run of an evaluation: metrics, curves, description, and a nested run for each line.

`publish` makes one run of a kept report, whenever MLflow answers, once. Everything here reads
`Report.body()`, the plain JSON that is kept of an evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from experiments.evaluation.evaluation_report import Report
from experiments.evaluation.figures import figures_page, segment_charts
from experiments.evaluation.windows import RECENT
from experiments.registry.markdown import plain, sentence, table
from experiments.registry.registered_versions import Registry
from experiments.registry.run_record import NestedRun, RunDataset
from learning.estimation.routing_accuracy import METHODS

COLUMNS = ("n", "positives", "auc", "average_precision", "log_loss", "brier", "ece")
CURVES = ("log_loss", "auc", "ece", "brier")
MISTAKES_TOLD = 10
BESIDE = {
    "cost_per_conversation": "cost",
    "escalated": "escalated",
    "missed_of_kept": "missed_of_kept",
    "unneeded_of_escalated": "unneeded_of_escalated",
    "more_than_champion": "cost_more_than_champion",
}
"""What a line's decisions would have come to, by its name in MLflow."""

Points = dict[str, list[tuple[int, float]]]


def metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """The single figures of a report, by their names in MLflow.

    MLflow groups its charts by what stands before the slash, in alphabetical order.
    """
    values: dict[str, float] = {}
    for line in report["lines"][:1]:
        for window, label in (("kept", "all kept lessons"), ("recent", f"newest {RECENT} lessons")):
            for name, value in _measures(line, window):
                values[f"{line['role']} - {label}/{name}"] = value
        for name, value in line["decisions"].items():
            if value is not None:
                values[f"{line['role']} - decisions/{name}"] = value
    for window, rates in (report.get("rates") or {}).items():
        if isinstance(rates, Mapping) and "missed_rate" in rates:
            values |= dict(_rates(rates, "recent" if window == "recent" else "since promotion"))
    routing = report.get("routing") or {}
    for way in METHODS:
        if routing and routing[way]["rate"] is not None:
            for bound in ("rate", "low", "high"):
                values[f"routing - {way}/{bound}"] = routing[way][bound]
    return values


def _rates(rates: Mapping[str, Any], window: str) -> Iterator[tuple[str, float]]:
    for name, value in rates.items():
        if isinstance(value, Mapping):
            for bound in ("rate", "low", "high"):
                if value.get(bound) is not None:
                    yield f"rates - {window}/{name} {bound}", value[bound]
        elif value is not None:
            yield f"rates - {window}/{name}", value


def curves(report: Mapping[str, Any]) -> Points:
    """Measures over ledger positions, by their names in MLflow: the champion's, which come first,
    and of the whole over evaluations. Other lines have runs of their own.
    """
    champion = report["lines"][0]
    points_by_name = {
        f"{champion['role']}/{name}": own_points for name, own_points in _curves(champion).items()
    }
    for point in report.get("trail") or ():
        for name in ("missed_rate", "false_escalation_rate", "automation_rate"):
            for bound, value in (point[name] or {}).items():
                if value is not None:
                    key = f"over time/{name} {bound}"
                    points_by_name.setdefault(key, []).append((point["position"], value))
    for position, point in (report.get("routing") or {}).get("curve", ()):
        for way in METHODS:
            points_by_name.setdefault(f"routing/{way}", []).append((position, point[way]))
    return points_by_name


def _curves(line: Mapping[str, Any]) -> Points:
    points_by_name: Points = {}
    for position, point in line["curve"]:
        for name in CURVES:
            if name in point:
                points_by_name.setdefault(name, []).append((position, point[name]))
    return points_by_name


def nested(report: Mapping[str, Any]) -> list[NestedRun]:
    """A run for each line and each yardstick, by the same names of measures."""
    beside = (report.get("beside") or {}).get("recent") or {}
    runs = []
    for line in report["lines"]:
        figures = dict(_measures(line, "recent")) | dict(
            _decision_figures(beside.get(line["role"]))
        )
        for name, (low, high) in (line.get("intervals") or {}).get("recent", {}).items():
            figures |= {f"{name} low": low, f"{name} high": high}
        curves = _curves(line)  # the last point of a curve is its figure, so these names are theirs
        figures = {name: value for name, value in figures.items() if name not in curves}
        params = {"version": str(line["version"]), "recipe": line["recipe"]}
        tags = {"baton.role": line["role"], "baton.version": str(line["version"])}
        runs.append(NestedRun(line["role"], figures, curves, params, tags))
    roles = {line["role"] for line in report["lines"]}
    for name, row in beside.items():
        if name not in roles:
            note = _HELD_OUT if row.get("source") == "holdout" else _YARDSTICK
            tags = {"baton.role": name, "mlflow.note.content": note}
            if "source" in row:
                tags["baton.source"] = row["source"]
            runs.append(NestedRun(name, dict(_decision_figures(row)), tags=tags))
    return runs


_YARDSTICK = (
    "A fixed yardstick: what its decisions would have come to. It learns nothing. What rules alone "
    "would have done after a handoff of the model nobody knows: their figures of cost are bounds."
)

_HELD_OUT = (
    "What rules alone came to in the conversations, drawn by lot, in which they alone decided "
    "(policy.holdout), beside what the model's decisions would have cost in the same. No bounds."
)


def _measures(line: Mapping[str, Any], window: str) -> Iterator[tuple[str, float]]:
    return ((name, x) for name, x in line["measures"][window].items() if x is not None)


def _decision_figures(row: Mapping[str, Any] | None) -> Iterator[tuple[str, float]]:
    for name, label in BESIDE.items():
        if row and row[name] is not None:
            yield from zip((label, f"{label} low", f"{label} high"), row[name], strict=True)


def data(report: Mapping[str, Any]) -> RunDataset | None:
    """The evaluated lessons as a dataset; None without any."""
    lessons = report.get("data") or {}
    if not lessons.get("rows"):
        return None
    first, last = (lessons["rows"][place][0] for place in (0, -1))
    name = f"lessons at positions {first:.0f} to {last:.0f}"
    return RunDataset(name, lessons["columns"], lessons["rows"])


def description(report: Mapping[str, Any], transcripts: str = "") -> str:
    """The verdict, a table of the measures and the most expensive mistakes, in Markdown.

    MLflow first shows three lines. `transcripts` is the address under which a conversation is
    found in Baton.
    """
    rows = [
        f"**{report['verdict'].capitalize()}.** {sentence(report['sentence'])}",
        "",
        *_alarms(report),
        f"Measured at ledger position {report['position']}, each lesson before it was learned. "
        "Open **Artifacts, figures.html** for the figures; **report.json** has every number.",
        "",
    ]
    cells_ = []
    for line in report["lines"]:
        for window, label in (("kept", "all that are kept"), ("recent", f"newest {RECENT}")):
            measures = line["measures"][window]
            cells = [_shown(measures[c]) if c in measures else "-" for c in COLUMNS]
            cells_.append([plain(line["name"]), label, *cells])
    rows.append(table(("line", "lessons", *COLUMNS), cells_))
    return "\n".join(rows + _mistakes(report, transcripts))


def _alarms(report: Mapping[str, Any]) -> list[str]:
    """What the alarms of this evaluation say."""
    alarms = (report.get("drift") or {}).get("alarms", ())
    sentences = [
        sentence(alarm["sentence"]) for alarm in alarms if alarm["position"] == report["position"]
    ]
    return ["**Alarm.** " + " ".join(sentences), ""] if sentences else []


def _mistakes(report: Mapping[str, Any], transcripts: str) -> list[str]:
    worst = (report.get("mistakes") or ())[:MISTAKES_TOLD]
    if not worst:
        return []
    lines = ["", "The most expensive mistakes, with their transcripts in Baton:", ""]
    cells = []
    for mistake in worst:
        name = plain(str(mistake["conversation"]))
        linked = (
            f"[{name}]({transcript_url(transcripts, mistake['conversation'])})"
            if transcripts
            else name
        )
        cells.append(
            (linked, mistake["what"], f"{mistake['probability']:.1%}", f"{mistake['cost']:g}")
        )
    return [*lines, table(("conversation", "what", "the model said", "cost"), cells)]


def transcript_url(transcripts: str, conversation: str) -> str:
    """Where a conversation is found."""
    return transcripts + quote(conversation, safe="")


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def publish(
    report: Report,
    registry: Registry,
    workspace: str,
    numbers: Sequence[str] = (),
    transcripts: str = "",
) -> str:
    """Make the report's MLflow run, or find it made; its run id.

    `numbers` are the MLflow numbers of the evaluated versions, as far as they are published: the
    run links to them. `transcripts` is the address under which a conversation is found in Baton.
    RegistryUnavailable while MLflow is away: publish the same report later.
    """
    body = report.body()
    return registry.evaluation_run(
        workspace,
        report.evaluation,
        name=f"{report.verdict} at {report.position}",
        description=description(body, transcripts),
        position=report.position,
        at=report.at,
        metrics=metrics(body),
        curves=curves(body),
        params={f"{line['role']}": f"version {line['version']}" for line in report.lines}
        | {f"{line['role']}.recipe": line["recipe"] for line in report.lines}
        | {
            f"policy.{name}": f"{value:g}"
            for name, value in report.costs.items()
            if value is not None
        },
        tags={
            "baton.verdict": report.verdict,
            "baton.acted": str(report.acted).lower(),
            "baton.champion": str(report.lines[0]["version"]),
        },
        files={"report.json": json.dumps(body)} | segment_charts.files(body),
        page=figures_page.figures_page(body),
        lasting=report.verdict != "keep",
        numbers=numbers,
        nested=nested(body),
        data=data(body),
    )
