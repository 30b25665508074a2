"""Study 5, implicit feedback: does `silence.weight` of the policy help, on recorded labels?

A kept conversation of which nothing was heard teaches "no person was needed", weakly. Expected: up
to a tenth of a lesson changes the mean cost by less than .005 on every set, and a half of one is no
better anywhere: what a model keeps anyway, it has little to learn from. Figures are of the second
half of each stream, the mean over three orders (three samples of the simulator).

    python -m experiments.studies.005_silence_weight FOLDER    # of the recorded data sets
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from experiments.benchmarks.inputs.feature_rows import (
    DATA,
    SIMULATED,
    FeatureRows,
    in_order,
    mean,
    talks,
)
from experiments.benchmarks.inputs.feedback_regimes import ALONE, SERVED, FeedbackRegime, play

WEIGHTS = (0.0, 0.02, 0.1, 0.5)
ASKED = (ALONE, SERVED[0], SERVED[2])
FIGURES = ("auc", "ap", "log_loss", "ece", "escalated", "cost")
SEEDS, LIMIT = 3, 4000


def rows(folder: str, sets: tuple[str, ...], limit: int = LIMIT) -> list[dict[str, Any]]:
    """One row for each data set, order, regime and weight."""
    results = []
    for name in sets:
        for seed in range(SEEDS):
            conversations = _given(name, folder, limit, seed)
            for regime in ASKED:
                for weight in WEIGHTS:
                    figures = play(conversations, replace(regime, silence=weight), seed).figures()
                    about = {"data": name, "regime": regime.name, "silence": weight}
                    results.append(about | figures)
    return results


def _given(name: str, folder: str, limit: int, seed: int) -> list[FeatureRows]:
    if name == SIMULATED:
        return list(talks(name, folder, limit, 31 + seed))
    return in_order(talks(name, folder, limit), seed)


def told(results: list[dict[str, Any]], regime: FeedbackRegime) -> list[str]:
    """A table of one regime: a line for each weight."""
    lines = [f"{regime.name}", "| weight | " + " | ".join(FIGURES) + " |"]
    for weight in WEIGHTS:
        own = [r for r in results if (r["regime"], r["silence"]) == (regime.name, weight)]
        cells = [f"{mean(own, name):.3f}" for name in FIGURES]
        lines.append(f"| {weight} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = DATA if folder else (SIMULATED,)
    everything = rows(folder, chosen)
    for data in chosen:
        print(f"\n## {data}")
        for asked in ASKED:
            print("\n".join(told([row for row in everything if row["data"] == data], asked)))
