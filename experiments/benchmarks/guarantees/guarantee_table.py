"""Monte Carlo check of the statistical guarantees: interval coverage, error rates, capacity.

Each row is one promise of `learning`: the promised figure, the simulated one, and whether it holds.
Every stream has a seed of its own and can be played again. Rows that promise a rate have its
standard error over the streams.
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

from experiments.benchmarks.guarantees import (
    alarm_rates,
    audit_streams,
    decision_contests,
    late_answers,
    report_streams,
)
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
    """Simulate every guarantee over so many streams, in parallel; one row for each promise."""
    units = [
        (check, tuple(range(first, min(first + CHUNK, streams))))
        for check in CHECKS
        for first in range(0, streams, CHUNK)
    ]
    by_check: dict[str, list[Row]] = {check: [] for check in CHECKS}
    done, total = 0, streams * len(CHECKS)
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawning) as pool:
        for future in as_completed([pool.submit(_play_streams, *unit) for unit in units]):
            check, results = future.result()
            by_check[check] += results
            done += len(results)
            progress(check, done, total)
    return [row for check, (_, summarise) in CHECKS.items() for row in summarise(by_check[check])]


def _play_streams(check: str, seeds: Sequence[int]) -> tuple[str, list[Row]]:
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
    """Coverage of the confidence sequence at every look, for a constant rate."""
    return _coverage(seed, drifting=False)


def drifting_rate(seed: int) -> Row:
    """Coverage for the running mean of a rate that drifts."""
    return _coverage(seed, drifting=True)


def _coverage(seed: int, *, drifting: bool) -> Row:
    random = np.random.default_rng((1, drifting, seed))
    rates = _rates(drifting, random)
    needed = random.random(KEPT) < rates
    audited = np.flatnonzero(random.random(KEPT) < SHARE)
    missed, looks = needed[audited].cumsum(), np.arange(1, len(audited) + 1)
    truth = needed.cumsum() / np.arange(1, KEPT + 1)
    coverage = {
        f"{name}_held": bool(
            (_evidence_against(missed, looks, among[audited]) < math.log(1 / ALPHA)).all()
        )
        for name, among in (("share", truth), ("rate", rates.cumsum() / np.arange(1, KEPT + 1)))
    }
    return coverage | {"width": _width(int(missed[-1]), len(audited))}


def _evidence_against(missed: Any, looks: Any, rate: Floats) -> Floats:
    return evidence_under_drift(missed, looks, np.clip(rate, 1e-12, 1 - 1e-12))


def _width(s: int, n: int) -> float:
    """The interval's width over that of the exact one for a single look (Clopper and Pearson)."""
    estimate = under_drift(s, n)
    assert estimate.low is not None
    assert estimate.high is not None
    low, high = binomtest(s, n).proportion_ci(1 - ALPHA)
    return float((estimate.high - estimate.low) / (high - low))


def _summarise_coverage(kind: str) -> Callable[[Sequence[Row]], Iterator[Row]]:
    def summarise(rows: Sequence[Row]) -> Iterator[Row]:
        for name, key in (("share so far", "share_held"), ("mean rate so far", "rate_held")):
            share = mean(rows, key)
            label = f"missed rate, {kind}: {name} covered at every look"
            yield promise(label, ">= 0.95", share, holds=share >= 1 - ALPHA, of=len(rows))
        wide = median(rows, "width")
        label = f"missed rate, {kind}: width over the exact one-look one"
        yield promise(label, "<= 1.6", wide, holds=wide <= 1.6)

    return summarise


def caught_misses(seed: int) -> Row:
    """Coverage with 30 % of the misses caught as a known stratum, at 40 looks."""
    random = np.random.default_rng((2, seed))
    needed = random.random(KEPT) < RATE
    complaints = needed & (random.random(KEPT) < 0.3)
    audited = (random.random(KEPT) < SHARE) & ~complaints
    covered = True
    for size in np.linspace(KEPT / 40, KEPT, 40).astype(int):
        so_far = slice(0, int(size))
        sampled = audited[so_far]
        counts = (
            int(complaints[so_far].sum()),
            int(sampled.sum()),
            int(needed[so_far][sampled].sum()),
        )
        estimate = missed_rate(int(size), *counts)
        truth = needed[so_far].mean()
        covered &= estimate.low is not None and estimate.low <= truth <= (estimate.high or 0.0)
    return {"held": bool(covered)}


def _summarise_caught(rows: Sequence[Row]) -> Iterator[Row]:
    share = mean(rows, "held")
    name = "missed rate, 30 % of misses caught: covered at every look"
    yield promise(name, ">= 0.95", share, holds=share >= 1 - ALPHA, of=len(rows))


def _gains(
    random: np.random.Generator, better: float, worse: float, size: int, share: float
) -> Floats:
    """Gains per conversation, known where a disagreement audit fell, weighted when learned."""
    gain = random.choice([-1.0, 0.0, 1.0], size, p=[worse, 1 - better - worse, better])
    return np.where(random.random(size) < share, gain, 0.0)


def _proven_at(
    test: FixedChallengerTest | LearningChallengerTest, gains: Floats, share: float
) -> int | None:
    """After how many conversations it is proven, looked at after each; None if never."""
    for n, gain in enumerate(gains, 1):
        test.learn(float(gain), share)
        is_proven = test.proven(ALPHA) if isinstance(test, FixedChallengerTest) else test.proven()
        if gain and is_proven:
            return n
    return None


def no_better(seed: int) -> Row:
    """False promotions (type I errors) of a challenger that is no better, tested at every look."""
    gains = _gains(np.random.default_rng((3, seed)), 0.05, 0.05, 3000, 0.5)
    return {
        "frozen": _proven_at(FixedChallengerTest(0.5, 1.0), gains, 0.5) is not None,
        "learning": _proven_at(LearningChallengerTest(bound=2.0, alpha=ALPHA), gains, 0.5)
        is not None,
    }


def _summarise_false_promotions(rows: Sequence[Row]) -> Iterator[Row]:
    for name in ("frozen", "learning"):
        rate = mean(rows, name)
        label = f"false promotions, {name} challenger"
        yield promise(label, "<= 0.05", rate, holds=rate <= ALPHA, of=len(rows))


BETTER, WORSE = 0.08, 0.02


def clearly_better(seed: int) -> Row:
    """Power and time to promotion: right in 8, wrong in 2 of 100 conversations, half audited."""
    gains = _gains(np.random.default_rng((4, seed)), BETTER, WORSE, 10_000, 0.5)
    return {
        "frozen": _proven_at(FixedChallengerTest(0.5, 1.0), gains, 0.5) or math.inf,
        "learning": _proven_at(LearningChallengerTest(bound=2.0, alpha=ALPHA), gains, 0.5)
        or math.inf,
    }


def _summarise_power(rows: Sequence[Row]) -> Iterator[Row]:
    limit = math.log(1 / ALPHA) / _kelly(BETTER * 0.5, WORSE * 0.5)
    for name in ("frozen", "learning"):
        power = float(np.mean(np.isfinite([row[name] for row in rows])))
        ratio = median(rows, name) / limit
        if name == "frozen":
            label = "power for a clear gain, frozen challenger"
            yield promise(label, ">= 0.99", power, holds=power >= 0.99, of=len(rows))
            label = "median time over the Kelly limit, frozen challenger"
            yield promise(label, "<= 2", ratio, holds=ratio <= 2)
        else:
            label = "power for a clear gain, learning challenger"
            yield promise(label, "told", power, holds=True, of=len(rows))
            label = "median time over the Kelly limit, learning challenger"
            yield promise(label, "told", ratio, holds=True)


def _kelly(better: float, worse: float) -> float:
    """The greatest growth of evidence a conversation: max over bets of E ln(1 + lam x), x = +-1."""
    bets = np.linspace(0.0, 0.999, 2000)
    return float((better * np.log1p(bets) + worse * np.log1p(-bets)).max())


def capacity(seed: int) -> Row:
    """Capacity error under random, drifting and adversarial (threshold-aware) probabilities."""
    random = np.random.default_rng((6, seed))
    price, up, worst = (
        ShadowPrice(0.5, random.uniform(0.02, 0.3), random.uniform(0.01, 0.2)),
        0,
        0.0,
    )
    for n, q in enumerate(random.random(2000), 1):
        close = price.threshold + (0.01 if q < 0.9 else -0.01)
        probability = (q, min(1.0, q * n / 1000), close)[seed % 3]
        rises = price.escalates(min(max(float(probability), 0.0), 1.0))
        up += rises
        price = price.after(rises)
        worst = max(worst, abs(up / n - price.capacity) / price.bound(n))
    return {"worst": worst}


def _summarise_capacity(rows: Sequence[Row]) -> Iterator[Row]:
    worst = max(row["worst"] for row in rows)
    yield promise("capacity error over its bound, worst", "<= 1", worst, holds=worst <= 1 + 1e-9)


CHECKS: dict[str, tuple[Callable[[int], Row], Callable[[Sequence[Row]], Iterator[Row]]]] = {
    "intervals, stationary": (steady_rate, _summarise_coverage("stationary")),
    "intervals, drifting": (drifting_rate, _summarise_coverage("drifting")),
    "caught misses": (caught_misses, _summarise_caught),
    "false promotions": (no_better, _summarise_false_promotions),
    "power": (clearly_better, _summarise_power),
    "alarms": (alarm_rates.doubled_loss, alarm_rates.summarise),
    "capacity": (capacity, _summarise_capacity),
    "dearer challenger": (
        decision_contests.dearer_challenger,
        decision_contests.summarise_dearer,
    ),
    "cheaper mirror": (decision_contests.cheaper_mirror, decision_contests.summarise_mirror),
    **{
        f"equal lines, {name}": (
            late_answers.equal_lines(regime),
            late_answers.summarise_equal(name),
        )
        for name, regime in late_answers.REGIMES.items()
    },
    "clear gain": (late_answers.clear_gain, late_answers.summarise_gain),
    "thin answers": (report_streams.thin_answers, report_streams.summarise_thin),
    "rules-only saving": (report_streams.rules_saving, report_streams.summarise_rules),
    "rules-only holdout": (report_streams.rules_held_out, report_streams.summarise_held_out),
    "caught in the report": (report_streams.caught_report, report_streams.summarise_caught),
    "label requests": (report_streams.asked_handoffs, report_streams.summarise_asked),
    "calibration": (audit_streams.calibration, audit_streams.summarise_calibration),
    "busy service": (audit_streams.busy_service, audit_streams.summarise_busy),
}
"""Each promise's stream, by its seed, and the rows that many of them come to."""
