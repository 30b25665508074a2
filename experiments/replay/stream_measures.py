"""Prequential measures of a replayed stream; nothing is chosen in hindsight.

A probability counts as it was when its message was scored; the threshold for F1 and for handoff
points is the best one on the labels of earlier conversations only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.datasets.episode import Episode
from learning.measures.scores import OnlineThreshold, handoff_match, measures

HALF = ("auc", "average_precision", "log_loss", "ece", "f1")
WHOLE = ("auc", "average_precision", "log_loss", "brier", "ece", "f1")
TOLERANCES = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class StreamReport:
    """The figures of a replay. A figure that is undefined (AUC of one class) is None."""

    conversations: int
    messages: int
    labels: int
    measures: Mapping[str, float | None]
    second_half: Mapping[str, float | None]
    decisions_per_second: float | None
    position: int
    digest: str
    gt: Mapping[str, float] | None = None

    def json(self) -> dict[str, Any]:
        """The report as `baton replay --json` prints it."""
        report: dict[str, Any] = {
            "conversations": self.conversations,
            "messages": self.messages,
            "labels": self.labels,
            **self.measures,
            "decisions_per_second": self.decisions_per_second,
            "position": self.position,
            "digest": self.digest,
            "second_half": dict(self.second_half),
        }
        return report if self.gt is None else report | {"gt": dict(self.gt)}


class StreamMeasures:
    """Accumulates conversations and computes their measures."""

    def __init__(self, *, handoffs: bool = False) -> None:
        self.conversations = 0
        self.messages = 0
        self.decisions = 0
        self.probabilities: list[float] = []
        self.labels: list[float] = []
        self._decided: list[bool] = []
        self._threshold = OnlineThreshold()
        self._matches: dict[int, list[float]] | None = {t: [] for t in TOLERANCES}
        if not handoffs:
            self._matches = None

    def add(self, episode: Episode, probabilities: Mapping[int, float]) -> None:
        """A conversation that has ended, with the probability of each scored place.

        A labelled place without a probability (a person was there) says nothing of the model.
        """
        self.conversations += 1
        self.messages += len(episode.messages)
        self.decisions += len(probabilities)
        labelled = [(place, y) for place, y in episode.labels if place in probabilities]
        decided = {place: self._threshold.decides(probabilities[place]) for place, _ in labelled}
        if self._matches is not None:
            gold = [place for place, label in labelled if label > 0.5]
            chosen = [place for place, yes in decided.items() if yes]
            for tolerance, matches in self._matches.items():
                matches.append(handoff_match(gold, chosen, tolerance))
        for place, label in labelled:
            self.probabilities.append(probabilities[place])
            self.labels.append(label)
            self._decided.append(decided[place])
            self._threshold.learn(probabilities[place], label)

    def newest_loss(self, lessons: int = 500) -> float | None:
        """Log loss of the newest labels, in nats: what a progress bar shows falling."""
        newest = measures(self.probabilities[-lessons:], self.labels[-lessons:])
        return newest.get("log_loss")

    def report(self, *, seconds: float, position: int, digest: str) -> StreamReport:
        """All figures. The second half is that of the labels, in the order of conversations."""
        half = len(self.labels) // 2
        return StreamReport(
            conversations=self.conversations,
            messages=self.messages,
            labels=len(self.labels),
            measures=self._figures(0, WHOLE),
            second_half=self._figures(half, HALF),
            decisions_per_second=self.decisions / seconds if seconds > 0.0 else None,
            position=position,
            digest=digest,
            gt=self._points(),
        )

    def _figures(self, first: int, names: tuple[str, ...]) -> dict[str, float | None]:
        figures: dict[str, float | None] = dict(
            measures(self.probabilities[first:], self.labels[first:])
        )
        truth = np.array(self.labels[first:], np.float64) > 0.5
        decided = np.array(self._decided[first:], bool)
        either = int(truth.sum() + decided.sum())
        figures["f1"] = 2.0 * int((truth & decided).sum()) / either if either else None
        return {name: figures.get(name) for name in names}

    def _points(self) -> dict[str, float] | None:
        if not self._matches or not self.conversations:
            return None
        return {str(t): sum(matches) / len(matches) for t, matches in self._matches.items()}
