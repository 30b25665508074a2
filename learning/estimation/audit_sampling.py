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
from dataclasses import dataclass

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


def targeted_propensities(
    candidates: Sequence[AuditCandidate], share: float, disagreement: float = DISAGREEMENT
) -> list[float]:
    """Propensities of the targeted draw: mean `share`, but `disagreement` where lines differ.

    pi = clip(b (phi + (1 - phi) u / mean u), floor, 1) with u = sqrt(p (1 - p)).
    """
    if not candidates or share <= 0:
        return [0.0] * len(candidates)
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


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa: chance-corrected agreement of two reviewers' verdicts; None without any pair.

    It caps what any other figure can mean.
    """
    if not pairs:
        return None
    n = len(pairs)
    agreement = sum(a == b for a, b in pairs) / n
    first, second = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    chance = first * second + (1 - first) * (1 - second)
    return 1.0 if chance == 1 else (agreement - chance) / (1 - chance)
