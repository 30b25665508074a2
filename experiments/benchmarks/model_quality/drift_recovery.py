"""Recovery after concept drift: labels until the lost AUC is regained, beside learning anew.

One learner has learned the world before, and goes on; another starts anew with the first label
after the change. Both are tested, again and again, on conversations of the world after it that
nobody learns. What was lost is the way from where the first one stands at the change to where the
other stands when it has learned as much of the new world as the first one had of the old; regained
is nine tenths of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.benchmarks.inputs.feature_rows import (
    FeatureRows,
    Floats,
    ModelLine,
    in_order,
    simulated_talks,
    talks,
)
from experiments.simulation.world import Drift, WorldSettings
from learning.measures.scores import measures
from learning.models.recipes import DEFAULT

EVERY = 100
"""Labels from one test to the next; a twentieth of the labels so far where that is more."""

REGAINED = 0.9
KINDS = ("simulated", "uss_sgd to uss_redial", "uss_redial to uss_sgd")


@dataclass(frozen=True, slots=True)
class Change:
    """The conversations before, those after it to learn from, and those after it to test on."""

    before: Sequence[FeatureRows]
    after: Sequence[FeatureRows]
    held: Sequence[FeatureRows]


def change(kind: str, folder: str, size: int, seed: int) -> Change:
    """In the simulator a product appears that nobody knows and fails, and refunds become harmless;
    between recorded sets the bot, its task and its customers are others.
    """
    if kind == "simulated":
        drifts = WorldSettings(drifts=(Drift("new_product", 0), Drift("harmless_intent", 0)))
        return Change(
            simulated_talks(100 + seed, size),
            simulated_talks(200 + seed, size, drifts),
            simulated_talks(300 + seed, size // 2, drifts),
        )
    first, second = (in_order(talks(name, folder, size), seed + 1) for name in kind.split(" to "))
    cut = round(len(second) * 0.7)
    return Change(first, second[:cut], second[cut:])


def recovery(world_change: Change, seed: int, recipe: str = DEFAULT) -> Iterator[dict[str, Any]]:
    """AUC on the held out after so many labels: rows of `learner` (kept or
    anew), `seed`, `labels`, `auc`.
    """
    experienced, fresh = ModelLine(recipe), ModelLine(recipe)
    for old in world_change.before:
        experienced.learn(old)
    labels = np.array([y for talk in world_change.held for y in talk.labels], np.float64)
    labels_learned = due = 0
    for talk in (None, *world_change.after):
        if talk is not None:
            experienced.learn(talk)
            fresh.learn(talk)
            labels_learned += len(talk.labels)
        if labels_learned < due:
            continue
        due = labels_learned + max(EVERY, labels_learned // 20)
        for name, line in (("kept", experienced), ("anew", fresh)):
            p = np.array([line.score(row) for one in world_change.held for row in one.rows])
            auc = measures(p, labels)["auc"]
            yield {"learner": name, "seed": seed, "labels": labels_learned, "auc": auc}


def labels_needed(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """From the points of several seeds: labels that either learner needs, and their ratio."""
    grid = np.arange(0, min(x["labels"] for x in _last(points)) + 1, EVERY)
    experienced, fresh = (_curve(points, name, grid) for name in ("kept", "anew"))
    start, asymptote = float(experienced[0]), float(fresh[-3:].mean())
    bar = start + REGAINED * (asymptote - start)
    needed = [int(grid[np.argmax(auc >= bar)]) for auc in (experienced, fresh)]
    return {
        "auc_at_change": start,
        "auc_anew": asymptote,
        "auc_kept": float(experienced[-3:].mean()),
        "kept": max(needed[0], EVERY),
        "anew": max(needed[1], EVERY),
        "ratio": max(needed[0], EVERY) / max(needed[1], EVERY),
    }


def _last(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last point of each seed."""
    return list({point["seed"]: point for point in points}.values())


def _curve(points: Sequence[dict[str, Any]], name: str, grid: Floats) -> Floats:
    """The mean over seeds at some numbers of labels, each interpolated and smoothed."""
    curves = []
    for seed in sorted({point["seed"] for point in points}):
        own = [x for x in points if x["seed"] == seed and x["learner"] == name]
        auc = np.interp(grid, [x["labels"] for x in own], [x["auc"] for x in own])
        curves.append(auc)
    several = np.mean(curves, axis=0)
    smooth = np.convolve(np.pad(several, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    smooth[0] = several[0]
    return np.asarray(smooth, np.float64)
