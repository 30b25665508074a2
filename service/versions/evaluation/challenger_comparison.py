"""Sequential test of champion against challenger by what conversations cost, in the order of the
world (`learning.monitoring.ordered_comparison`), with the inverse of recorded propensities.

The state is stored with the moment up to which it goes, so a restart neither loses evidence nor
counts any twice. It belongs to one champion: another champion, another comparison.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.evaluation.decision_costs import JudgedOutcome
from experiments.evaluation.metric_intervals import noise_floor
from learning.decision.promotion_terms import (
    PromotionEvidence,
    PromotionTerms,
    SegmentCount,
    alpha_share,
    harmed_segments,
    objections,
)
from learning.estimation.audit_sampling import DISAGREEMENT
from learning.estimation.decision_loss import DecisionLoss
from learning.ledger.model_state import ModelState
from learning.measures.prequential import Scores, pair_scores
from learning.measures.scores import measures
from learning.monitoring.ordered_comparison import DifferingConversation, OrderedComparison
from learning.monitoring.promotion_evidence import FixedChallengerTest, LearningChallengerTest
from service.versions.challengers.challenger_lines import OpenChallenger

DAY = 86_400
SEGMENTS_MAX = 200
"""Segments distinguished in one comparison; later ones are ignored."""


@dataclass(slots=True)
class ChallengerComparison:
    """The ordered comparison of one challenger with one champion, since ledger position `opened`.

    `number` counts the comparisons of the workspace: alpha is spent over all of them. It goes up to
    `position` of the ledger and to the moment `until` of the world; `coin` says whether the
    disagreement draw had its full chance at the last sampling. `segments` are those of the
    conversations folded for good.
    """

    ordered: OrderedComparison
    against: int
    opened: int
    number: int
    position: int
    until: float
    judged: int = 0
    coin: bool = True
    segments: dict[str, SegmentCount] = field(default_factory=dict)

    @staticmethod
    def is_begun(row: Any, against: int) -> bool:
        """Whether a challenger's row has its comparison with the champion of switch `against`."""
        return row.duel.get("against") == against and "number" in row.duel

    @classmethod
    def of(
        cls, row: Any, terms: PromotionTerms, against: int, number: int, switched_at: float
    ) -> ChallengerComparison:
        """Load a comparison from a challenger's row, or begin the `number`th of the workspace,
        against the champion of switch `against`, which was at `switched_at`.

        Product martingale for a frozen challenger, empirical-Bernstein confidence sequence for one
        that learns (`learning.monitoring.promotion_evidence`). Gains are in units of the greatest
        difference.
        """
        stored, is_begun = row.duel, cls.is_begun(row, against)
        number = int(stored["number"]) if is_begun else number
        test: FixedChallengerTest | LearningChallengerTest = FixedChallengerTest(DISAGREEMENT, 1.0)
        if not row.frozen:
            test = LearningChallengerTest(1.0 / DISAGREEMENT, terms.alpha * alpha_share(number))
        ordered = OrderedComparison(test)
        if not is_begun:
            since = max(int(stored.get("opened", row.position)), against)
            return cls(ordered, against, since, number, since, max(row.opened_at, switched_at))
        ordered.load(stored["ordered"])
        return cls(
            ordered,
            against,
            int(stored["opened"]),
            number,
            int(stored["position"]),
            float(stored["until"]),
            int(stored["judged"]),
            bool(stored["coin"]),
            {name: SegmentCount(*sums) for name, sums in stored["segments"].items()},
        )

    def body(self) -> dict[str, Any]:
        """The comparison as JSON, for the challenger's row."""
        names = ("against", "opened", "number", "position", "until", "judged", "coin")
        return {name: getattr(self, name) for name in names} | {
            "ordered": self.ordered.dump(),
            "segments": {n: [t.judged, t.total, t.squares] for n, t in self.segments.items()},
        }

    def differ(
        self,
        name: str,
        conversation: str,
        at: float,
        propensity: float,
        gains: tuple[float, float],
        segments: tuple[str, ...] = (),
    ) -> None:
        """Add a conversation on which the two differ."""
        item = DifferingConversation(name, conversation, at, 0, propensity, *gains, segments)
        self.ordered.differ(item)

    def fold(self, now: float, patience: float) -> None:
        """Fold the oldest settled conversations for good, so that few are held."""
        for item, gain in self.ordered.fold(now, patience):
            _count(self.segments, item, gain)

    def segment_counts(self, now: float, patience: float) -> dict[str, SegmentCount]:
        """The gains by segment, of all conversations that are settled."""
        segments = {
            name: SegmentCount(count.judged, count.total, count.squares)
            for name, count in self.segments.items()
        }
        for item, gain in self.ordered.settled(now, patience):
            _count(segments, item, gain)
        return segments


def _count(segments: dict[str, SegmentCount], item: DifferingConversation, gain: float) -> None:
    for name in item.segments:
        if name in segments or len(segments) < SEGMENTS_MAX:
            segments.setdefault(name, SegmentCount()).add(gain / item.propensity)


def is_proven(
    test: FixedChallengerTest | LearningChallengerTest, terms: PromotionTerms, number: int
) -> bool:
    """Whether the challenger is proven better, at its share of alpha."""
    if isinstance(test, FixedChallengerTest):
        return test.proven(terms.alpha * alpha_share(number))
    return test.proven()


def comparison_json(
    comparison: ChallengerComparison,
    challenger: OpenChallenger,
    champion: ModelState,
    switched_at: float,
    outcomes: Mapping[int, JudgedOutcome],
) -> dict[str, Any]:
    """A comparison as JSON for the report: measures, segments, and objections to a promotion."""
    terms, row, now = champion.policy.switching, challenger.row, time.time()
    unit, patience = DecisionLoss.of(champion.policy).unit, terms.unanswered_days * DAY
    test = comparison.ordered.evidence(now, patience)
    segments = comparison.segment_counts(now, patience)
    evidence = _promotion_evidence(
        comparison, challenger, champion, switched_at, outcomes, test, segments
    )
    names = ("slot", "version", "recipe", "frozen", "why")
    result: dict[str, Any] = {name: getattr(row, name) for name in names} | {
        "challenger": row.id,
        "role": challenger.role,
        "since": comparison.opened,
        "judged_conversations": evidence.judged,
        "conversations": test.conversations,
        "differing": test.differing,
        "drawn": evidence.drawn,
        "unanswered": evidence.unanswered,
        "out_of_budget": comparison.ordered.out_of_budget,
        "days": evidence.days,
        "proven_better": evidence.proven,
        "ece": evidence.ece,
        "champion_ece": evidence.champion_ece,
        "harmed": list(evidence.harmed),
        "objections": objections(evidence, terms),
        "segments": {
            name: {"judged": t.judged, "saves": t.total / t.judged * unit}
            for name, t in sorted(segments.items())
            if t.judged >= terms.segment_min
        },
    }
    if isinstance(test, FixedChallengerTest):
        needed = 1.0 / (terms.alpha * alpha_share(comparison.number))
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
    test: FixedChallengerTest | LearningChallengerTest,
    segments: Mapping[str, SegmentCount],
) -> PromotionEvidence:
    terms, now = champion.policy.switching, time.time()
    a, b = pair_scores(champion.window.scores(), challenger.model_state.window.scores())
    since = max(challenger.row.opened_at, switched_at)
    ece, by_chance = _ece(b, outcomes, comparison.opened)
    return PromotionEvidence(
        is_proven(test, terms, comparison.number),
        comparison.judged,
        (now - since) / DAY,
        (now - switched_at) / DAY,
        ece,
        _ece(a, outcomes, comparison.opened)[0],
        tuple(harmed_segments(segments, terms)),
        len(comparison.ordered.items),
        comparison.ordered.waiting,
        by_chance,
    )


def _ece(
    scores: Scores, outcomes: Mapping[int, JudgedOutcome], since: int
) -> tuple[float | None, float]:
    """Expected calibration error since a position, weighted by inverse propensity, and what a
    perfect line would show by chance on as many.
    """
    judged = [outcomes.get(int(position)) for position in scores.position]
    weight = [
        w / f.propensity if f is not None and f.propensity and f.position > since else 0.0
        for f, w in zip(judged, scores.weight, strict=True)
    ]
    ece = measures(scores.probability, scores.label, weight).get("ece")
    return ece, noise_floor(scores.probability, weight)


def _sentence(comparison: Mapping[str, Any]) -> str:
    version, conversations = comparison["version"], comparison["judged_conversations"]
    if not comparison["proven_better"]:
        return f"after {conversations} judged conversations version {version} is not proven better"
    low = comparison.get("saves_at_least")
    saved = "" if low is None else f": it saves at least {low:.3g} a conversation"
    sentence = (
        f"version {version} is proven better after {conversations} judged conversations{saved}"
    )
    if comparison["objections"]:
        return f"{sentence}; but {', and '.join(comparison['objections'])}"
    return sentence
