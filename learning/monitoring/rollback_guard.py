"""Rollback guard: change detection on the losses of a promoted champion and the other lines.

An e-detector watches each line's own loss for a rise above what was usual before the switch, and
two more the champion's excess, outcome by outcome, over its predecessor and over itself as it was
promoted (the anchor). All begin at the switch. Where the champion is worse than one that did not
rise, and its decisions cost more than that line's would have, the harm is the champion's; where
those rose, too, the world has become harder, and going back would not help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from learning.estimation.rate_intervals import under_drift
from learning.monitoring.loss_drift import TOLERANCE, LossAlarm

EXCESS = 0.02
"""What a champion's mean Brier loss may be above that of another line before it counts."""

Finding = Literal["calm", "previous", "anchor", "world"]


@dataclass(frozen=True, slots=True)
class LineLoss:
    """A line's loss since the switch: mean, and the greatest evidence of each of its detectors.

    `saves`: what its decisions would have cost less than the champion's, a judged conversation.
    """

    outcomes: int
    mean: float | None
    evidence: float
    excess: float = 0.0
    saves: float | None = None


@dataclass(frozen=True, slots=True)
class PairedLosses:
    """Losses of the champion and of another line on the same outcomes, and what the decisions of
    the other would have saved a judged conversation.
    """

    champion: Sequence[float]
    other: Sequence[float]
    saves: float


@dataclass(frozen=True, slots=True)
class GuardResult:
    """Finding of the guard; `allowed`: the mean loss that was usual, None where there is none."""

    finding: Finding
    allowed: float | None
    alarm_at: float
    champion_line: LineLoss
    previous_line: LineLoss | None
    anchor_line: LineLoss | None


def guard(
    usual: Sequence[float],
    champion: Sequence[float],
    previous: PairedLosses | None,
    anchor: PairedLosses | None,
    once_in: float,
) -> GuardResult:
    """Judge a champion by its losses since the switch, one per outcome, in order, in [0, 1].

    `usual` are the predecessor's losses before the switch.
    """
    if not usual:
        none = LineLoss(len(champion), _mean(champion), 0.0)
        return GuardResult("calm", None, once_in, none, None, None)
    usual_mean = under_drift(float(sum(usual)), len(usual))
    allowed = min(0.95, max(0.01, TOLERANCE * (usual_mean.high or 1.0)))
    champion_loss = LineLoss(
        len(champion), _mean(champion), _greatest_evidence(champion, allowed, once_in)
    )
    # Each line that is compared is a chance of a false alarm.
    harm_at = once_in * sum(pair is not None for pair in (previous, anchor))
    others = [
        None if pair is None else _compare_line(pair, allowed, once_in, harm_at)
        for pair in (previous, anchor)
    ]
    finding: Finding = "world" if champion_loss.evidence >= once_in else "calm"
    back: tuple[Finding, Finding] = ("previous", "anchor")
    for name, line in reversed(list(zip(back, others, strict=True))):
        if line is None or line.saves is None or line.saves <= 0.0:
            continue
        if line.evidence < once_in and line.excess >= harm_at:
            finding = name
    return GuardResult(finding, allowed, once_in, champion_loss, *others)


def _compare_line(pair: PairedLosses, allowed: float, once_in: float, harm_at: float) -> LineLoss:
    excess = [(1 + c - o) / 2 for c, o in zip(pair.champion, pair.other, strict=True)]
    most = _greatest_evidence(excess, 0.5 + EXCESS / 2, harm_at)
    own = _greatest_evidence(pair.other, allowed, once_in)
    return LineLoss(len(pair.other), _mean(pair.other), own, most, pair.saves)


def _greatest_evidence(losses: Sequence[float], allowed: float, once_in: float) -> float:
    """The most that a detector's evidence came to: an alarm that was given is not taken back."""
    alarm, most = LossAlarm(allowed, once_in), 0.0
    for loss in losses:
        if alarm.learn(loss):
            return alarm.evidence
        most = max(most, alarm.evidence)
    return most


def _mean(losses: Sequence[float]) -> float | None:
    return sum(losses) / len(losses) if losses else None
