"""Feedback regimes (partial, delayed labels): full labels, or those a service in use would get.

A *full* learner gets the label of every message when its conversation ends. In use, the policy
hands over at each message whose calibrated probability reaches the threshold of its costs, and
where one of its rules says so; the agent tells the labels of the stretch since the last return and
gives the customer back to the bot, so that the recorded conversation can go on. What follows the
last handoff is kept: unknown, unless its miss is *caught*, or an audit draws it. Audits are the two
Bernoulli draws of `learning.estimation.audit_sampling`, made for some kept stretches at a time;
their propensities weigh in the calibrator alone. A fresh model hardly ever hands over, so the first
conversations are reviewed in full. Labels are learned when the conversation ends, those of audits
when they are drawn.

What is measured is the same for every regime: the probability of every message before any of its
labels, whether or not the learner is ever told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.benchmarks.inputs.feature_rows import FeatureRows, Floats, ModelLine
from experiments.evaluation.metric_intervals import noise_floor
from learning.decision.policy import Costs
from learning.estimation.audit_sampling import AuditCandidate, draw, uniform_variate
from learning.measures.scores import measures
from learning.models.recipes import DEFAULT

COSTS = Costs()
THRESHOLD = COSTS.unneeded / (COSTS.unneeded + COSTS.missed)
AUDITED = 0.02
"""Share of the kept stretches that are audited, half by each draw."""

BATCH = 20
"""Kept stretches whose audits are drawn together, so a label comes so late at most."""


@dataclass(frozen=True, slots=True)
class FeedbackRegime:
    """`labels`: all; random (a `share` of the conversations, whatever is scored); stretch, what an
    agent tells who reads back; or escalated, the escalating messages alone. `silence`: the share
    of a lesson's weight with which whole conversations that were kept, not caught and not drawn
    teach that nobody was needed.
    """

    name: str
    labels: str = "stretch"
    audited: float = 0.0
    caught: float = 0.0
    share: float = 1.0
    warm: int = 0
    silence: float = 0.0


WARM = 50
"""Conversations with full labels before a service relies on its own handoffs."""

FULL = FeedbackRegime("full labels", "all")
AUDITS = "escalated + 2 % audits"
SERVED = tuple(
    FeedbackRegime(f"{AUDITS}, {caught:.0%} caught", audited=AUDITED, caught=caught, warm=WARM)
    for caught in (0.0, 0.1, 0.3)
)
COLD = FeedbackRegime(f"{AUDITS}, no warm start", audited=AUDITED)
SPARSE = FeedbackRegime("escalating messages + 2 % audits", "escalated", audited=AUDITED, warm=WARM)
ALONE = FeedbackRegime("escalated only", warm=WARM)
REGIMES = (FULL, ALONE, *SERVED, COLD, SPARSE)
SHARES = (0.1, 0.25, 0.5, 0.75)
RANDOM = tuple(FeedbackRegime(f"random {share:.0%}", "random", share=share) for share in SHARES)


@dataclass(slots=True)
class RunResult:
    """One pass: of each message the calibrated probability and the label. `starts` are where the
    conversations begin; `labels` counts what was told, `asked` those of them that audits asked for.
    """

    probability: list[float] = field(default_factory=list)
    label: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    labels: int = 0
    asked: int = 0

    def half(self) -> tuple[Floats, Floats]:
        """Probabilities and labels of the second half of the conversations."""
        first = self.starts[len(self.starts) // 2]
        return np.array(self.probability[first:]), np.array(self.label[first:])

    def figures(self) -> dict[str, Any]:
        """Measures of the second half, but for those named otherwise."""
        p, y = self.half()
        late, whole = measures(p, y), measures(self.probability, self.label)
        return {
            "conversations": len(self.starts),
            "messages": len(self.label),
            "labels": self.labels,
            "asked": self.asked,
            "auc": late.get("auc"),
            "ap": late.get("average_precision"),
            "log_loss": late.get("log_loss"),
            "brier": late.get("brier"),
            "ece": late.get("ece"),
            "ece_by_chance": noise_floor(p),
            "auc_whole": whole.get("auc"),
            "ap_whole": whole.get("average_precision"),
            "escalated": float((p >= THRESHOLD).mean()),
            "cost": _cost(p, y),
        }


def _cost(p: Floats, y: Floats) -> float:
    """Mean cost of a message's decision at the threshold of the costs."""
    up, needed = p >= THRESHOLD, y > 0.5
    return float((COSTS.unneeded * (up & ~needed) + COSTS.missed * (~up & needed)).mean())


def play(
    talks: Sequence[FeatureRows],
    regime: FeedbackRegime,
    seed: int,
    recipe: str = DEFAULT,
    line: ModelLine | None = None,
) -> RunResult:
    """Test, then learn what the regime tells, conversation after conversation."""
    line, result = line or ModelLine(recipe), RunResult()
    waiting: list[tuple[FeatureRows, list[int], float]] = []
    for number, talk in enumerate(talks):
        scores = [line.score(row) for row in talk.rows]
        result.starts.append(len(result.label))
        result.probability += scores
        result.label += talk.labels
        labelled = _labelled_numbers(talk, scores, regime, seed, warm=number < regime.warm)
        if labelled:
            line.learn(talk, labelled)
            result.labels += len(labelled)
        if (regime.audited or regime.silence) and len(labelled) < len(scores):
            rest = sorted(set(range(len(scores))).difference(labelled))
            waiting.append((talk, rest, max(scores[n] for n in rest)))
        if len(waiting) >= BATCH:
            _audit(line, result, waiting, regime, seed)
            waiting = []
    return result


def _labelled_numbers(
    talk: FeatureRows, scores: Sequence[float], regime: FeedbackRegime, seed: int, *, warm: bool
) -> list[int]:
    """Which of a conversation's messages are labelled when it ends."""
    every = list(range(len(scores)))
    if regime.labels == "all" or warm:
        return every
    if regime.labels == "random":
        return every if uniform_variate(str(seed), "random", talk.id) < regime.share else []
    escalated = [n for n in every if scores[n] >= THRESHOLD or talk.ruled[n]]
    labelled = (
        escalated
        if regime.labels == "escalated"
        else every[: escalated[-1] + 1]
        if escalated
        else []
    )
    missed = any(talk.labels[n] > 0.5 for n in set(every).difference(labelled))
    if missed and uniform_variate(str(seed), "caught", talk.id) < regime.caught:
        return every
    return labelled


def _audit(
    line: ModelLine,
    result: RunResult,
    waiting: Sequence[tuple[FeatureRows, list[int], float]],
    regime: FeedbackRegime,
    seed: int,
) -> None:
    share = regime.audited
    unheard = [AuditCandidate(talk.id, probability) for talk, _, probability in waiting]
    draws = draw(unheard, seed=str(seed), uniform_share=share / 2, targeted_share=share / 2)
    for (talk, rest, _), audit in zip(waiting, draws, strict=True):
        if audit.drawn:
            line.learn(talk, rest, audit.propensity)
            result.labels += len(rest)
            result.asked += len(rest)
        elif regime.silence and len(rest) == len(talk.rows):
            line.learn_silence(talk, regime.silence)
