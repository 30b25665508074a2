"""What each challenger would have saved, counted once per judged conversation, and kept.

The count goes on from where it was stored, with the position up to which it goes, so a clock that
starts anew neither forgets evidence nor counts any twice. It speaks of one champion: another
champion, another count.
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
    harmed,
    objections,
)
from learning.estimation.audit_sampling import DISAGREEMENT
from learning.ledger.model_state import ModelState
from learning.measures.prequential import Scores, paired
from learning.measures.scores import measures
from learning.monitoring.promotion_evidence import (
    FixedChallengerTest,
    LearningChallengerTest,
    gains,
)
from service.versions.challengers.challenger_lines import OpenChallenger

DAY = 86_400
SEGMENTS_MAX = 200
"""Segments told apart in one count; later ones are not."""


@dataclass(slots=True)
class ChallengerComparison:
    """A challenger's count against one champion, since ledger position `opened`."""

    test: FixedChallengerTest | LearningChallengerTest
    against: int
    opened: int
    position: int
    segments: dict[str, SegmentCount]

    @classmethod
    def of(cls, row: Any, terms: PromotionTerms, against: int) -> ChallengerComparison:
        """Taken up where it was stored, or begun against the champion of a switch.

        By the product form for a frozen challenger, by the empirical-Bernstein form for one that
        learns. Gains are in units of the greatest cost; a propensity below DISAGREEMENT weighs no
        more than that.
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
        return {
            "against": self.against,
            "opened": self.opened,
            "position": self.position,
            "test": self.test.dump(),
            "segments": {n: [t.judged, t.total, t.squares] for n, t in self.segments.items()},
        }

    def learn(
        self, champion: ModelState, challenger: ModelState, facts: Mapping[int, JudgedOutcome]
    ) -> None:
        """Count what was judged since: each by the inverse of its propensity, at most twofold."""
        costs = champion.policy.costs
        unit = max(costs.unneeded, costs.missed)
        bar = champion.policy.costing.escalate
        a, b = paired(
            champion.window.scores(since=self.position),
            challenger.window.scores(since=self.position),
        )
        for position, gain in gains(a, b, bar, costs.unneeded / unit, costs.missed / unit):
            fact = facts.get(position)
            if fact is None or not fact.counts:
                continue
            propensity = max(fact.propensity, DISAGREEMENT)
            self.test.learn(gain, propensity)
            for name in fact.segments:
                if name in self.segments or len(self.segments) < SEGMENTS_MAX:
                    self.segments.setdefault(name, SegmentCount()).add(gain / propensity)
        self.position = champion.position

    def proven(self, terms: PromotionTerms) -> bool:
        if isinstance(self.test, FixedChallengerTest):
            return self.test.proven(terms.alpha, CHALLENGERS_MAX)
        return self.test.proven()


def comparison_json(
    comparison: ChallengerComparison,
    challenger: OpenChallenger,
    champion: ModelState,
    switched_at: float,
    facts: Mapping[int, JudgedOutcome],
) -> dict[str, Any]:
    """What is to be reported of a contest, and whether anything speaks against promoting."""
    terms, row, now = champion.policy.switching, challenger.row, time.time()
    costs = champion.policy.costs
    unit = max(costs.unneeded, costs.missed)
    test = comparison.test
    a, b = paired(champion.window.scores(), challenger.model_state.window.scores())
    since = max(row.opened_at, switched_at)
    evidence = PromotionEvidence(
        comparison.proven(terms),
        test.conversations,
        (now - since) / DAY,
        (now - switched_at) / DAY,
        _ece(b, facts, comparison.opened),
        _ece(a, facts, comparison.opened),
        tuple(harmed(comparison.segments, terms)),
    )
    problems = objections(evidence, terms)
    description = {
        name: getattr(row, name) for name in ("slot", "version", "recipe", "frozen", "why")
    }
    result: dict[str, Any] = description | {
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
        "objections": problems,
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


def _ece(scores: Scores, facts: Mapping[int, JudgedOutcome], since: int) -> float | None:
    """Calibration error of what was scored since a position, by inverse propensity."""
    outcomes = [facts.get(int(position)) for position in scores.position]
    weight = [
        w / f.propensity if f is not None and f.propensity and f.position > since else 0.0
        for f, w in zip(outcomes, scores.weight, strict=True)
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
