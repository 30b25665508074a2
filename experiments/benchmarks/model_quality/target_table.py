"""Targets of the learning benchmark beside what was measured: one line for each part of a row.

A row of the table of goals is reached when all its lines are. The measured figure is that of the
worst data set, the mean over its seeds; `parts` are those of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.inputs.feature_rows import mean
from experiments.benchmarks.inputs.feedback_regimes import FULL, SERVED
from experiments.benchmarks.model_quality import calibration_error, drift_recovery
from learning.models.recipes import DEFAULT

Row = dict[str, Any]
COLUMNS = {"row": "row", "name": "part", "goal": "goal", "measured": "measured", "holds": ""}
SELECTIVE, LABELS, COST = "AUC of full labels'", "labels of random labelling's", "cost"
OFFLINE, VOWPAL, ECE, DRIFT, SETS = "offline refit", "VowpalWabbit", "ECE", "drift", "data sets"


def targets(rows: Sequence[Row]) -> list[Row]:
    """Every line that the rows can answer."""
    by_question: dict[str, list[Row]] = {}
    for row in rows:
        by_question.setdefault(row["question"], []).append(row)
    lines = [
        *_selective(by_question.get("labels", []), by_question.get("random labels", [])),
        *_offline(by_question.get("curves", [])),
        *_vowpal(by_question.get("labels", []), by_question.get("VowpalWabbit", [])),
        *_calibration(by_question),
        *_drift(by_question.get("drift", [])),
        *_sets(by_question),
    ]
    return [line for line in lines if line is not None]


def _line(row: str, name: str, sense: str, goal: float, parts: Mapping[str, float]) -> Row | None:
    finite = {part: value for part, value in parts.items() if np.isfinite(value)}
    if not finite:
        return None
    worst = min(finite.values()) if sense == ">=" else max(finite.values())
    return {
        "row": row,
        "name": name,
        "goal": f"{sense} {goal:g}",
        "measured": float(f"{worst:.4g}"),
        "holds": bool(worst >= goal if sense == ">=" else worst <= goal),
        "parts": {part: float(f"{value:.4g}") for part, value in finite.items()},
    }


def _sets_of(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["data"] for row in rows))


def _select(rows: Iterable[Row], **values: Any) -> list[Row]:
    return [row for row in rows if all(row.get(k) == v for k, v in values.items())]


def _ratio(rows: Sequence[Row], key: str, regime: str, data: str) -> float:
    """The mean over seeds of a regime's figure over the full-label learner's of the same seed."""
    full = {row["seed"]: row[key] for row in _select(rows, data=data, regime=FULL.name)}
    pairs = [
        row[key] / full[row["seed"]]
        for row in _select(rows, data=data, regime=regime)
        if row.get(key) is not None and full.get(row["seed"])
    ]
    return float(np.mean(pairs)) if pairs else float("nan")


def _selective(rows: Sequence[Row], random: Sequence[Row]) -> Iterable[Row | None]:
    sets = _sets_of(rows)
    for regime, goal in zip(SERVED, (0.98, 0.985, 0.993), strict=True):
        parts = {data: _ratio(rows, "auc", regime.name, data) for data in sets}
        yield _line(SELECTIVE, f"{regime.caught:.0%} caught", ">=", goal, parts)
    for name, key in (("all labels", "labels"), ("labels asked for by audits", "asked")):
        parts = {data: _share(rows, random, data, key) for data in sets}
        line = _line(LABELS, name, "<=", 0.33, parts)
        yield line if key == "labels" else _without_goal(line)
    parts = {data: _ratio(rows, "cost", SERVED[0].name, data) for data in sets}
    yield _line(COST, "over the full-label learner's", "<=", 1.15, parts)


def _share(rows: Sequence[Row], random: Sequence[Row], data: str, key: str) -> float:
    """Labels of audits and handoffs over those that random labelling needs for the same AUC."""
    own = _select(rows, data=data, regime=SERVED[0].name)
    curve = [
        (mean(regime_rows, "labels"), mean(regime_rows, "auc"))
        for regime in dict.fromkeys(row["regime"] for row in _select(random, data=data))
        if (regime_rows := _select(random, data=data, regime=regime))
    ]
    full = _select(rows, data=data, regime=FULL.name)
    if not own or not curve or not full:
        return float("nan")
    curve = sorted([*curve, (mean(full, "labels"), mean(full, "auc"))])
    labels, auc = zip(*curve, strict=True)
    rising = np.maximum.accumulate(auc)
    needed = float(np.interp(mean(own, "auc"), rising, labels))
    return mean(own, key) / max(needed, 1.0)


def _without_goal(line: Row | None) -> Row | None:
    """A line without a goal."""
    return None if line is None else line | {"goal": "shown", "holds": None}


def _offline(rows: Sequence[Row]) -> Iterable[Row | None]:
    def strength(learner: str) -> bool:
        return learner.startswith("offline, features")

    kinds: tuple[tuple[str, Callable[[str], bool], bool], ...] = (
        ("plain, on the same features", lambda name: name == "offline, features, C=1", True),
        ("plain, TF-IDF", lambda name: name.startswith("offline, TF-IDF"), True),
        ("best strength in hindsight, same features", strength, True),
    )
    for name, matches, has_goal in kinds:
        parts = {}
        for data in _sets_of(rows):
            for after in ("500", "2000", "all"):
                at_stop = _select(rows, data=data, after=after)
                own = mean(_select(at_stop, learner=f"Baton {DEFAULT}"), "auc")
                peers = {row["learner"] for row in at_stop if matches(row["learner"])}
                if peers:
                    best = max(
                        mean(_select(at_stop, learner=peer), "auc") for peer in sorted(peers)
                    )
                    parts[f"{data}, {after}"] = own / best
        line = _line(OFFLINE, name, ">=", 1.0, parts)
        yield line if has_goal else _without_goal(line)


def _vowpal(rows: Sequence[Row], wabbits: Sequence[Row]) -> Iterable[Row | None]:
    for name, key in (("best setting in hindsight, late", "auc"), ("and whole", "auc_whole")):
        parts = {}
        for data in _sets_of(wabbits):
            seeds = {row["seed"] for row in _select(wabbits, data=data)}
            own = [r for r in _select(rows, data=data, regime=FULL.name) if r["seed"] in seeds]
            settings = {(row["input"], row["setting"]) for row in _select(wabbits, data=data)}
            best = max(
                mean(_select(wabbits, data=data, input=inputs, setting=setting), key)
                for inputs, setting in sorted(settings)
            )
            parts[data] = mean(own, key) - best
        yield _line(VOWPAL, f"AUC minus {name}" if key == "auc" else name, ">=", -0.003, parts)


def _calibration(by_question: Mapping[str, Sequence[Row]]) -> Iterable[Row | None]:
    rows = by_question.get("calibration", [])
    for regime, goal in ((FULL, 0.01), (SERVED[0], 0.015)):
        regime_rows = _select(rows, regime=regime.name)
        line = _line(
            ECE, f"late, {regime.name}", "<=", goal, {"simulated": mean(regime_rows, "ece")}
        )
        yield line
        sets = [row for row in by_question.get("labels", []) if row["regime"] == regime.name]
        over = {
            data: mean(_select(sets, data=data), "ece")
            - mean(_select(sets, data=data), "ece_by_chance")
            for data in _sets_of(sets)
        }
        yield _line(ECE, f"late, {regime.name}, above chance", "<=", goal, over)
    if jumps := by_question.get("a jump"):
        after = calibration_error.after_jump(jumps)
        yield _line(
            ECE, "first 2000 labels after a jump", "<=", 0.02, {"simulated": after["calibrated"]}
        )
        parts = {name: value for name, value in after.items() if name != "labels"}
        yield _without_goal(_line(ECE, "the jump's other figures", "<=", 0.02, parts))


def _drift(rows: Sequence[Row]) -> Iterable[Row | None]:
    parts = {
        kind: drift_recovery.labels_needed(_select(rows, data=kind))["ratio"]
        for kind in _sets_of(rows)
    }
    yield _line(DRIFT, "labels to recover, of training anew", "<=", 0.5, parts)


def _sets(by_question: Mapping[str, Sequence[Row]]) -> Iterable[Row | None]:
    rows = _select(by_question.get("labels", []), regime=FULL.name, seed=0)
    goals = (
        *(("uss_sgd", "auc", 0.84), ("uss_sgd", "ap", 0.65)),
        *(("uss_redial", "auc", 0.79), ("uss_redial", "ap", 0.55)),
    )
    for data, key, goal in goals:
        yield _line(
            SETS, f"{data}, late {key}", ">=", goal, {data: mean(_select(rows, data=data), key)}
        )
    shares = by_question.get("breakdown shares", [])
    for key in ("mse", "js"):
        own = mean(_select(shares, learner="Baton, test-then-learn"), key)
        theirs = mean(_select(shares, learner="offline, TF-IDF, five folds"), key)
        name = f"dbdc3, {key} over five offline folds"
        yield _line(SETS, name, "<=", 1.0, {"dbdc3": own / theirs})
    own_points = _select(by_question.get("points of handoff", []), learner=f"Baton {DEFAULT}")
    for key, goal in (("f1", 0.66), ("auc", 0.90), ("gt_1", 0.66)):
        name = f"mhch_clothing test, {key}"
        yield _line(SETS, name, ">=", goal, {"mhch_clothing": mean(own_points, key)})
