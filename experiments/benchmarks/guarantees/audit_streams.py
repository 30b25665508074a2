"""Missed rates from audits on a spent budget, with caught misses, and calibration with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from experiments.benchmarks.guarantees.promise import Row, mean, median, promise
from learning.decision.policy_parts import AuditBudget
from learning.estimation.audit_sampling import (
    DailyBudget,
    caught_propensity,
    expected_in_a_day,
)
from learning.estimation.rate_intervals import ALPHA, effective_size, missed_rate
from learning.ledger.lessons import calibration_weight
from learning.models.calibration import Calibrator

KEPT_A_DAY, DAYS = 20_000, 60
PASSES = 48
"""Samplings in a day."""

MISSED_DAY, MISSED_EVENING = 0.01, 0.05


def busy_service(seed: int) -> Row:
    """The default budget at 20 000 kept a day, more of them missed in the evening: whether the
    interval covers at every day's end, and the share without any chance of an audit.
    """
    random, policy = np.random.default_rng((12, seed)), AuditBudget()
    share = policy.uniform_share + policy.targeted_share
    each = 1 + policy.double_share
    spent = np.zeros(PASSES * DAYS)
    sums = {"kept": 0, "missed": 0, "weight": 0.0, "squares": 0.0, "found": 0.0, "hidden": 0}
    covered = True
    size = KEPT_A_DAY // PASSES
    for n in range(PASSES * DAYS):
        rate = MISSED_EVENING if n % PASSES >= 0.75 * PASSES else MISSED_DAY
        first = max(0, n - PASSES + 1)
        wanted = expected_in_a_day((n - first + 1) * size, (n - first) * 86_400 / PASSES)
        used = int(spent[first:n].sum())
        budget = DailyBudget(policy.per_day, 0.0, 2, used, wanted=wanted * share * each)
        missed, left = random.binomial(size, rate), size
        sums["kept"] += size
        sums["missed"] += missed
        while left:
            piece = budget.piece(left)
            pi = policy.uniform_share * budget.pace
            ill = random.hypergeometric(missed, left - missed, piece) if missed else 0
            drawn, found = random.binomial(piece, pi), 0
            found = random.hypergeometric(ill, piece - ill, drawn) if drawn and ill else 0
            others = random.binomial(piece, policy.targeted_share * budget.pace)
            reviews = min(budget.left, round((drawn + others) * each))
            budget = budget.spend(reviews, disagreement=False)
            spent[n] += reviews
            left, missed = left - piece, missed - ill
            if not pi:
                sums["hidden"] += piece
                continue
            sums["weight"] += drawn / pi
            sums["squares"] += drawn / pi**2
            sums["found"] += found / pi
        if (n + 1) % PASSES == 0 and sums["weight"]:
            sample = effective_size(sums["weight"], sums["squares"], sums["found"])
            estimate = missed_rate(int(sums["kept"]), 0, *sample)
            truth = sums["missed"] / sums["kept"]
            covered &= (
                (estimate.low or 0.0) <= truth <= (1.0 if estimate.high is None else estimate.high)
            )
    return {"held": bool(covered), "hidden": sums["hidden"] / sums["kept"]}


def summarise_busy(rows: Sequence[Row]) -> Iterator[Row]:
    share = mean(rows, "held")
    name = f"missed rate, 20 000 a day: covered at every look for {DAYS} days"
    yield promise(name, ">= 0.95", share, holds=share >= 1 - ALPHA, of=len(rows))
    hidden = mean(rows, "hidden")
    yield promise("its share out of reach", "<= 0.05", hidden, holds=hidden <= 0.05)


TRUE_RATE, CAUGHT, AUDITED, CONVERSATIONS = 0.05, 0.6, 0.05, 20_000


def calibration(seed: int) -> Row:
    """Kept conversations of scores around .05, that are as likely to need a person: 60 % of the
    missed come to light after their audit; the calibrated probability of .05.
    """
    random, calibrator = np.random.default_rng((13, seed)), Calibrator()
    scores = random.beta(2, 38, CONVERSATIONS)
    for p, y, draw, catch in zip(
        scores.tolist(),
        (random.random(CONVERSATIONS) < scores).tolist(),
        (random.random(CONVERSATIONS) < AUDITED).tolist(),
        (random.random(CONVERSATIONS) < CAUGHT).tolist(),
        strict=True,
    ):
        if draw:
            calibrator.learn(p, float(y), calibration_weight(AUDITED))
        elif y and catch:
            calibrator.learn(p, 1.0, calibration_weight(caught_propensity((draw, AUDITED))))
    return {"q": calibrator(TRUE_RATE)}


def summarise_calibration(rows: Sequence[Row]) -> Iterator[Row]:
    q = median(rows, "q")
    name = "calibration with 60 % caught: the median q of a true .05"
    yield promise(name, ".04 to .06", q, holds=0.04 <= q <= 0.06)
    within = float(np.mean([0.04 <= row["q"] <= 0.06 for row in rows]))
    yield promise("the share of streams in which it is", "told", within, holds=True, of=len(rows))
