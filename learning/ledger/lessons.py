"""Training labels from outcomes: one lesson for each scored message that a verdict speaks about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WEIGHT_MAX = 8.0
"""The lessons of one conversation share at most this weight, however many messages it has."""

DECLINED = "declined"
"""The source of weak negatives from offers that the customer declined or ignored."""

RESOLVED = "resolved"
"""The source of weak negatives from conversations that the bot closed as resolved."""

OBSERVED, RATED = "observed", "rated"
"""The sources of labels inferred from what happened in another system, and from ratings there."""

WEAK_SOURCES = ("silence", DECLINED, RESOLVED, OBSERVED, RATED)
"""The sources of labels that nobody gave: they teach, and count in no measure and no rate."""

LESSONS_MAX = 200
"""The newest so many teach: one outcome must not hold up what serves."""

VERDICTS = ("needed", "not_needed", "missed", "fine", "unknowable", "labels")


CALIBRATION_WEIGHT_MAX = 50.0
"""Most that a lesson weighs for the calibrator: one audit of a rare draw must not turn it."""


def calibration_weight(propensity: float | None) -> float:
    """The weight by inverse propensity, capped; 0 for what is no sample of anything, 1 where no
    propensity is recorded.
    """
    if propensity is None:
        return 1.0
    return min(1.0 / propensity, CALIBRATION_WEIGHT_MAX) if propensity > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """A training example: a scored message by its place in the conversation, label, weight."""

    seq: int
    label: float
    weight: float


def lessons(outcome: Mapping[str, Any], scored: Iterable[int]) -> tuple[Lesson, ...]:
    """Training examples of an outcome, for the scored messages (places from 1) of its conversation.

    `outcome` is a ledger entry's body: `verdict`, `covers` (the last place it speaks about),
    `begins` (the first one: what came before an earlier return was judged then), `escalated` (the
    place that escalated), `since` (the first place that needed a person), or `labels` as
    (place, label, weight). `weight` makes all of them count less.

    needed since k: before k 0, from k to the handoff 1; with no k the escalating message 1, earlier
    ones unknown; so, too, where the customer's own request escalated (`requested`), which is no
    evidence about what came between k and it. not_needed: all up to the escalating message 0.
    missed since k: before k 0, from k on 1; with no k it is known of the last scored message only.
    fine: all 0. unknowable: none.
    """
    if outcome.get("weight") == 0.0:
        return ()
    places = [s for s in scored if outcome["begins"] <= s <= outcome["covers"]]
    labelled = _label_messages(outcome, places)[-LESSONS_MAX:]
    return _cap_total_weight(labelled, float(outcome.get("weight", 1.0)))


def _label_messages(outcome: Mapping[str, Any], places: Sequence[int]) -> list[Lesson]:
    verdict, since, escalated = outcome["verdict"], outcome.get("since"), outcome.get("escalated")
    if verdict == "labels":
        among = set(places)
        return [
            Lesson(seq, float(label), float(weight))
            for seq, label, weight in outcome["labels"]
            if seq in among
        ]
    if verdict == "needed" and since is None:
        return [Lesson(s, 1.0, 1.0) for s in places if s == escalated]
    if verdict == "missed" and since is None:
        return [Lesson(s, 1.0, 1.0) for s in places[-1:]]
    if outcome.get("requested") and verdict == "needed":
        known = [s for s in places if s == escalated or (since is not None and s < since)]
        return [Lesson(s, float(s == escalated), 1.0) for s in known]
    if verdict in ("needed", "missed") and since is not None:
        last = escalated if verdict == "needed" and escalated is not None else outcome["covers"]
        return [Lesson(s, float(s >= since), 1.0) for s in places if s <= last]
    if verdict == "not_needed":
        last = outcome["covers"] if escalated is None else escalated
        return [Lesson(s, 0.0, 1.0) for s in places if s <= last]
    if verdict == "fine":
        return [Lesson(s, 0.0, 1.0) for s in places]
    return []


def _cap_total_weight(labelled: list[Lesson], weight: float) -> tuple[Lesson, ...]:
    total = sum(lesson.weight for lesson in labelled)
    share = weight * min(1.0, WEIGHT_MAX / total) if total > 0 else 1.0
    if share == 1.0:
        return tuple(labelled)
    return tuple(Lesson(lesson.seq, lesson.label, lesson.weight * share) for lesson in labelled)
