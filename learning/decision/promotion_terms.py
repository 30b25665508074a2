"""Promotion and rollback criteria: when a challenger may replace the champion without being asked.

A challenger serves once it is proven better by a test that holds however often one looks, and
nothing else speaks against it. A champion promoted lately goes when an alarm says that its loss
rose above what was usual, while a line that stayed behind still does what was usual.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated

from pydantic import Field

from learning.decision.policy_document import PolicyDocument

CHALLENGERS_MAX = 4
"""Most challengers at once."""


def alpha_share(number: int) -> float:
    """The share of alpha that the so-manieth comparison of a workspace has (alpha spending).

    3 / ((n + 2) (n + 3)): a quarter for the first; over all that there may ever be it sums to 1.
    """
    return 3.0 / ((number + 2) * (number + 3))


class PromotionTerms(PolicyDocument):
    """The terms on which `jobs` promote and roll back; not `automatic`, they only recommend.

    `alpha`: chance that a challenger no better than the champion is ever promoted, all that are
    ever opened together. `judged_min` conversations and `days_min` days are the least it is judged
    by; in a segment of `segment_min` judged conversations it must do no harm; its calibration error
    (ECE) is at most `ece_max`, or the champion's. Nothing is promoted within `cooldown_days` of a
    switch. A drawn audit or a handoff that nobody answers for `unanswered_days` counts as the worst
    for the challenger. A champion is watched for `watch_days`; one false alarm in `false_alarm_in`
    outcomes.
    """

    automatic: Annotated[
        bool,
        Field(description="Jobs promote and roll back by themselves; false: they only recommend."),
    ] = True
    by_alias: Annotated[
        bool,
        Field(
            description="Whoever moves MLflow's alias `champion` switches; false: it is put back."
        ),
    ] = True
    alpha: Annotated[
        float,
        Field(gt=0, le=0.5, description="Chance that a challenger no better is ever promoted."),
    ] = 0.05
    judged_min: Annotated[
        int, Field(ge=1, le=1_000_000, description="Least judged conversations.")
    ] = 200
    days_min: Annotated[float, Field(ge=0, le=365, description="Least days of comparison.")] = 2.0
    segment_min: Annotated[
        int,
        Field(
            ge=10, le=1_000_000, description="Judged conversations from which on a segment counts."
        ),
    ] = 50
    ece_max: Annotated[
        float,
        Field(
            gt=0, le=1, description="Largest calibration error, unless the champion's is larger."
        ),
    ] = 0.05
    cooldown_days: Annotated[
        float, Field(ge=0, le=365, description="Days after a switch in which none follows.")
    ] = 1.0
    unanswered_days: Annotated[
        float,
        Field(
            gt=0,
            le=365,
            description="Days after which an unanswered audit or handoff counts against a "
            "challenger.",
        ),
    ] = 14.0
    watch_days: Annotated[
        float, Field(ge=0, le=3650, description="Days that a new champion is watched.")
    ] = 14.0
    false_alarm_in: Annotated[
        float, Field(ge=100, le=1e9, description="Outcomes in which one false alarm is expected.")
    ] = 10_000.0


@dataclass(slots=True)
class SegmentCount:
    """Running mean and variance of a challenger's gain in a segment."""

    judged: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, gain: float) -> None:
        self.judged += 1
        self.total += gain
        self.squares += gain * gain

    def is_harmed(self, level: float) -> bool:
        """One-sided z-test, looked at once: whether the mean gain lies below 0 at a level."""
        mean = self.total / self.judged
        variance = max(0.0, self.squares / self.judged - mean * mean)
        if mean >= 0:
            return False
        # Without any spread every gain is the same loss.
        error = math.sqrt(variance / self.judged)
        return mean + NormalDist().inv_cdf(1 - level) * error < 0


def harmed_segments(segments: Mapping[str, SegmentCount], terms: PromotionTerms) -> list[str]:
    """Segments with enough data in which a challenger costs more than the champion.

    `alpha` is shared by the segments (Bonferroni): with many of them one is low by chance.
    """
    judged = {
        name: segment for name, segment in segments.items() if segment.judged >= terms.segment_min
    }
    return sorted(
        name for name, segment in judged.items() if segment.is_harmed(terms.alpha / len(judged))
    )


@dataclass(frozen=True, slots=True)
class PromotionEvidence:
    """Evidence for a challenger's promotion; days are those since it was opened."""

    proven: bool
    judged: int
    days: float
    days_since_switch: float
    ece: float | None
    champion_ece: float | None
    harmed: tuple[str, ...] = ()
    drawn: int = 0
    unanswered: int = 0
    ece_by_chance: float = 0.0


def objections(evidence: PromotionEvidence, terms: PromotionTerms) -> list[str]:
    """Why a challenger may not serve yet; nothing speaks against one that may."""
    return list(_objections(evidence, terms))


def _objections(evidence: PromotionEvidence, terms: PromotionTerms) -> Iterator[str]:
    if not evidence.proven:
        yield "it is not proven better"
    if evidence.judged < terms.judged_min:
        yield f"{evidence.judged} of {terms.judged_min} judged conversations"
    if evidence.days < terms.days_min:
        yield f"open for {evidence.days:.1f} of {terms.days_min:g} days"
    if evidence.unanswered and not evidence.proven:
        yield (
            f"{evidence.unanswered} of {evidence.drawn} conversations on which they differ are not "
            "answered"
        )
    allowed = max(terms.ece_max, evidence.champion_ece or 0.0) + evidence.ece_by_chance
    if evidence.ece is None or evidence.ece > allowed:
        ece = "unknown" if evidence.ece is None else f"{evidence.ece:.3f}"
        yield f"its calibration error is {ece}; {allowed:.3f} is allowed"
    if evidence.harmed:
        yield f"it does harm in {', '.join(evidence.harmed)}"
    if evidence.days_since_switch < terms.cooldown_days:
        yield (
            f"the last switch is {evidence.days_since_switch:.1f} days old; the cool-down is "
            f"{terms.cooldown_days:g}"
        )
