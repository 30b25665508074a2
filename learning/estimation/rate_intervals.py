"""Rates with confidence intervals that hold at every look (confidence sequences).

An interval for one look is too narrow when it is looked at again and again: with 95 % promised,
the usual one covers in 20 to 30 % of streams. A *confidence sequence* holds at every look at once.
It is a test turned around: the interval is every rate p whose evidence against it, a nonnegative
martingale that starts at 1, has stayed below 1/alpha (Ville 1939).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Z_95 = 1.959963984540054
ALPHA = 0.05

_STEPS = 60
_EDGE = 1e-12


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion: `count` of `among`, with a 95 % interval; None where `among` is 0."""

    count: float
    among: float
    rate: float | None
    low: float | None
    high: float | None


NO_RATE = Rate(0, 0, None, None, None)


@lru_cache(maxsize=4096)
def under_drift(count: float, among: float, alpha: float = ALPHA) -> Rate:
    """Confidence sequence for the running mean of a proportion, however the rate drifts.

    M(p) = sum_k w_k exp(lam_k s - n ln(1 + p (exp(lam_k) - 1))) on a fixed grid of both signs:
    by Jensen each term stays a supermartingale when p is the mean of changing rates.
    (Howard, Ramdas, McAuliffe, Sekhon 2021; Waudby-Smith and Ramdas 2024.) An LRU cache holds the
    newest answers: pages ask for the same counts again and again.
    """
    if among == 0:
        return Rate(0, 0, None, 0.0, 1.0)

    def evidence(p: float) -> float:
        return float(evidence_under_drift(count, among, p))

    return _invert(count, among, evidence, math.log(1 / alpha))


def evidence_under_drift(count: ArrayLike, among: ArrayLike, rate: ArrayLike) -> Floats:
    """Log evidence ln M against a rate, of `count` in `among`. Arrays broadcast.

    A rate lies in `under_drift`'s interval exactly while this is below ln(1/alpha).
    """
    lam, ln_weight, grown = _grid()
    s, n, p = (np.asarray(a, np.float64)[..., None] for a in (count, among, rate))
    terms = ln_weight + lam * s - n * np.log1p(p * grown)
    largest = terms.max(-1)
    ln_evidence: Floats = largest + np.log(np.exp(terms - largest[..., None]).sum(-1))
    return ln_evidence


@cache
def _grid() -> tuple[Floats, Floats, Floats]:
    """Bets on a higher (lam > 0) and on a lower rate, from faint to bold, equally weighted."""
    sizes = np.geomspace(0.03, 4.0, 24)
    lam = np.concatenate([sizes, -sizes])
    return lam, np.full(lam.size, -math.log(lam.size)), np.expm1(lam)


def _invert(count: float, among: float, evidence: Callable[[float], float], bar: float) -> Rate:
    """Invert a test: the rates whose evidence (convex) stays below the bar."""
    share = count / among
    inside = min(max(share, _EDGE), 1 - _EDGE)
    low = _crossing(evidence, bar, inside, _EDGE) if count else 0.0
    high = _crossing(evidence, bar, inside, 1 - _EDGE) if count < among else 1.0
    return Rate(count, among, share, low, high)


def _crossing(
    evidence: Callable[[float], float], bar: float, inside: float, outside: float
) -> float:
    """Where the evidence reaches the bar between a rate it allows and one it may not."""
    if evidence(outside) < bar:
        return 0.0 if outside < inside else 1.0
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if evidence(middle) < bar:
            inside = middle
        else:
            outside = middle
    return outside


def effective_size(weight: float, squares: float, positive: float) -> tuple[float, float]:
    """Kish's effective sample size of weighted answers, and the positives among so many.

    From the sums of weights, of their squares, and of the weights of the positives. A draw whose
    propensity was lowered by a budget falls unevenly over time; weights 1 / propensity make up for
    it, and where all are equal these are plain counts.
    """
    if not weight:
        return 0.0, 0.0
    size = weight * weight / squares
    return size, size * min(1.0, positive / weight)


def missed_rate(
    kept: int, caught: int, audited: float, missed: float, *, alpha: float = ALPHA
) -> Rate:
    """Missed escalation rate: of kept, closed conversations, the share in need of a person.

    `kept` conversations, of which `caught` are known to have been missed (complaints and the
    like: a known stratum, never a sample: where that is all of them, the rate is known without any
    audit); of the others `audited` were drawn by the uniform draw
    and answered, `missed` of them missed. The mean of C + (1-C) (A/pi) y, with the sampled part
    replaced by its confidence sequence under drift.
    """
    if kept == 0:
        return NO_RATE
    if kept <= caught:
        return Rate(kept, kept, 1.0, 1.0, 1.0)
    rest = under_drift(missed, audited, alpha)
    caught_share, share = caught / kept, (kept - caught) / kept

    def whole(rate: float | None) -> float | None:
        return None if rate is None else caught_share + share * rate

    return Rate(
        caught + missed, caught + audited, whole(rest.rate), whole(rest.low), whole(rest.high)
    )
