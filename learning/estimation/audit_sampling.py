"""Which kept conversations a person reviews, and with what probability.

Two independent coins for every kept conversation that closed. The *uniform* one measures: its
propensity does not depend on what was scored, so its answers are a fair sample. The *targeted* one
teaches: it falls more often where the model was unsure, and wherever a challenger would have
decided otherwise. Both probabilities are recorded before anything is known; nothing is drawn
again, and a drawn audit is never dropped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

FLOOR = 0.002
"""No kept conversation is out of the targeted coin's reach."""

SPREAD = 0.5
"""Share of the targeted budget that is spread evenly (phi >= .5: intervals stay bounded)."""

DISAGREEMENT = 0.5
"""Propensity wherever a challenger would have decided otherwise."""


@dataclass(frozen=True, slots=True)
class AuditCandidate:
    """A kept conversation as the coins see it: its highest probability; whether lines differ."""

    conversation_id: str
    probability: float
    disagreement: bool = False


@dataclass(frozen=True, slots=True)
class Draw:
    """The two coins of one conversation, their propensities, and how they fell."""

    uniform_propensity: float
    targeted_propensity: float
    uniform: bool
    targeted: bool

    @property
    def propensity(self) -> float:
        """That either coin falls."""
        return 1 - (1 - self.uniform_propensity) * (1 - self.targeted_propensity)

    @property
    def drawn(self) -> bool:
        return self.uniform or self.targeted


def budget_factor(left: float, whole: float) -> float:
    """By how much a budget lowers the coins' shares: 1 while half of it is left, then ever less.

    So chances sink long before nothing is left, and hardly any conversation is out of reach.
    """
    return min(1.0, max(0.0, 2 * left / whole)) if whole > 0 else 0.0


def targeted_propensities(
    kept: Sequence[AuditCandidate], share: float, disagreement: float = DISAGREEMENT
) -> list[float]:
    """The targeted coin's propensities, `share` of the conversations in the mean, but
    `disagreement` where lines differ.

    pi = clip(b (phi + (1 - phi) u / mean u), floor, 1) with u = sqrt(p (1 - p)).
    """
    if not kept or share <= 0:
        return [0.0] * len(kept)
    unsure = [math.sqrt(max(k.probability * (1 - k.probability), 0.0)) for k in kept]
    mean = sum(unsure) / len(unsure)
    found = []
    for one, u in zip(kept, unsure, strict=True):
        pi = share * (SPREAD + (1 - SPREAD) * (u / mean if mean > 0 else 1.0))
        if one.disagreement:
            pi = max(pi, disagreement)
        found.append(min(max(pi, min(FLOOR, share)), 1.0))
    return found


def uniform_variate(seed: str, stream: str, conversation_id: str) -> float:
    """A reproducible number in [0, 1): the same seed, stream and conversation, the same number."""
    text = f"{seed}\n{stream}\n{conversation_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big") / 2**56


def draw(
    kept: Sequence[AuditCandidate],
    *,
    seed: str,
    uniform_share: float,
    targeted_share: float,
    disagreement: float = DISAGREEMENT,
) -> list[Draw]:
    """Toss both coins for each conversation; the budget has lowered the chances before."""
    return [
        Draw(
            uniform_share,
            pi,
            uniform_variate(seed, "uniform", one.conversation_id) < uniform_share,
            uniform_variate(seed, "targeted", one.conversation_id) < pi,
        )
        for one, pi in zip(
            kept, targeted_propensities(kept, targeted_share, disagreement), strict=True
        )
    ]


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa of two reviewers' verdicts on the same conversations; None without any pair.

    Agreement beyond chance: it caps what any other figure can mean.
    """
    if not pairs:
        return None
    n = len(pairs)
    agreed = sum(a == b for a, b in pairs) / n
    first, second = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    chance = first * second + (1 - first) * (1 - second)
    return 1.0 if chance == 1 else (agreed - chance) / (1 - chance)
