"""Learning benchmark: prequential quality of every recipe on recorded and simulated data.

One run covers each recipe test-then-learn, the cost of late, one-sided and few labels,
VowpalWabbit, River's own recipes and offline refits on the same rows, learning curves, calibration,
drift, and the points of handoff. Work is cut into units that share nothing and run in parallel.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.harness.result_table import Progress
from experiments.benchmarks.inputs import vowpal_format
from experiments.benchmarks.inputs.feature_rows import DATA, SIMULATED, FeatureRows, in_order, talks
from experiments.benchmarks.inputs.feedback_regimes import (
    FULL,
    RANDOM,
    REGIMES,
    SERVED,
    FeedbackRegime,
    play,
)
from experiments.benchmarks.model_quality import (
    baselines,
    calibration_error,
    drift_recovery,
    handoff_points,
    learning_curves,
)
from experiments.benchmarks.model_quality.baselines import INPUTS, Matrix, soft_errors
from experiments.datasets.streams import SETS, count_conversations
from learning.measures.scores import measures
from learning.models.recipes import DEFAULT, EMPTY, RECIPES

Row = dict[str, Any]
DBDC, MHCH = "dbdc3", "mhch_clothing"


@dataclass(frozen=True, slots=True)
class LearningPlan:
    """How much to measure. `limit` is of conversations in each recorded set; `simulated`, `steady`,
    `jumping` and `drifting` are those of the simulator for each question. `seeds` are of labels,
    `few` of all else.
    """

    folder: str
    data: tuple[str, ...] = DATA
    seeds: int = 3
    few: int = 3
    limit: int = 100_000
    simulated: int = 2000
    steady: int = 8000
    jumping: int = 3000
    drifting: int = 1500
    workers: int = 2

    @classmethod
    def quick(cls, folder: str, data: tuple[str, ...] = DATA, workers: int = 1) -> LearningPlan:
        """Tells that it works; its figures say little."""
        return cls(folder, data, 1, 1, 40, 60, 120, 160, 60, workers)

    def talks(self, name: str, seed: int) -> list[FeatureRows]:
        """A set in the order of this seed."""
        if name == SIMULATED:
            return list(talks(name, self.folder, self.simulated))
        return in_order(talks(name, self.folder, self.limit), seed)


def choose_data(names: Sequence[str]) -> tuple[str, ...]:
    """The data sets of these names; all, where none is named. ValueError for an unknown one."""
    if unknown := set(names).difference(DATA):
        raise ValueError(f"{min(unknown)} is no data set; use {', '.join(DATA)}")
    return tuple(name for name in DATA if name in names) if names else DATA


Unit = Callable[[], list[Row]]


def run(plan: LearningPlan, progress: Progress) -> list[Row]:
    """All rows, each with its `question`. StreamError for a set that is not there."""
    units = list(_units(plan))
    done: dict[int, list[Row]] = {}
    if plan.workers == 1:
        for number, (name, unit) in enumerate(units):
            progress(name, number, len(units))
            done[number] = unit()
    else:
        spawning = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(plan.workers, mp_context=spawning) as pool:
            waiting = {pool.submit(unit): n for n, (_, unit) in enumerate(units)}
            for future in as_completed(waiting):
                number = waiting[future]
                done[number] = future.result()
                progress(units[number][0], len(done), len(units))
    return [row for number in range(len(units)) for row in done[number]]


def _units(plan: LearningPlan) -> Iterator[tuple[str, Unit]]:
    for name in plan.data:
        for seed in range(plan.seeds):
            yield f"{name}, labels", partial(labels, plan, name, seed)
        for seed in range(plan.few):
            yield f"{name}, VowpalWabbit", partial(wabbits, plan, name, seed)
            yield f"{name}, curves", partial(curves, plan, name, seed)
        yield f"{name}, River", partial(river, plan, name)
        if name == DBDC:
            yield "breakdown shares", partial(shares, plan)
        if name == MHCH:
            yield "points of handoff", partial(handoffs, plan)
    if SIMULATED in plan.data:
        for seed in range(plan.few):
            yield "calibration", partial(steady, plan, seed)
        for seed in range(2 * plan.seeds):
            yield "a jump", partial(jump, plan, seed)
    for kind in drift_recovery.KINDS:
        if {kind.partition(" ")[0], kind.rpartition(" ")[2]} <= set(plan.data):
            for seed in range(plan.few):
                yield f"drift, {kind}", partial(drift, plan, kind, seed)


def labels(plan: LearningPlan, name: str, seed: int) -> list[Row]:
    """Every regime, labels of random conversations, and every recipe under two of the regimes."""
    stream, rows = plan.talks(name, seed), []

    def add(question: str, regime: FeedbackRegime, recipe: str = DEFAULT) -> None:
        row = {"question": question, "data": name, "seed": seed, "recipe": recipe}
        figures = play(stream, regime, seed, recipe).figures()
        rows.append(row | {"regime": regime.name, **figures})

    for regime in REGIMES:
        add("labels", regime)
    for regime in RANDOM:
        add("random labels", regime)
    if seed < plan.few:
        for recipe in (*RECIPES, EMPTY):
            for regime in (FULL, SERVED[0]):
                add("recipes", regime, recipe)
    return rows


def wabbits(plan: LearningPlan, name: str, seed: int) -> list[Row]:
    """VowpalWabbit in each setting, on Baton's features and on words."""
    stream, rows = plan.talks(name, seed), []
    for inputs in vowpal_format.INPUTS:
        lines = [vowpal_format.examples(talk, inputs) for talk in stream]
        for setting in vowpal_format.SETTINGS:
            p = vowpal_format.play(stream, lines, inputs, setting)
            row = {"question": "VowpalWabbit", "data": name, "seed": seed, "input": inputs}
            rows.append(row | {"setting": setting, **late(stream, p)})
    return rows


def river(plan: LearningPlan, name: str) -> list[Row]:
    """River's own recipes, in the order of the file."""
    stream = plan.talks(name, 0)
    return [
        {"question": "River", "data": name, "seed": 0, "learner": learner}
        | late(stream, baselines.play(stream, learner))
        for learner in baselines.STOCK
    ]


def late(stream: Sequence[FeatureRows], p: Sequence[float]) -> dict[str, Any]:
    """AUC, AP and log loss of the second half of the conversations, and AUC of all."""
    y = np.array([label for talk in stream for label in talk.labels])
    first = sum(len(talk.labels) for talk in stream[: len(stream) // 2])
    half, whole = measures(p[first:], y[first:]), measures(p, y)
    return {
        "auc": half.get("auc"),
        "ap": half.get("average_precision"),
        "log_loss": half["log_loss"],
        "auc_whole": whole.get("auc"),
    }


def curves(plan: LearningPlan, name: str, seed: int) -> list[Row]:
    """Learning curves of every learner on what is held out."""
    row = {"question": "curves", "data": name, "seed": seed}
    return [row | point for point in learning_curves.curves(plan.talks(name, 0), seed)]


def shares(plan: LearningPlan) -> list[Row]:
    """Breakdown shares: test-then-learn against five folds of an offline regression."""
    stream = plan.talks(DBDC, 0)
    y = np.array([label for talk in stream for label in talk.labels])
    first = sum(len(talk.labels) for talk in stream[: len(stream) // 2])
    predictions = {"Baton, test-then-learn": np.array(play(stream, FULL, 0).probability)}
    for inputs in INPUTS:
        predictions[f"offline, {inputs}, five folds"] = Matrix(stream, inputs).folds()
    predictions["their mean, known beforehand"] = np.full(len(y), float(y.mean()))
    row = {"question": "breakdown shares", "data": DBDC}
    return [
        row | {"learner": name, **soft_errors(p[first:], y[first:])}
        for name, p in predictions.items()
    ]


def handoffs(plan: LearningPlan) -> list[Row]:
    """Points of handoff: learn the first file, then test-then-learn the second."""
    stream = plan.talks(MHCH, 0)
    first = count_conversations(Path(plan.folder) / SETS[MHCH][0])
    cut = first if first < len(stream) else len(stream) // 2
    before, tested = stream[:cut], stream[cut:]
    row = {"question": "points of handoff", "data": MHCH}
    figures_by_learner = {
        f"Baton {name}": handoff_points.handoffs(before, tested, name) for name in RECIPES
    }
    figures_by_learner |= {
        f"offline, {inputs}": handoff_points.offline(before, tested, inputs) for inputs in INPUTS
    }
    figures_by_learner["blind: always place 4"] = handoff_points.blind(tested)
    return [
        row | {"learner": learner, **figures} for learner, figures in figures_by_learner.items()
    ]


def steady(plan: LearningPlan, seed: int) -> list[Row]:
    """Calibration in a world that stays as it is."""
    row = {"question": "calibration", "data": SIMULATED, "seed": seed}
    return [row | figures for figures in calibration_error.steady(seed, plan.steady)]


def jump(plan: LearningPlan, seed: int) -> list[Row]:
    """Scores and labels after a jump of the base rate."""
    row = {"question": "a jump", "data": SIMULATED, "seed": seed}
    return [row | calibration_error.jump(seed, plan.jumping)]


def drift(plan: LearningPlan, kind: str, seed: int) -> list[Row]:
    """AUC after a drift, learning on and learning anew."""
    row = {"question": "drift", "data": kind}
    change = drift_recovery.change(kind, plan.folder, plan.drifting, seed)
    return [row | point for point in drift_recovery.recovery(change, seed)]
