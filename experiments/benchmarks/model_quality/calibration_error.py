"""Expected calibration error (ECE) in the simulator: steady, with few labels, after a jump.

Measured where truth is known and plentiful, in the simulator, since the measure has a floor of its
own: with few labels in a bin even a perfectly honest model looks dishonest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.inputs.feature_rows import Floats, ModelLine, simulated_talks
from experiments.benchmarks.inputs.feedback_regimes import (
    FULL,
    SERVED,
    FeedbackRegime,
    play,
)
from experiments.evaluation.metric_intervals import noise_floor
from experiments.simulation.world import Drift, WorldSettings
from learning.measures.scores import measures, reliability
from learning.models.recipes import DEFAULT

RARE, TIMES = 0.05, 3.6
WITHIN = 2000
"""Labels after the jump that are looked at, from the first one on."""


def steady(seed: int, size: int, recipe: str = DEFAULT) -> list[dict[str, Any]]:
    """ECE of the second half of a world that stays as it is, for full and for selective labels."""
    talks = simulated_talks(400 + seed, size)
    return [
        _figures(regime, play(talks, regime, seed, recipe).half()) for regime in (FULL, SERVED[0])
    ]


def _figures(regime: FeedbackRegime, half: tuple[Floats, Floats]) -> dict[str, Any]:
    p, y = half
    bins = reliability(p, y)
    return {
        "regime": regime.name,
        "ece": measures(p, y)["ece"],
        "ece_by_chance": noise_floor(p),
        "predicted": bins.predicted.tolist(),
        "observed": bins.observed.tolist(),
        "mass": bins.mass.tolist(),
    }


def jump(seed: int, size: int, recipe: str = DEFAULT) -> dict[str, list[float]]:
    """Scores and labels of the first labels after the need of a person became 3.6 times as
    frequent: calibrated, and raw as the model alone says.
    """
    at = round(size * 0.75)
    settings = WorldSettings(base_rate=RARE, drifts=(Drift("base_rate", at, TIMES),))
    line = ModelLine(recipe)
    scores: dict[str, list[float]] = {"calibrated": [], "raw": [], "label": []}
    for number, talk in enumerate(simulated_talks(500 + seed, size, settings)):
        if number >= at:
            raws = [line.raw(row) for row in talk.rows]
            scores["raw"] += raws
            scores["calibrated"] += [line.calibrator(raw) for raw in raws]
            scores["label"] += talk.labels
        line.learn(talk)
        if len(scores["label"]) >= WITHIN:
            break
    return {name: values[:WITHIN] for name, values in scores.items()}


def after_jump(seeds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """ECE over the first labels after the jump, those of all seeds together."""
    label = np.array([y for scores in seeds for y in scores["label"]])
    late = np.array([n >= WITHIN // 2 for scores in seeds for n in range(len(scores["label"]))])
    figures = {}
    for name in ("calibrated", "raw"):
        p = np.array([x for scores in seeds for x in scores[name]])
        figures[name] = measures(p, label)["ece"]
        if late.any():
            figures[f"{name}_second_half"] = measures(p[late], label[late])["ece"]
    p = np.array([x for scores in seeds for x in scores["calibrated"]])
    return figures | {"by_chance": noise_floor(p), "labels": float(len(label))}
