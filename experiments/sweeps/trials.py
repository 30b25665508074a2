"""Trial of a sweep: a recipe learns a history test-then-learn; its measures and digest."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.build_info import build_id
from experiments.datasets import ledger_export
from experiments.datasets.ledger_export import History
from learning.ledger.checkpoint import digest
from learning.ledger.model_state import Exclusions, ModelState, Transcript, Turn, replay_entries
from learning.measures.prequential import Scores, Window
from learning.measures.scores import measures

MEASURES = {"log_loss": min, "brier": min, "ece": min, "auc": max, "average_precision": max}
"""What a trial may be judged by, and which end of it is better."""


def key(history: History, recipe: str) -> str:
    """A trial's name: of this history, this recipe with its parameters, and this build."""
    identity = f"{build_id()}\n{history.digest}\n{recipe}"
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def play(history_file: Path | bytes, history: History, recipe: str) -> dict[str, Any]:
    """Learn a history by a recipe, each outcome scored before it is learned: the trial's figures.

    The measures count every lesson once; `later` are those of the later half of the lessons, when
    something had been learned. `digest` is of the final model: that of the version which
    `baton rebuild` makes of the same ledger.
    """
    window = Window(max(1, history.scored))
    state = ModelState(recipe=recipe, without=Exclusions.of(history.without), window=window)
    began = time.perf_counter()
    for entry, turns in ledger_export.read(history_file):
        replay_entries(state, [entry], _of(turns), through_switches=True)
    scores = window.scores()
    return {
        "key": key(history, recipe),
        "recipe": recipe,
        "position": state.position,
        "lessons": len(scores),
        "digest": digest(state),
        "measures": _measures(scores, 0),
        "later": _measures(scores, len(scores) // 2),
        "build": build_id(),
        "seconds": time.perf_counter() - began,
    }


def _of(turns: Sequence[Turn]) -> Transcript:
    return lambda _, until: turns[:until]


def _measures(scores: Scores, first: int) -> dict[str, float]:
    return measures(scores.probability[first:], scores.label[first:])


def ranked(results: Sequence[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """The best first, by a measure of the later half; those where it is undefined last."""
    sign = 1.0 if MEASURES[by] is min else -1.0

    def place(result: dict[str, Any]) -> tuple[float, str]:
        value = result["later"].get(by)
        return (math.inf if value is None else sign * value), result["recipe"]

    return sorted(results, key=place)
