"""Team classifier (softmax regression), and its prequential routing scores.

Part of a model state and folded like the rest: an outcome's entry says which team its conversation
belonged to, and how that is known. Agents' own word and transfers count whole; that a handoff
stayed where it had been routed counts little, since many simply do what lies before them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.conversation.state import State
from learning.decision.teams.routing import Suggestion
from learning.models.softmax import SoftmaxRegression

WEIGHTS: Mapping[str, float] = {"agent": 1.0, "transfer": 1.0, "stayed": 0.1}
"""How much it teaches that an agent named the team, moved the handoff there, or left it there."""

SURE_AFTER = 5
"""A team is suggested only once so many conversations are known to have been its own."""

LESSONS = 2048
TEAMS_MAX = 64
_RIGHT = ("model", "route", "rules", "frequent")


class TeamClassifier:
    """Multi-class classifier that suggests a team for a conversation state."""

    def __init__(self) -> None:
        self.model = SoftmaxRegression()

    def suggest(self, state: State, among: Collection[str]) -> Suggestion | None:
        """The most probable of some teams that have enough lessons; None where none has.

        What agents call a team need not be one: only those that the policy speaks of are asked for.
        """
        counts = self.model.counts
        eligible = [team for team, count in counts.items() if count >= SURE_AFTER and team in among]
        if not eligible:
            return None
        probabilities = self.model.predict_proba_one(team_features(state))
        likeliest = max(eligible, key=lambda team: probabilities[team])
        return Suggestion(likeliest, probabilities[likeliest])

    @property
    def frequent(self) -> str | None:
        """The team most often learned; of equals the one known longest."""
        counts = self.model.counts
        return max(counts, key=lambda team: counts[team], default=None)

    def learn(self, state: State, team: str, evidence: str) -> None:
        """Learn that a conversation of this state was the work of a team, known `how`."""
        self.model.learn_one(team_features(state), team, WEIGHTS[evidence])

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return self.model.dump()

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if not all(isinstance(label, str) for label in meta["labels"]):
            raise ValueError("a team's name is not a text")
        self.model.load(meta, arrays)


@dataclass(frozen=True, slots=True)
class RoutingTrial:
    """One lesson routed before it was learned: which of the methods named the right team?

    `model` is the model's own first choice, `route` what the policy made of it, `rules` the policy
    without a model, `frequent` always the most frequent team.
    """

    team: str
    model: bool
    route: bool
    rules: bool
    frequent: bool
    confidence: float = 0.0


@dataclass(slots=True)
class RoutingScores:
    """Prequential routing accuracy: a ring buffer of the newest trials, and totals.

    Only what agents said or moved is in it: that a handoff stayed where it was routed would prove
    any routing right. `by_team` counts, of each true team, the lessons and those routed right.
    """

    tested: int = 0
    right: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_RIGHT, 0))
    by_team: dict[str, list[int]] = field(default_factory=dict)
    _rows: NDArray[np.float64] = field(default_factory=lambda: np.zeros((LESSONS, 2 + len(_RIGHT))))

    def add(self, position: int, trial: RoutingTrial) -> None:
        """Remember how the lesson at a ledger position was routed before it was learned."""
        hits = [float(getattr(trial, name)) for name in _RIGHT]
        self._rows[self.tested % LESSONS] = [position, trial.confidence, *hits]
        self.tested += 1
        for name in _RIGHT:
            self.right[name] += getattr(trial, name)
        if trial.team not in self.by_team and len(self.by_team) >= TEAMS_MAX:
            del self.by_team[next(iter(self.by_team))]
        counts = self.by_team.setdefault(trial.team, [0, 0])
        counts[0] += 1
        counts[1] += trial.route

    def rows(self) -> dict[str, NDArray[np.float64]]:
        """The newest lessons, oldest first: `position`, `confidence`, and 0 or 1 for each way."""
        count = min(self.tested, LESSONS)
        order = np.arange(self.tested - count, self.tested) % LESSONS
        return dict(zip(("position", "confidence", *_RIGHT), self._rows[order].T, strict=True))

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        count = min(self.tested, LESSONS)
        by_team = [[team, *counts] for team, counts in self.by_team.items()]
        meta = {"tested": self.tested, "right": dict(self.right), "by_team": by_team}
        return meta, {"rows": self._rows[:count].copy()}

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        tested, rows = int(meta["tested"]), np.asarray(arrays["rows"], np.float64)
        if rows.shape != (min(tested, LESSONS), 2 + len(_RIGHT)):
            raise ValueError(f"{tested} tests of routing do not fit {rows.shape} rows")
        fresh = RoutingScores(
            tested,
            {name: int(meta["right"][name]) for name in _RIGHT},
            {str(team): [int(all_), int(right)] for team, all_, right in meta["by_team"]},
        )
        fresh._rows[: len(rows)] = rows
        self.tested, self.right, self.by_team = fresh.tested, fresh.right, fresh.by_team
        self._rows = fresh._rows


NEWEST, FADING = 2.0, 0.8
"""Length of the words' vector, and how much fainter each earlier message speaks."""

WORDS_MAX = 192


def team_features(state: State) -> dict[str, float]:
    """Bag-of-words features of a state for the team classifier. Pure, bounded, finite."""
    newest = state.user.words
    weights: dict[str, float] = dict.fromkeys(newest, 1.0)
    weight = 1.0
    for earlier in reversed(state.user.distinct_words[:-1]):
        weight *= FADING
        for word in sorted(earlier):
            weights.setdefault(word, weight)
    bounded = dict(sorted(list(weights.items())[:WORDS_MAX]))
    length = math.sqrt(sum(value * value for value in bounded.values())) or 1.0
    features = {f"said={word}": NEWEST * value / length for word, value in bounded.items()}
    pairs = sorted({f"said={a}_{b}" for a, b in pairwise(newest)})
    features.update(dict.fromkeys(pairs, 1.0 / math.sqrt(max(len(pairs), 1))))
    if state.report is not None and state.report.intent:
        features["intent=" + state.report.intent[:64]] = 1.0
    features.update(dict.fromkeys(["tried=" + attempt[:64] for attempt in state.attempts], 1.0))
    features.update(dict.fromkeys(["topic=" + topic for topic in state.signals.topics], 1.0))
    for name, value in state.attributes[:16]:
        if isinstance(value, str):
            features[f"attribute={name[:32]}_{value[:32]}"] = 1.0
    return features
