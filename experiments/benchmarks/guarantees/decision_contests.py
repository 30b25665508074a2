"""Contests under a policy with offers: a dearer challenger, and its mirror, which is cheaper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarks.guarantees.promise import Row, mean, median, promise
from learning.decision.policy import Policy
from learning.decision.promotion_terms import PromotionTerms, alpha_share
from learning.estimation.audit_sampling import DISAGREEMENT
from learning.estimation.decision_loss import CONTINUE, ESCALATE, OFFER, DecisionLoss
from learning.monitoring.promotion_evidence import FixedChallengerTest, LearningChallengerTest

Floats = NDArray[np.float64]
LEVEL = PromotionTerms().alpha * alpha_share(1)
CONVERSATIONS = 8000
BAND, OVERSURE = 0.30, 0.55
AUDITED = 0.05
JUDGED_MAX = 2000


def dearer_challenger(seed: int) -> Row:
    """The champion is calibrated; the challenger hands over what deserves an offer."""
    return _contest(seed, champion_oversure=False)


def cheaper_mirror(seed: int) -> Row:
    """The same two, the other way round."""
    return _contest(seed, champion_oversure=True)


def _contest(seed: int, *, champion_oversure: bool) -> Row:
    """All audits are answered at once; by the default policy; looked at after each conversation."""
    random, loss = np.random.default_rng((10, seed)), DecisionLoss.of(Policy())
    q = random.beta(0.6, 1.8, CONVERSATIONS)
    needed = random.random(CONVERSATIONS) < q
    bar = loss.escalate
    plain = loss.levels(q)
    oversure = loss.levels(np.where((q >= BAND) & (q < bar), OVERSURE, q))
    champion, challenger = (oversure, plain) if champion_oversure else (plain, oversure)
    accepts = random.random(CONVERSATIONS) < np.where(
        needed, loss.accepted_needed, loss.accepted_unneeded
    )
    person = (champion == ESCALATE) | ((champion == OFFER) & accepts)
    chance = np.where(champion != challenger, DISAGREEMENT, AUDITED)
    chance = np.where(person, 1.0, chance)
    known = random.random(CONVERSATIONS) < chance
    frozen = FixedChallengerTest(DISAGREEMENT, 1.0)
    learning = LearningChallengerTest(1.0 / DISAGREEMENT, LEVEL)
    proven: dict[str, int] = {}
    for judged, n in enumerate(np.flatnonzero(known), 1):
        gain = loss.gains(int(champion[n]), int(challenger[n]))[int(needed[n])]
        for test in (frozen, learning):
            test.learn(gain, float(chance[n]) if gain else 1.0)
        if gain and "frozen" not in proven and frozen.proven(LEVEL):
            proven["frozen"] = judged
        if gain and "learning" not in proven and learning.proven():
            proven["learning"] = judged
    dearer = loss.losses(challenger, needed).mean() - loss.losses(champion, needed).mean()
    return {name: proven.get(name, np.inf) for name in ("frozen", "learning")} | {
        "dearer": float(dearer),
        "kept": float((champion == CONTINUE).mean()),
    }


def summarise_dearer(rows: Sequence[Row]) -> Iterator[Row]:
    for name in ("frozen", "learning"):
        rate = float(np.mean([np.isfinite(row[name]) for row in rows]))
        label = f"dearer challenger, policy with offers: proven, {name}"
        yield promise(label, f"<= {LEVEL}", rate, holds=rate <= LEVEL, of=len(rows))
    yield promise(
        "its cost over the champion's, a conversation", "told", mean(rows, "dearer"), holds=True
    )


def summarise_mirror(rows: Sequence[Row]) -> Iterator[Row]:
    for name in ("frozen", "learning"):
        power = float(np.mean([row[name] <= JUDGED_MAX for row in rows]))
        label = f"cheaper mirror, policy with offers: proven within {JUDGED_MAX} judged, {name}"
        yield promise(label, ">= 0.95", power, holds=power >= 0.95, of=len(rows))
        label = f"its median number of judged conversations, {name}"
        yield promise(label, "told", median(rows, name), holds=True)
