"""Sequential test of champion against challenger: costs saved per judged conversation, weighted by
inverse propensity, each counted once.

The sums are stored with the position up to which they go, so a restart neither loses evidence nor
counts any twice. They belong to one champion: another champion, another count.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.evaluation.decision_costs import JudgedOutcome
from learning.decision.promotion_terms import (
    CHALLENGERS_MAX,
    PromotionEvidence,
    PromotionTerms,
    SegmentCount,
    harmed_segments,
    objections,
)
from learning.estimation.audit_sampling import DISAGREEMENT
from learning.ledger.model_state import ModelState
from learning.measures.prequential import Scores, pair_scores
from learning.measures.scores import measures
from learning.monitoring.promotion_evidence import (
    FixedChallengerTest,
    LearningChallengerTest,
    gains,
)
from service.versions.challengers.challenger_lines import OpenChallenger

DAY = 86_400
SEGMENTS_MAX = 200
"""Segments distinguished in one comparison; later ones are ignored."""


@dataclass(slots=True)
class ChallengerComparison:
    """Test statistic and counts by segment of one challenger against one champion, since ledger
    position `opened`.
    """

    test: FixedChallengerTest | LearningChallengerTest
    against: int
    opened: int
    position: int
    segments: dict[str, SegmentCount]

    @classmethod
    def of(cls, row: Any, terms: PromotionTerms, against: int) -> ChallengerComparison:
        """Load a comparison from a challenger's row, or begin one against the champion of switch
        `against`.

        Product martingale for a frozen challenger, empirical-Bernstein confidence sequence for one
        that learns (`learning.monitoring.promotion_evidence`). Gains are in units of the greatest
        cost; propensities are clipped below at DISAGREEMENT.
        """
        level = terms.alpha / CHALLENGERS_MAX
        test: FixedChallengerTest | LearningChallengerTest = FixedChallengerTest(DISAGREEMENT, 1.0)
        if not row.frozen:
            test = LearningChallengerTest(1.0 / DISAGREEMENT, level)
        stored = row.duel
        if stored.get("against") != against:
            since = max(int(stored.get("opened", row.position)), against)
            return cls(test, against, since, since, {})
        test.load(stored["test"])
        segments = {name: SegmentCount(*sums) for name, sums in stored["segments"].items()}
        return cls(test, against, int(stored["opened"]), int(stored["position"]), segments)

    def body(self) -> dict[str, Any]:
        """The comparison as JSON, for the challenger's row."""
        return {
            "against": self.against,
            "opened": self.opened,
            "position": self.position,
            "test": self.test.dump(),
            "segments": {n: [t.judged, t.total, t.squares] for n, t in self.segments.items()},
        }

    def learn(
        self, champion: ModelState, challenger: ModelState, outcomes: Mapping[int, JudgedOutcome]
    ) -> None:
        """Add the gains of conversations judged since, each by the inverse of its propensity."""
        costs = champion.policy.costs
        unit = max(costs.unneeded, costs.missed)
        bar = champion.policy.cost_thresholds.escalate
        a, b = pair_scores(
            champion.window.scores(since=self.position),
            challenger.window.scores(since=self.position),
        )
        for position, gain in gains(a, b, bar, costs.unneeded / unit, costs.missed / unit):
            outcome = outcomes.get(position)
            if outcome is None or not outcome.counts:
                continue
            propensity = max(outcome.propensity, DISAGREEMENT)
            self.test.learn(gain, propensity)
            for name in outcome.segments:
                if name in self.segments or len(self.segments) < SEGMENTS_MAX:
                    self.segments.setdefault(name, SegmentCount()).add(gain / propensity)
        self.position = champion.position

    def proven(self, terms: PromotionTerms) -> bool:
        """Whether the challenger is proven better, at level alpha over CHALLENGERS_MAX
        (Bonferroni).
        """
        if isinstance(self.test, FixedChallengerTest):
            return self.test.proven(terms.alpha, CHALLENGERS_MAX)
        return self.test.proven()


def comparison_json(
    comparison: ChallengerComparison,
    challenger: OpenChallenger,
    champion: ModelState,
    switched_at: float,
    outcomes: Mapping[int, JudgedOutcome],
) -> dict[str, Any]:
    """A comparison as JSON for the report: measures, segments, and objections to a promotion."""
    terms, row, test = champion.policy.switching, challenger.row, comparison.test
    costs = champion.policy.costs
    unit = max(costs.unneeded, costs.missed)
    evidence = _promotion_evidence(comparison, challenger, champion, switched_at, outcomes)
    names = ("slot", "version", "recipe", "frozen", "why")
    result: dict[str, Any] = {name: getattr(row, name) for name in names} | {
        "challenger": row.id,
        "role": challenger.role,
        "since": comparison.opened,
        "judged_conversations": test.conversations,
        "differing": test.differing,
        "days": evidence.days,
        "proven_better": evidence.proven,
        "ece": evidence.ece,
        "champion_ece": evidence.champion_ece,
        "harmed": list(evidence.harmed),
        "objections": objections(evidence, terms),
        "segments": {
            name: {"judged": t.judged, "saves": t.total / t.judged * unit}
            for name, t in sorted(comparison.segments.items())
            if t.judged >= terms.segment_min
        },
    }
    if isinstance(test, FixedChallengerTest):
        needed = CHALLENGERS_MAX / terms.alpha
        result |= {"form": "product", "evidence": test.evidence, "evidence_needed": needed}
    else:
        low = test.low * unit if test.conversations else None
        result |= {"form": "empirical Bernstein", "saves_at_least": low, "alpha": test.alpha}
    return result | {"sentence": _sentence(result)}


def _promotion_evidence(
    comparison: ChallengerComparison,
    challenger: OpenChallenger,
    champion: ModelState,
    switched_at: float,
    outcomes: Mapping[int, JudgedOutcome],
) -> PromotionEvidence:
    terms, now = champion.policy.switching, time.time()
    a, b = pair_scores(champion.window.scores(), challenger.model_state.window.scores())
    since = max(challenger.row.opened_at, switched_at)
    return PromotionEvidence(
        comparison.proven(terms),
        comparison.test.conversations,
        (now - since) / DAY,
        (now - switched_at) / DAY,
        _ece(b, outcomes, comparison.opened),
        _ece(a, outcomes, comparison.opened),
        tuple(harmed_segments(comparison.segments, terms)),
    )


def _ece(scores: Scores, outcomes: Mapping[int, JudgedOutcome], since: int) -> float | None:
    """Expected calibration error since a position, weighted by inverse propensity."""
    judged = [outcomes.get(int(position)) for position in scores.position]
    weight = [
        w / f.propensity if f is not None and f.propensity and f.position > since else 0.0
        for f, w in zip(judged, scores.weight, strict=True)
    ]
    return measures(scores.probability, scores.label, weight).get("ece")


def _sentence(comparison: Mapping[str, Any]) -> str:
    version, conversations = comparison["version"], comparison["judged_conversations"]
    if not comparison["proven_better"]:
        return f"after {conversations} judged conversations version {version} is not proven better"
    low = comparison.get("saves_at_least")
    saved = "" if low is None else f": it saves at least {low:.3g} per judged conversation"
    sentence = (
        f"version {version} is proven better after {conversations} judged conversations{saved}"
    )
    if comparison["objections"]:
        return f"{sentence}; but {', and '.join(comparison['objections'])}"
    return sentence
