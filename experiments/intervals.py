"""How far a measure may be off by chance: the percentile bootstrap over whole conversations.

Lessons of one conversation are alike, so conversations are drawn, not lessons (Efron and
Tibshirani 1993, chapter 13). The draws are seeded: the same scores give the same interval.
"""

from __future__ import annotations

import numpy as np

from learning.evaluation import Scores, measures

DRAWS = 100
SHOWN = ("auc", "average_precision", "log_loss", "brier", "ece")
LEAST = 20
"""Fewer conversations say nothing about their own spread."""


def intervals(scores: Scores, draws: int = DRAWS) -> dict[str, list[float]]:
    """The middle 95 % of each measure over so many draws of as many conversations, for one look.

    ECE is pushed up by every redraw, so its interval is read with care.
    """
    _, first, place = np.unique(scores.conversation, return_index=True, return_inverse=True)
    if first.size < LEAST:
        return {}
    rows = np.argsort(place, kind="stable")
    sizes = np.bincount(place)
    starts = np.cumsum(sizes) - sizes
    random = np.random.Generator(np.random.PCG64(7))
    found: dict[str, list[float]] = {name: [] for name in SHOWN}
    for _ in range(draws):
        drawn = random.integers(0, first.size, first.size)
        taken = np.concatenate([rows[starts[n] : starts[n] + sizes[n]] for n in drawn])
        one = measures(scores.probability[taken], scores.label[taken], scores.weight[taken])
        for name in SHOWN:
            if name in one:
                found[name].append(one[name])
    return {
        name: [round(float(x), 6) for x in np.quantile(values, (0.025, 0.975))]
        for name, values in found.items()
        if len(values) >= draws / 2
    }
