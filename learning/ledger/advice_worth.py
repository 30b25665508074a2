"""Ablation of advisers: what decisions cost with each one's advice and without, test-then-learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.decision.policy import Policy

TRIALS_MAX = 1000
"""Newest judged messages of each adviser that are remembered."""

Z = 1.96
CONVERSATIONS_MIN = 10
"""Fewer conversations tell nothing of an adviser."""


def action_cost(policy: Policy, p: float, y: float) -> float:
    """Expected cost of what the policy's bars make of a probability, where the label is `y`."""
    costs, accepting, bars = policy.costs, policy.accepting, policy.thresholds
    missed = policy.lost * costs.missed
    if p >= bars.escalate:
        return (1.0 - y) * costs.unneeded
    if p >= bars.offer:
        turned_down = y * (1.0 - accepting.needed) * missed
        return costs.ask + turned_down + (1.0 - y) * accepting.unneeded * costs.unneeded
    return y * missed


class AdviceTrials:
    """For each adviser a ring of its newest judged messages: what they cost with it and without."""

    def __init__(self) -> None:
        self.heard: dict[str, int] = {}
        self._rows: dict[str, NDArray[np.float64]] = {}

    def add(self, name: str, position: int, weight: float, with_it: float, without: float) -> None:
        """Add a judged message: the outcome's position, and what it cost."""
        rows = self._rows.setdefault(name, np.zeros((TRIALS_MAX, 4)))
        count = self.heard.get(name, 0)
        rows[count % TRIALS_MAX] = [position, weight, with_it, without]
        self.heard[name] = count + 1

    def worth(self, name: str) -> dict[str, Any]:
        """What an adviser is worth: cost a judged message with it and without, and what it saves,
        with an interval over conversations; null where too few are judged.
        """
        rows = self._rows.get(name, np.zeros((0, 4)))[: self.heard.get(name, 0)]
        places, groups = np.unique(rows[:, 0], return_inverse=True)
        report: dict[str, Any] = dict.fromkeys(("cost", "cost_without", "saves", "low", "high"))
        report |= {"messages": len(rows), "conversations": len(places)}
        total = float(rows[:, 1].sum())
        if len(places) < CONVERSATIONS_MIN or total <= 0.0:
            return report
        weight = np.bincount(groups, rows[:, 1])
        saved = np.bincount(groups, rows[:, 1] * (rows[:, 3] - rows[:, 2]))
        mean = float(saved.sum()) / total
        residual = saved - mean * weight
        error = Z * math.sqrt(float((residual**2).sum()) * len(places) / (len(places) - 1)) / total
        return report | {
            "cost": float((rows[:, 1] * rows[:, 2]).sum()) / total,
            "cost_without": float((rows[:, 1] * rows[:, 3]).sum()) / total,
            "saves": mean,
            "low": mean - error,
            "high": mean + error,
        }

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        kept = {n: rows[: min(self.heard[n], TRIALS_MAX)] for n, rows in self._rows.items()}
        order = list(kept)
        arrays = {str(place): kept[name].copy() for place, name in enumerate(order)}
        return {"heard": [[name, self.heard[name]] for name in order]}, arrays

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore a dumped state exactly. Raises ValueError for what cannot be a state."""
        heard, kept = {}, {}
        for place, (name, count) in enumerate(meta["heard"]):
            rows = np.asarray(arrays[str(place)], np.float64)
            if rows.shape != (min(int(count), TRIALS_MAX), 4):
                raise ValueError(f"{count} trials of advice do not fit {rows.shape} rows")
            kept[str(name)] = np.zeros((TRIALS_MAX, 4))
            kept[str(name)][: len(rows)] = rows
            heard[str(name)] = int(count)
        self.heard, self._rows = heard, kept
