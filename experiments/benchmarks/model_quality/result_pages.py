"""HTML pages of the learning benchmark, one a question, that need no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.inputs.feature_rows import mean
from experiments.benchmarks.inputs.feedback_regimes import FULL, SERVED
from experiments.evaluation.figures import charts
from learning.models.recipes import DEFAULT

Row = dict[str, Any]


def write(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """One file a question, into a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, title, introduction, figures in _pages(rows):
        path = folder / f"{name}.html"
        path.write_text(charts.page(title, introduction, figures), encoding="utf-8")
        paths.append(path)
    return paths


def _pages(rows: Sequence[Row]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    by_question: dict[str, list[Row]] = {}
    for row in rows:
        by_question.setdefault(row["question"], []).append(row)
    if own := by_question.get("curves"):
        yield (
            *("curves", "How much is known after so many labels?"),
            "Every learner on the same conversations, held out alike; means over seeds.",
            {f"{data}: held-out AUC": _curves(data, own) for data in _sets(own)},
        )
    if own := by_question.get("random labels"):
        both = [*own, *by_question.get("labels", [])]
        yield (
            *("labels", "What do late, one-sided labels cost?"),
            "The points are what a service in use learns from its handoffs and audits.",
            {f"{data}: AUC over labels known": _labels(data, both) for data in _sets(own)},
        )
    if own := by_question.get("calibration"):
        yield (
            *("calibration", "Is a probability of 20 % right in 20 of 100 cases?"),
            "The second half of a simulated year, with all labels and with selective ones.",
            {"On the diagonal a probability means what it says.": _reliability(own)},
        )
    if own := by_question.get("drift"):
        yield (
            *("drift", "How soon is lost ground regained?"),
            "One learner goes on after the change, the other starts anew.",
            {f"{kind}: held-out AUC": _drift(kind, own) for kind in _sets(own)},
        )
    if own := by_question.get("points of handoff"):
        yield (
            *("handoffs", "How near lie the points of handoff?"),
            "GT at three tolerances; the blind rule shows what the measure alone is worth.",
            {"GT by tolerance, in utterances": _handoffs(own)},
        )


def _sets(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["data"] for row in rows))


def _lines(
    title: str, x: str, y: str, lines: Sequence[charts.CurveStyle], *, logarithmic: bool = False
) -> Any:
    figure = charts.over_positions(title, y, lines, lower_is_better=False)
    figure.update_xaxes(title=x, type="log" if logarithmic else "linear")
    return figure


def _curves(data: str, rows: Sequence[Row]) -> Any:
    own = [row for row in rows if row["data"] == data]
    names = {
        f"Baton {DEFAULT}": "Baton",
        "VW default, features": "VowpalWabbit, default",
        "VW coin betting, features": "VowpalWabbit, coin betting",
        "offline, features, C=0.1": "offline refit, same features",
        "offline, TF-IDF, C=1": "offline refit, TF-IDF",
    }
    lines = []
    for learner, name in names.items():
        own_rows = [row for row in own if row["learner"] == learner]
        steps = list(dict.fromkeys(row["after"] for row in own_rows))
        points = [[row for row in own_rows if row["after"] == step] for step in steps]
        lines.append(
            charts.CurveStyle(
                name, [mean(p, "labels") for p in points], [mean(p, "auc") for p in points]
            )
        )
    return _lines(f"{data}: what is known", "labels learned", "AUC", lines, logarithmic=True)


def _labels(data: str, rows: Sequence[Row]) -> Any:
    own = [row for row in rows if row["data"] == data]

    def point(regime: str) -> tuple[float, float]:
        own_rows = [row for row in own if row["regime"] == regime]
        return mean(own_rows, "labels"), mean(own_rows, "auc")

    regimes = dict.fromkeys(row["regime"] for row in own if row["question"] == "random labels")
    curve = sorted([*map(point, regimes), point(FULL.name)])
    lines = [charts.CurveStyle("random labels", *zip(*curve, strict=True))]
    for regime in SERVED:
        labels, auc = point(regime.name)
        lines.append(charts.CurveStyle(regime.name, [labels], [auc]))
    return _lines(f"{data}: AUC by labels", "labels known", "AUC", lines)


def _reliability(rows: Sequence[Row]) -> Any:
    models = []
    for regime in dict.fromkeys(row["regime"] for row in rows):
        row_of_regime = next(row for row in rows if row["regime"] == regime)
        counts = np.histogram(
            row_of_regime["predicted"], 20, (0, 1), weights=row_of_regime["mass"]
        )[0]
        bins = (
            row_of_regime["predicted"],
            row_of_regime["observed"],
            row_of_regime["mass"],
            counts,
        )
        models.append(charts.Bins(regime, *bins))
    return charts.reliability(models)


def _drift(kind: str, rows: Sequence[Row]) -> Any:
    lines = []
    for learner, name in (("kept", "goes on learning"), ("anew", "starts anew")):
        own = [row for row in rows if row["data"] == kind and row["learner"] == learner]
        first = [row for row in own if row["seed"] == own[0]["seed"] and row["labels"]]
        lines.append(
            charts.CurveStyle(name, [row["labels"] for row in first], [row["auc"] for row in first])
        )
    return _lines(f"{kind}: after the change", "labels since", "AUC", lines)


def _handoffs(rows: Sequence[Row]) -> Any:
    tolerances = (1, 2, 3)
    lines = [
        charts.CurveStyle(row["learner"], tolerances, [row[f"gt_{t}"] for t in tolerances])
        for row in rows
    ]
    return _lines("How near the points lie", "tolerance", "GT", lines)
