"""One scheduled evaluation: from what lines scored before they learned it to a report and a run.

Computing and publishing are apart. `evaluate` needs nothing but the lines' scores, and its report
is plain JSON that `jobs` keeps; `publish` makes one MLflow run of a kept report, whenever MLflow
answers, once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments import report_page
from experiments.report_page import RECENT, SPAN, SPAN_MIN
from learning.accuracy import accuracy
from learning.accuracy import curve as curve_of_routing
from learning.evaluation import (
    Scores,
    clearly_worse,
    curve,
    log_losses,
    measures,
    paired,
    precision_recall,
    rates,
    reliability,
)
from learning.router import Record

if TYPE_CHECKING:  # measuring needs no mlflow, which takes seconds to import
    from experiments.registry import Registry

POINTS_MAX = 80
PLOT_POINTS_MAX = 200
HISTOGRAM_BINS = 20
FORMAT = 1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it followed the ledger: its role, and its scores from before it learned each.

    `routed` says likewise how often it named the right team.
    """

    role: str
    version: int
    recipe: str
    scores: Scores
    routed: Record | None = None

    @property
    def name(self) -> str:
        return f"{self.role} (version {self.version}, {self.recipe})"


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch of the ledger: where, to which version, and why."""

    position: int
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found. `body` is plain JSON and holds all that its figures show."""

    evaluation: str
    position: int
    at: float
    verdict: Literal["keep", "roll back"]
    sentence: str
    evidence: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    switches: Sequence[Mapping[str, Any]]
    costs: Mapping[str, float]
    span: int = SPAN
    drift: Mapping[str, Any] | None = None
    routing: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """As plain JSON; `Report.of` reads it back."""
        return {"format": FORMAT} | asdict(self)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Report:
        """A kept report. ValueError for one of another format."""
        kept = dict(body)
        if kept.pop("format", None) != FORMAT:
            raise ValueError(f"a report of format {body.get('format')}; this build reads {FORMAT}")
        return cls(**kept)


def evaluate(
    evaluation: str,
    position: int,
    at: float,
    champion: Line,
    *others: Line,
    threshold: float,
    cost_unneeded: float,
    cost_missed: float,
    switches: Sequence[Switch] = (),
    drift: Mapping[str, Any] | None = None,
) -> Report:
    """Measure the champion beside other lines, and say whether its predecessor should come back.

    `evaluation` is the id under which the run is made once; `at` is in seconds since the epoch.
    The verdict compares the champion with the line whose role is `previous`, lesson by lesson,
    over those that both scored since the last switch (`learning.evaluation.clearly_worse`);
    without such a line it is to keep. `threshold` and the costs are the policy's; `drift` is what
    was found of it, kept as it is.
    """
    since = max((switch.position for switch in switches), default=0)
    verdict, sentence, evidence = _verdict(champion, others, since)
    costs = {"threshold": threshold, "unneeded": cost_unneeded, "missed": cost_missed}
    span = min(SPAN, max(SPAN_MIN, len(champion.scores) // 4))
    return Report(
        evaluation,
        position,
        at,
        verdict,
        sentence,
        evidence,
        [_measured(line, since, costs, span) for line in (champion, *others)],
        [asdict(switch) for switch in switches],
        costs,
        span,
        drift,
        _routing(champion.routed),
    )


def _routing(routed: Record | None) -> dict[str, Any] | None:
    if routed is None or not routed.tested:
        return None
    return accuracy(routed) | {"curve": curve_of_routing(routed)}


def publish(report: Report, registry: Registry, workspace: str, numbers: Sequence[str] = ()) -> str:
    """Make the report's MLflow run, or find it made; its run id.

    `numbers` are the MLflow numbers of the evaluated versions, as far as they are published: the
    run links to them. RegistryUnavailable while MLflow is away: publish the same report later.
    """
    body = report.body()
    return registry.evaluation_run(
        workspace,
        report.evaluation,
        name=f"{report.verdict} at {report.position}",
        description=report_page.description(body),
        position=report.position,
        at=report.at,
        metrics=report_page.metrics(body),
        curves=report_page.curves(body),
        params={f"{line['role']}": f"version {line['version']}" for line in report.lines}
        | {f"{line['role']}.recipe": line["recipe"] for line in report.lines}
        | {f"policy.{name}": f"{value:g}" for name, value in report.costs.items()},
        tags={"baton.verdict": report.verdict, "baton.champion": str(report.lines[0]["version"])},
        files={"report.json": json.dumps(body)},
        page=report_page.figures_page(body),
        lasting=report.verdict != "keep",
        numbers=numbers,
    )


def _verdict(
    champion: Line, others: Sequence[Line], since: int
) -> tuple[Literal["keep", "roll back"], str, dict[str, Any]]:
    previous = next((line for line in others if line.role == "previous"), None)
    if previous is None:
        return "keep", "There is no previous version to compare with.", {}
    a, b = paired(champion.scores, previous.scores)
    later = a.position > since
    found = clearly_worse(
        log_losses(a.probability, a.label)[later],
        log_losses(b.probability, b.label)[later],
        a.conversation[later],
    )
    evidence = asdict(found) | {
        "rule": "clearly_worse",
        "since": since,
        "champion": champion.version,
        "previous": previous.version,
    }
    said = f"Against version {previous.version}, since position {since}: {found.sentence}."
    return ("roll back" if found.worse else "keep"), said, evidence


def _measured(line: Line, since: int, costs: Mapping[str, float], span: int) -> dict[str, Any]:
    scores = line.scores
    p, y, w = scores.probability, scores.label, scores.weight
    bins = reliability(p, y, w=w)
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
        "decisions": _decisions(scores, costs),
        "base_rate": float((w * y).sum() / w.sum()) if w.sum() > 0 else None,
        "curve": [
            [point.position, point.measures]
            for point in curve(
                scores, span=span, every=max(SPAN_MIN // 2, math.ceil(len(p) / POINTS_MAX))
            )
        ],
        "precision_recall": _precision_recall(scores),
        "roc": _roc(scores),
        "cost": _costs(scores, costs),
        "reliability": _columns(bins.predicted, bins.observed, bins.mass),
        "histogram": np.histogram(p, HISTOGRAM_BINS, (0.0, 1.0))[0].tolist(),
    }


def _conversations(scores: Scores) -> tuple[Floats, NDArray[np.bool_]]:
    """Per conversation: its highest probability, and whether it ever needed a person."""
    names, place = np.unique(scores.conversation, return_inverse=True)
    highest, needed = np.zeros(names.size), np.zeros(names.size, bool)
    np.maximum.at(highest, place, scores.probability)
    np.logical_or.at(needed, place, scores.label > 0.5)
    return highest, needed


def _decisions(scores: Scores, costs: Mapping[str, float]) -> dict[str, Any]:
    highest, needed = _conversations(scores)
    found = rates(
        highest >= costs["threshold"],
        needed,
        cost_unneeded=costs["unneeded"],
        cost_missed=costs["missed"],
    )
    return asdict(found)


def _costs(scores: Scores, costs: Mapping[str, float]) -> list[list[float]]:
    highest, needed = _conversations(scores)
    if not highest.size:
        return [[], []]
    thresholds = np.linspace(0.0, 1.0, 101)
    up = highest[None, :] >= thresholds[:, None]
    paid = (up & ~needed) * costs["unneeded"] + (~up & needed) * costs["missed"]
    return _columns(thresholds, paid.mean(1))


def _precision_recall(scores: Scores) -> list[list[float]]:
    found = precision_recall(scores.probability, scores.label, scores.weight)
    kept = _thinned(found.recall.size)
    return _columns(found.recall[kept], found.precision[kept])


def _roc(scores: Scores) -> list[list[float]]:
    order = np.argsort(-scores.probability, kind="stable")
    p, w = scores.probability[order], scores.weight[order]
    positive = scores.label[order] > 0.5
    last = np.flatnonzero(np.append(p[1:] != p[:-1], True)) if p.size else np.zeros(0, np.intp)
    found, false = (w * positive).cumsum()[last], (w * ~positive).cumsum()[last]
    if not last.size or found[-1] <= 0.0 or false[-1] <= 0.0:
        return [[], []]
    kept = _thinned(last.size)
    ends = [np.append(0.0, rate / rate[-1]) for rate in (false, found)]
    kept = np.append(0, kept + 1)
    return _columns(ends[0][kept], ends[1][kept])


def _thinned(size: int) -> NDArray[np.intp]:
    """At most PLOT_POINTS_MAX places of `size`, evenly, both ends among them."""
    if size <= PLOT_POINTS_MAX:
        return np.arange(size)
    return np.unique(np.linspace(0, size - 1, PLOT_POINTS_MAX).round().astype(np.intp))


def _columns(*columns: Floats) -> list[list[float]]:
    """Arrays as lists of JSON numbers, as exact as a figure can show."""
    return [np.asarray(column, np.float64).round(6).tolist() for column in columns]
