"""Rates with honest intervals: for one look, and for looking as often as one likes.

An interval for one look is too narrow when it is looked at again and again: with 95 % promised,
the usual one covers in 20 to 30 % of streams. A *confidence sequence* holds at every look at once.
Both kinds here are tests turned around: the interval is every rate p whose evidence against it, a
nonnegative martingale that starts at 1, has stayed below 1/alpha (Ville 1939).
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
PRIOR = (0.5, 20.0)
"""Beta mixture for rare events: most of its mass lies below 10 %."""

_STEPS = 60
_EDGE = 1e-12


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `among`, with a 95 % interval; all None where there is nothing to divide by."""

    count: float
    among: float
    rate: float | None
    low: float | None
    high: float | None


NO_RATE = Rate(0, 0, None, None, None)


def proportion(count: int, among: int) -> Rate:
    """A share with Wilson's 95 % score interval, for one look at a fixed sample.

    Wilson 1927; it stays inside [0, 1] and holds for small counts, where the normal one fails.
    """
    if among == 0:
        return NO_RATE
    share, z2 = count / among, Z_95 * Z_95
    middle = (share + z2 / (2 * among)) / (1 + z2 / among)
    spread = Z_95 * math.sqrt(share * (1 - share) / among + z2 / (4 * among * among))
    half = spread / (1 + z2 / among)
    return Rate(count, among, share, max(0.0, middle - half), min(1.0, middle + half))


def at_every_look(count: int, among: int, alpha: float = ALPHA) -> Rate:
    """A share whose interval holds at every look, for a constant rate.

    The beta-binomial mixture: ln M(p) = ln B(a+s, b+n-s) - ln B(a, b) - s ln p - (n-s) ln(1-p).
    Robbins 1970; about 1.5 times as wide as an exact interval for one look.
    """
    if among == 0:
        return Rate(0, 0, None, 0.0, 1.0)
    a, b = PRIOR
    missing = among - count
    fixed = _ln_beta(a + count, b + missing) - _ln_beta(a, b)

    def evidence(p: float) -> float:
        return fixed - count * math.log(p) - missing * math.log1p(-p)

    return _inverted(count, among, evidence, math.log(1 / alpha))


@lru_cache(maxsize=4096)
def under_drift(count: float, among: float, alpha: float = ALPHA) -> Rate:
    """A share whose interval holds at every look for the running mean, however the rate drifts.

    M(p) = sum_k w_k exp(lam_k s - n ln(1 + p (exp(lam_k) - 1))) on a fixed grid of both signs:
    by Jensen each term stays a supermartingale when p is the mean of changing rates.
    (Howard, Ramdas, McAuliffe, Sekhon 2021; Waudby-Smith and Ramdas 2024.) The newest answers are
    remembered: pages ask for the same counts again and again.
    """
    if among == 0:
        return Rate(0, 0, None, 0.0, 1.0)

    def evidence(p: float) -> float:
        return float(evidence_under_drift(count, among, p))

    return _inverted(count, among, evidence, math.log(1 / alpha))


def evidence_under_drift(count: ArrayLike, among: ArrayLike, rate: ArrayLike) -> Floats:
    """How strongly so many of so many speak against a rate: ln M. Arrays broadcast.

    A rate lies in `under_drift`'s interval exactly while this is below ln(1/alpha).
    """
    lam, ln_weight, grown = _grid()
    s, n, p = (np.asarray(a, np.float64)[..., None] for a in (count, among, rate))
    terms = ln_weight + lam * s - n * np.log1p(p * grown)
    most = terms.max(-1)
    found: Floats = most + np.log(np.exp(terms - most[..., None]).sum(-1))
    return found


@cache
def _grid() -> tuple[Floats, Floats, Floats]:
    """Bets on a higher (lam > 0) and on a lower rate, from faint to bold, equally weighted."""
    sizes = np.geomspace(0.03, 4.0, 24)
    lam = np.concatenate([sizes, -sizes])
    return lam, np.full(lam.size, -math.log(lam.size)), np.expm1(lam)


def _inverted(count: float, among: float, evidence: Callable[[float], float], bar: float) -> Rate:
    """The rates whose evidence stays below the bar; the evidence is convex around the share."""
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


def effective_size(weight: float, squares: float, found: float) -> tuple[float, float]:
    """As many equally weighted answers as weighted ones are worth (Kish), and those found.

    From the sums of weights, of their squares, and of the weights of those found. A coin whose
    share was lowered by a budget falls unevenly over time; weights 1 / propensity make up for it,
    and where all are equal these are plain counts.
    """
    if not weight:
        return 0.0, 0.0
    size = weight * weight / squares
    return size, size * min(1.0, found / weight)


def missed_rate(
    kept: int, caught: int, audited: float, found: float, *, alpha: float = ALPHA
) -> Rate:
    """The share of kept, closed conversations that needed a person, with its interval.

    `kept` conversations, of which `caught` are known to have been missed (complaints and the
    like: a known stratum, never a sample); of the others `audited` were drawn by the uniform coin
    and answered, and `found` of those missed. The mean of C + (1-C) (A/pi) y, with the sampled part
    replaced by its confidence sequence under drift.
    """
    if kept == 0:
        return NO_RATE
    rest = under_drift(found, audited, alpha)
    known, share = caught / kept, (kept - caught) / kept

    def whole(rate: float | None) -> float | None:
        return None if rate is None else known + share * rate

    return Rate(
        caught + found, caught + audited, whole(rest.rate), whole(rest.low), whole(rest.high)
    )


def _ln_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
