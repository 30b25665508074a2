"""Audit sampling: Poisson sampling of conversations for review, with recorded propensities.

Two independent Bernoulli draws for every conversation that closed without a handoff. The *uniform*
draw measures: its propensity does not depend on what was scored, so its answers are a fair sample.
The *targeted* draw teaches (active learning): its propensity is higher where the model was unsure,
and wherever a challenger would have decided otherwise. Both propensities are recorded before
anything is known; nothing is drawn again, and a drawn audit is never dropped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

FLOOR = 0.002
"""Least propensity of the targeted draw."""

SPREAD = 0.5
"""Share of the targeted budget that is spread evenly (phi >= .5: intervals stay bounded)."""

DISAGREEMENT = 0.5
"""Propensity wherever a challenger would have decided otherwise."""


@dataclass(frozen=True, slots=True)
class AuditCandidate:
    """A closed conversation to draw for: highest probability; whether a challenger disagrees."""

    conversation_id: str
    probability: float
    disagreement: bool = False


@dataclass(frozen=True, slots=True)
class Draw:
    """Outcome of the two Bernoulli draws of one conversation, with their propensities."""

    uniform_propensity: float
    targeted_propensity: float
    uniform: bool
    targeted: bool

    @property
    def propensity(self) -> float:
        """Inclusion probability: that either draw succeeds."""
        return 1 - (1 - self.uniform_propensity) * (1 - self.targeted_propensity)

    @property
    def drawn(self) -> bool:
        return self.uniform or self.targeted


def budget_factor(left: float, whole: float) -> float:
    """Factor by which a daily budget lowers the propensities: 1 while half is left, then ever less.

    So propensities sink long before nothing is left, and hardly any conversation is out of reach.
    """
    return min(1.0, max(0.0, 2 * left / whole)) if whole > 0 else 0.0


PLANNED = 0.7
"""Share of a day's reviews that the expected traffic may use up."""

PACE_MIN = 0.05
"""Least factor by what is spent, while anything is left."""


def expected_in_a_day(sampled: int, since_first: float, day: float = 86_400.0) -> float:
    """Conversations expected in a day by those `sampled` in the last one, of which the first was
    so many seconds ago; no more than those before an hour has passed.
    """
    return sampled if since_first < day / 24 else sampled * day / min(day, since_first)


@dataclass(frozen=True, slots=True)
class DailyBudget:
    """A day's reviews: `share` of them is kept for conversations on which lines disagree, for each
    of which up to `each` are requested. `others` and `disagreement_spent` are requested by now.
    `wanted` reviews are expected in a day at full chances, by the traffic of the last.
    """

    per_day: int
    share: float
    each: int
    others: int = 0
    disagreement_spent: int = 0
    wanted: float = 0.0

    @property
    def left(self) -> int:
        """All reviews that are left."""
        return self.per_day - self.others - self.disagreement_spent

    @property
    def _for_disagreement(self) -> int:
        """Those that the disagreement draw may use up: what the others have not left unspent."""
        return self.left - max(0, math.ceil(self.per_day * (1 - self.share)) - self.others)

    @property
    def disagreement(self) -> float:
        """The chance of the disagreement draw: full, or 0 where its share is spent."""
        return DISAGREEMENT if self.share and self._for_disagreement >= self.each else 0.0

    @property
    def pace(self) -> float:
        """The factor of the uniform and the targeted draw; 0 only where nothing is left.

        It is spread over the day by the traffic that is expected, so that hardly any conversation
        is out of reach, however much is kept.
        """
        if self.left < self.each:
            return 0.0
        whole = self.per_day * (1 - self.share)
        spread = min(1.0, PLANNED * whole / self.wanted) if self.wanted else 1.0
        return spread * max(PACE_MIN, budget_factor(min(self.left, whole - self.others), whole))

    def piece(self, most: int) -> int:
        """So many conversations can be drawn one by one without exceeding the budget."""
        left = self._for_disagreement if self.disagreement else self.left
        return min(most, max(1, left // self.each)) if self.left >= self.each else most

    def spend(self, reviews: int, *, disagreement: bool) -> DailyBudget:
        """With so many reviews requested besides."""
        if disagreement and self.disagreement:
            return replace(self, disagreement_spent=self.disagreement_spent + reviews)
        return replace(self, others=self.others + reviews)


def targeted_propensities(
    candidates: Sequence[AuditCandidate], share: float, disagreement: float = DISAGREEMENT
) -> list[float]:
    """Propensities of the targeted draw: mean `share`, but `disagreement` where lines differ.

    pi = clip(b (phi + (1 - phi) u / mean u), floor, 1) with u = sqrt(p (1 - p)).
    """
    if not candidates:
        return []
    if share <= 0:
        return [disagreement if candidate.disagreement else 0.0 for candidate in candidates]
    deviations = [math.sqrt(max(c.probability * (1 - c.probability), 0.0)) for c in candidates]
    mean = sum(deviations) / len(deviations)
    propensities = []
    for candidate, u in zip(candidates, deviations, strict=True):
        pi = share * (SPREAD + (1 - SPREAD) * (u / mean if mean > 0 else 1.0))
        if candidate.disagreement:
            pi = max(pi, disagreement)
        propensities.append(min(max(pi, min(FLOOR, share)), 1.0))
    return propensities


def uniform_variate(seed: str, stream: str, conversation_id: str) -> float:
    """Reproducible pseudorandom number in [0, 1), by SHA-256 of seed, stream and conversation."""
    text = f"{seed}\n{stream}\n{conversation_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big") / 2**56


def draw(
    candidates: Sequence[AuditCandidate],
    *,
    seed: str,
    uniform_share: float,
    targeted_share: float,
    disagreement: float = DISAGREEMENT,
) -> list[Draw]:
    """Draw uniform and targeted audits for each conversation, reproducibly by `seed`.

    The shares are propensities already lowered to the budget (`budget_factor`).
    """
    return [
        Draw(
            uniform_share,
            pi,
            uniform_variate(seed, "uniform", candidate.conversation_id) < uniform_share,
            uniform_variate(seed, "targeted", candidate.conversation_id) < pi,
        )
        for candidate, pi in zip(
            candidates, targeted_propensities(candidates, targeted_share, disagreement), strict=True
        )
    ]


def caught_propensity(audit: tuple[bool, float] | None) -> float:
    """The propensity with which a miss that came to light by itself counts as a sample: by its
    audit, as (drawn, propensity).

    One that was not sampled yet stands for itself. One that was drawn has the draw's. Of those that
    were not drawn others tell, that were: it counts for nothing, or misses would count twice.
    """
    if audit is None:
        return 1.0
    drawn, propensity = audit
    return propensity if drawn else 0.0


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa: chance-corrected agreement of two reviewers' verdicts. None where it is not
    known: without any pair, and where all verdicts are the same, which chance explains.

    It caps what any other figure can mean.
    """
    if not pairs:
        return None
    n = len(pairs)
    agreement = sum(a == b for a, b in pairs) / n
    first, second = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    chance = first * second + (1 - first) * (1 - second)
    return None if chance == 1 else (agreement - chance) / (1 - chance)
