"""Are the promises kept? Simulated streams by the thousand, promised beside seen.

Each row is one promise of `learning`: what it says, what was seen, and whether that holds. Every
stream is its own seeded world, so any of them can be played again. A rate that was seen in so many
streams has chance in it: rows that promise a rate also say its standard error.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from experiments.benchmarks.guarantees import alarm_rates
from experiments.benchmarks.guarantees.promise import Row, mean, median, promise
from experiments.benchmarks.harness.result_table import Progress
from learning.decision.capacity_price import ShadowPrice
from learning.estimation.rate_intervals import ALPHA, evidence_under_drift, missed_rate, under_drift
from learning.monitoring.promotion_evidence import FixedChallengerTest, LearningChallengerTest

Floats = NDArray[np.float64]

KEPT = 20_000
RATE, SHARE = 0.02, 0.03
CHUNK = 10
COLUMNS = {"name": "promise", "promised": "promised", "seen": "seen", "holds": "holds"}


def run(streams: int, workers: int, progress: Progress) -> list[Row]:
    """Every promise over so many streams."""
    units = [
        (check, tuple(range(first, min(first + CHUNK, streams))))
        for check in CHECKS
        for first in range(0, streams, CHUNK)
    ]
    found: dict[str, list[Row]] = {check: [] for check in CHECKS}
    done, total = 0, streams * len(CHECKS)
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawning) as pool:
        for future in as_completed([pool.submit(_played, *unit) for unit in units]):
            check, seen = future.result()
            found[check] += seen
            done += len(seen)
            progress(check, done, total)
    return [row for check, (_, told) in CHECKS.items() for row in told(found[check])]


def _played(check: str, seeds: Sequence[int]) -> tuple[str, list[Row]]:
    stream, _ = CHECKS[check]
    return check, [stream(seed) for seed in seeds]


def _rates(drifting: bool, random: np.random.Generator) -> Floats:
    """A rate for each kept conversation: constant, or a wave with a jump, of about that mean."""
    if not drifting:
        return np.full(KEPT, RATE)
    wave = 1 + 0.8 * np.sin(np.arange(KEPT) / KEPT * 9 + random.uniform(0, 6))
    jump = np.where(np.arange(KEPT) > random.uniform(0.3, 0.7) * KEPT, 1.5, 0.6)
    return np.asarray(RATE * wave * jump, np.float64)


def steady_rate(seed: int) -> Row:
    """A stream whose rate is constant: is the truth covered at every look?"""
    return _coverage(seed, drifting=False)


def drifting_rate(seed: int) -> Row:
    """The same for the running mean of a rate that drifts."""
    return _coverage(seed, drifting=True)


def _coverage(seed: int, *, drifting: bool) -> Row:
    random = np.random.default_rng((1, drifting, seed))
    rates = _rates(drifting, random)
    needed = random.random(KEPT) < rates
    audited = np.flatnonzero(random.random(KEPT) < SHARE)
    found, looks = needed[audited].cumsum(), np.arange(1, len(audited) + 1)
    truth = needed.cumsum() / np.arange(1, KEPT + 1)
    held = {
        f"{name}_held": bool((_against(found, looks, among[audited]) < math.log(1 / ALPHA)).all())
        for name, among in (("share", truth), ("rate", rates.cumsum() / np.arange(1, KEPT + 1)))
    }
    return held | {"width": _width(int(found[-1]), len(audited))}


def _against(found: Any, looks: Any, rate: Floats) -> Floats:
    return evidence_under_drift(found, looks, np.clip(rate, 1e-12, 1 - 1e-12))


def _width(s: int, n: int) -> float:
    """The interval's width over that of the exact one for a single look (Clopper and Pearson)."""
    found = under_drift(s, n)
    assert found.low is not None
    assert found.high is not None
    low, high = binomtest(s, n).proportion_ci(1 - ALPHA)
    return float((found.high - found.low) / (high - low))


def _covered(kind: str) -> Callable[[Sequence[Row]], Iterator[Row]]:
    def told(found: Sequence[Row]) -> Iterator[Row]:
        for name, key in (("share so far", "share_held"), ("mean rate so far", "rate_held")):
            seen = mean(found, key)
            said = f"missed rate, {kind}: {name} covered at every look"
            yield promise(said, ">= 0.95", seen, holds=seen >= 1 - ALPHA, of=len(found))
        wide = median(found, "width")
        said = f"missed rate, {kind}: width over the exact one-look one"
        yield promise(said, "<= 1.6", wide, holds=wide <= 1.6)

    return told


def caught(seed: int) -> Row:
    """With 30 % of the misses caught as a known stratum, looked at 40 times."""
    random = np.random.default_rng((2, seed))
    needed = random.random(KEPT) < RATE
    known = needed & (random.random(KEPT) < 0.3)
    audited = (random.random(KEPT) < SHARE) & ~known
    held = True
    for kept in np.linspace(KEPT / 40, KEPT, 40).astype(int):
        part = slice(0, int(kept))
        drawn = audited[part]
        counts = (int(known[part].sum()), int(drawn.sum()), int(needed[part][drawn].sum()))
        found = missed_rate(int(kept), *counts)
        truth = needed[part].mean()
        held &= found.low is not None and found.low <= truth <= (found.high or 0.0)
    return {"held": bool(held)}


def _caught(found: Sequence[Row]) -> Iterator[Row]:
    seen = mean(found, "held")
    said = "missed rate, 30 % of misses caught: covered at every look"
    yield promise(said, ">= 0.95", seen, holds=seen >= 1 - ALPHA, of=len(found))


def _gains(
    random: np.random.Generator, better: float, worse: float, size: int, share: float
) -> Floats:
    """Gains per conversation, known where a disagreement audit fell, weighted when learned."""
    gain = random.choice([-1.0, 0.0, 1.0], size, p=[worse, 1 - better - worse, better])
    return np.where(random.random(size) < share, gain, 0.0)


def _proven_at(
    duel: FixedChallengerTest | LearningChallengerTest, gains: Floats, share: float
) -> int | None:
    """After how many conversations it is proven, looked at after each; None if never."""
    for n, gain in enumerate(gains, 1):
        duel.learn(float(gain), share)
        proven = duel.proven(ALPHA) if isinstance(duel, FixedChallengerTest) else duel.proven()
        if gain and proven:
            return n
    return None


def no_better(seed: int) -> Row:
    """A challenger that is no better, with constant looking."""
    gains = _gains(np.random.default_rng((3, seed)), 0.05, 0.05, 3000, 0.5)
    return {
        "frozen": _proven_at(FixedChallengerTest(0.5, 1.0), gains, 0.5) is not None,
        "learning": _proven_at(LearningChallengerTest(bound=2.0, alpha=ALPHA), gains, 0.5)
        is not None,
    }


def _no_better(found: Sequence[Row]) -> Iterator[Row]:
    for name in ("frozen", "learning"):
        seen = mean(found, name)
        said = f"false promotions, {name} challenger"
        yield promise(said, "<= 0.05", seen, holds=seen <= ALPHA, of=len(found))


BETTER, WORSE = 0.08, 0.02


def clearly_better(seed: int) -> Row:
    """A challenger right in 8 and wrong in 2 of 100 conversations; half of these are audited."""
    gains = _gains(np.random.default_rng((4, seed)), BETTER, WORSE, 10_000, 0.5)
    return {
        "frozen": _proven_at(FixedChallengerTest(0.5, 1.0), gains, 0.5) or math.inf,
        "learning": _proven_at(LearningChallengerTest(bound=2.0, alpha=ALPHA), gains, 0.5)
        or math.inf,
    }


def _clearly_better(found: Sequence[Row]) -> Iterator[Row]:
    limit = math.log(1 / ALPHA) / _kelly(BETTER * 0.5, WORSE * 0.5)
    for name in ("frozen", "learning"):
        power = float(np.mean(np.isfinite([one[name] for one in found])))
        ratio = median(found, name) / limit
        if name == "frozen":
            said = "power for a clear gain, frozen challenger"
            yield promise(said, ">= 0.99", power, holds=power >= 0.99, of=len(found))
            said = "median time over the Kelly limit, frozen challenger"
            yield promise(said, "<= 2", ratio, holds=ratio <= 2)
        else:
            said = "power for a clear gain, learning challenger"
            yield promise(said, "told", power, holds=True, of=len(found))
            said = "median time over the Kelly limit, learning challenger"
            yield promise(said, "told", ratio, holds=True)


def _kelly(better: float, worse: float) -> float:
    """The greatest growth of evidence a conversation: max over bets of E ln(1 + lam x), x = +-1."""
    bets = np.linspace(0.0, 0.999, 2000)
    return float((better * np.log1p(bets) + worse * np.log1p(-bets)).max())


def capacity(seed: int) -> Row:
    """Sequences that try to break it: random, drifting, and one that knows the threshold."""
    random = np.random.default_rng((6, seed))
    price, up, worst = (
        ShadowPrice(0.5, random.uniform(0.02, 0.3), random.uniform(0.01, 0.2)),
        0,
        0.0,
    )
    for n, q in enumerate(random.random(2000), 1):
        close = price.threshold + (0.01 if q < 0.9 else -0.01)
        asked = (q, min(1.0, q * n / 1000), close)[seed % 3]
        rises = price.escalates(min(max(float(asked), 0.0), 1.0))
        up += rises
        price = price.after(rises)
        worst = max(worst, abs(up / n - price.capacity) / price.bound(n))
    return {"worst": worst}


def _capacity(found: Sequence[Row]) -> Iterator[Row]:
    worst = max(one["worst"] for one in found)
    yield promise("capacity error over its bound, worst", "<= 1", worst, holds=worst <= 1 + 1e-9)


CHECKS: dict[str, tuple[Callable[[int], Row], Callable[[Sequence[Row]], Iterator[Row]]]] = {
    "intervals, stationary": (steady_rate, _covered("stationary")),
    "intervals, drifting": (drifting_rate, _covered("drifting")),
    "caught misses": (caught, _caught),
    "false promotions": (no_better, _no_better),
    "power": (clearly_better, _clearly_better),
    "alarms": (alarm_rates.doubled, alarm_rates.told),
    "capacity": (capacity, _capacity),
}
"""Each promise's stream, by its seed, and the rows that many of them come to."""
