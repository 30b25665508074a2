"""Covariate shift detection: two windows of conversations, compared by two-sample tests.

Scores (all by one model, frozen, so that its learning is not taken for a change), each context
feature, and the share of conversations that use each common word. Each comparison is a test whose
level is split over all that is tested (Bonferroni): without a change, at most a share `ALPHA` of
looks raises a false alarm, each look at fresh conversations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import stats

ALPHA = 0.001
"""One look in a thousand may be a false alarm."""

CONVERSATIONS_MIN = 20
"""Rarer words are neither tested nor named."""

SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class ConversationSnapshot:
    """A conversation at its last scored message: score, context features, its words."""

    score: float
    context: Mapping[str, float]
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class ShiftFinding:
    """A detected shift: its mean, or share of conversations, before and now, and the p-value."""

    kind: str
    name: str
    before: float
    now: float
    p: float
    sentence: str


def find_shifts(
    reference: Sequence[ConversationSnapshot],
    recent: Sequence[ConversationSnapshot],
    alpha: float = ALPHA,
) -> tuple[ShiftFinding, ...]:
    """Test for covariate shift: significant findings, smallest p first."""
    if not reference or not recent:
        return ()
    findings = [
        *_scores(reference, recent, alpha / 3),
        *_features(reference, recent, alpha / 3),
        *_words(reference, recent, alpha / 3),
    ]
    return tuple(sorted(findings, key=lambda shift: (shift.p, shift.kind, shift.name))[:SHOWN_MAX])


def _scores(
    reference: Sequence[ConversationSnapshot], recent: Sequence[ConversationSnapshot], alpha: float
) -> Iterator[ShiftFinding]:
    old, new = [g.score for g in reference], [g.score for g in recent]
    p = kolmogorov_smirnov(old, new)
    if p < alpha:
        yield _mean_shift("scores", "probability", old, new, p)


def _features(
    reference: Sequence[ConversationSnapshot], recent: Sequence[ConversationSnapshot], alpha: float
) -> Iterator[ShiftFinding]:
    names = sorted({name for g in (*reference, *recent) for name in g.context})
    for name in names:
        old = [g.context.get(name, 0.0) for g in reference]
        new = [g.context.get(name, 0.0) for g in recent]
        p = kolmogorov_smirnov(old, new)
        if p < alpha / len(names):
            yield _mean_shift("features", name, old, new, p)


def _mean_shift(
    kind: str, name: str, old: Sequence[float], new: Sequence[float], p: float
) -> ShiftFinding:
    before, now = math.fsum(old) / len(old), math.fsum(new) / len(new)
    what = f"the mean of {name}" if kind == "features" else "the mean probability of a need"
    sentence = f"{what} went from {before:.3g} to {now:.3g}"
    return ShiftFinding(kind, name, before, now, p, sentence)


def _words(
    reference: Sequence[ConversationSnapshot], recent: Sequence[ConversationSnapshot], alpha: float
) -> Iterator[ShiftFinding]:
    old = Counter(word for g in reference for word in sorted(g.words))
    new = Counter(word for g in recent for word in sorted(g.words))
    common = [w for w in sorted({*old, *new}) if old[w] + new[w] >= CONVERSATIONS_MIN]
    for word in common:
        p = fisher(old[word], len(reference), new[word], len(recent))
        if p < alpha / len(common):
            before, now = old[word] / len(reference), new[word] / len(recent)
            sentence = f"“{word}” is said in {now:.1%} of conversations, and was in {before:.1%}"
            yield ShiftFinding("vocabulary", word, before, now, p, sentence)


def kolmogorov_smirnov(a: ArrayLike, b: ArrayLike) -> float:
    """The p of two samples being of one distribution; too large where values are tied."""
    return float(stats.ks_2samp(a, b, method="asymp").pvalue)


def fisher(k: int, n: int, j: int, m: int) -> float:
    """The p of k of n and j of m having one share: Fisher's exact test, twice the smaller tail."""
    k_given_all = stats.hypergeom(n + m, k + j, n)
    return min(1.0, 2.0 * float(min(k_given_all.cdf(k), k_given_all.sf(k - 1))))
