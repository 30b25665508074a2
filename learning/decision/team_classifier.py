"""The model that suggests a team, and how right it was, lesson by lesson, before it learned each.

Part of a standing and folded like the rest: an outcome's entry says which team its conversation
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
from learning.decision.routing import Suggestion
from learning.models.softmax import SoftmaxRegression

WEIGHTS: Mapping[str, float] = {"agent": 1.0, "transfer": 1.0, "stayed": 0.1}
"""How much it teaches that an agent named the team, moved the handoff there, or left it there."""

SURE_AFTER = 5
"""A team is suggested only once so many conversations are known to have been its own."""

LESSONS = 2048
TEAMS_MAX = 64
_RIGHT = ("model", "route", "rules", "frequent")


class TeamClassifier:
    """Suggests a team for a state. Learns from states with their teams."""

    def __init__(self) -> None:
        self.model = SoftmaxRegression()

    def suggest(self, state: State, among: Collection[str]) -> Suggestion | None:
        """The likeliest of some teams, as far as they are known well; None where none is.

        What agents call a team need not be one: only those that the policy speaks of are asked for.
        """
        counts = self.model.counts
        sure = [team for team, count in counts.items() if count >= SURE_AFTER and team in among]
        if not sure:
            return None
        shares = self.model.predict_proba_one(team_features(state))
        likeliest = max(sure, key=lambda team: shares[team])
        return Suggestion(likeliest, shares[likeliest])

    @property
    def frequent(self) -> str | None:
        """The team most often learned; of equals the one known longest."""
        counts = self.model.counts
        return max(counts, key=lambda team: counts[team], default=None)

    def learn(self, state: State, team: str, how: str) -> None:
        """Learn that a conversation of this state was the work of a team, known `how`."""
        self.model.learn_one(team_features(state), team, WEIGHTS[how])

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return self.model.dump()

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        if not all(isinstance(label, str) for label in meta["labels"]):
            raise ValueError("a team's name is not a text")
        self.model.load(meta, arrays)


@dataclass(frozen=True, slots=True)
class RoutingTrial:
    """How one lesson was routed before it was learned: which of them named the right team?

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
    """A bounded record of test-then-learn routing: a ring of the newest, and totals.

    Only what agents said or moved is in it: that a handoff stayed where it was routed would prove
    any routing right. `by_team` counts, of each true team, the lessons and those routed right.
    """

    tested: int = 0
    right: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_RIGHT, 0))
    by_team: dict[str, list[int]] = field(default_factory=dict)
    _rows: NDArray[np.float64] = field(default_factory=lambda: np.zeros((LESSONS, 2 + len(_RIGHT))))

    def add(self, position: int, tried: RoutingTrial) -> None:
        """Remember how the lesson at a ledger position was routed before it was learned."""
        hits = [float(getattr(tried, name)) for name in _RIGHT]
        self._rows[self.tested % LESSONS] = [position, tried.confidence, *hits]
        self.tested += 1
        for name in _RIGHT:
            self.right[name] += getattr(tried, name)
        if tried.team not in self.by_team and len(self.by_team) >= TEAMS_MAX:
            del self.by_team[next(iter(self.by_team))]
        counted = self.by_team.setdefault(tried.team, [0, 0])
        counted[0] += 1
        counted[1] += tried.route

    def rows(self) -> dict[str, NDArray[np.float64]]:
        """The newest lessons, oldest first: `position`, `confidence`, and 0 or 1 for each way."""
        kept = min(self.tested, LESSONS)
        order = np.arange(self.tested - kept, self.tested) % LESSONS
        return dict(zip(("position", "confidence", *_RIGHT), self._rows[order].T, strict=True))

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        kept = min(self.tested, LESSONS)
        named = [[team, *counts] for team, counts in self.by_team.items()]
        meta = {"tested": self.tested, "right": dict(self.right), "by_team": named}
        return meta, {"rows": self._rows[:kept].copy()}

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
    """Names and values of a state. Pure, bounded, finite, in an order of their own."""
    newest = state.user.words
    spoken: dict[str, float] = dict.fromkeys(newest, 1.0)
    faint = 1.0
    for heard in reversed(state.user.distinct_words[:-1]):
        faint *= FADING
        for word in sorted(heard):
            spoken.setdefault(word, faint)
    kept = dict(sorted(list(spoken.items())[:WORDS_MAX]))
    length = math.sqrt(sum(value * value for value in kept.values())) or 1.0
    found = {f"said={word}": NEWEST * value / length for word, value in kept.items()}
    pairs = sorted({f"said={a}_{b}" for a, b in pairwise(newest)})
    found.update(dict.fromkeys(pairs, 1.0 / math.sqrt(max(len(pairs), 1))))
    if state.report is not None and state.report.intent:
        found["intent=" + state.report.intent[:64]] = 1.0
    found.update(dict.fromkeys(["tried=" + tried[:64] for tried in state.attempts], 1.0))
    found.update(dict.fromkeys(["topic=" + topic for topic in state.signals.topics], 1.0))
    for name, value in state.attributes[:16]:
        if isinstance(value, str):
            found[f"attribute={name[:32]}_{value[:32]}"] = 1.0
    return found
