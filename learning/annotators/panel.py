"""Annotator quality control: whose labels can be trusted, by anytime-valid tests on their verdicts.

The model learns what agents say, so one who judges carelessly, or forges, harms it. Three things
are watched of each: whether a person is found needed as often as others find it in the same kind
of case (where there is only one other, also whether as often as the model expected, which tells
who of the two errs); whether a second reviewer of the same conversation agrees; and whether
verdicts come much sooner than others'. All evidence of one agent is one number, which reaches its
bar for any honest agent at any time with a chance of ALPHA at most in all, the k-th agent having
1 / (k (k + 1)) of it.

Honest here means: in each kind of case a person is found needed as often as others find it, within
TOLERANCE, whoever gets it; a colleague is contradicted against expectation in at most CONTRADICTS
of double reviews; and verdicts are much quicker than usual as often as others' are, within HASTE.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from learning.annotators.annotator import (
    CONTRADICTS,
    HASTE,
    TOLERANCE,
    Annotator,
    Verdict,
    behaviour_chance,
)
from learning.annotators.betting_martingale import MartingaleFamily, two_sample_ratio
from learning.annotators.reference_groups import ReferencePools

AGENTS_MAX = 300
EACH = 4
"""One verdict is compared with so many of others at most."""

JUDGED_MIN = 10
"""Who gave fewer verdicts is nobody to compare others with."""

TIMES_MIN = 20
"""Of fewer verdicts the others' usual time is not known."""

QUICKER = 4.0
"""Much quicker is less than the others' median time divided by this."""


class AnnotatorPanel:
    """All annotators of a workspace, verdict by verdict, in the order of the ledger."""

    def __init__(self) -> None:
        self.by_name: dict[str, Annotator] = {}
        self.beyond = 0
        self._pools = ReferencePools()

    def learn(self, verdict: Verdict) -> bool:
        """Update by a verdict; True where it makes its annotator suspected."""
        annotator = self._annotator(verdict.agent)
        if annotator is None:
            self.beyond += 1
            return False
        self._compare_time(annotator, verdict.work, verdict.seconds, verdict.at)
        if verdict.needed is not None:
            tolerated = (verdict.expected - TOLERANCE, verdict.expected + TOLERANCE)
            within = (max(0.02, tolerated[0]), min(0.98, tolerated[1]))
            for name, martingale in annotator.unlike_model.by_name.items():
                chance = behaviour_chance(name, verdict.expected)
                martingale.learn(verdict.needed, chance, within, verdict.at)
            label = int(verdict.needed)
            case = _Observation(verdict.cell, label, bool, verdict.expected, TOLERANCE, verdict.at)
            self._compare_with_others(annotator, annotator.unlike_others, case)
        annotator.count(verdict)
        return self._suspected(annotator, verdict.at)

    def time(self, agent: str, work: str, seconds: float | None, at: int) -> bool:
        """Update by the time of a verdict that is no sample (told unasked).

        True where it makes its annotator suspected.
        """
        annotator = self._annotator(agent)
        if annotator is None:
            return False
        annotator.told += 1
        self._compare_time(annotator, work, seconds, at)
        return self._suspected(annotator, at)

    def pair(self, one: Verdict, other: Verdict) -> list[str]:
        """Update by a double review: returns those who are now suspected.

        Who contradicts is the one on the side that neither others nor the model expect.
        """
        suspects = []
        for mine, theirs in ((one, other), (other, one)):
            annotator = self._annotator(mine.agent)
            if annotator is None or mine.needed is None or theirs.needed is None:
                continue
            annotator.pairs[2 * mine.needed + theirs.needed] += 1
            usual = annotator.usual_share(mine.cell, mine.expected)
            expected = {usual >= 0.5, mine.expected >= 0.5}
            against = mine.needed != theirs.needed and mine.needed not in expected
            for name, martingale in annotator.contradicts.by_name.items():
                martingale.learn(against, behaviour_chance(name), (0.0, CONTRADICTS), mine.at)
            if self._suspected(annotator, mine.at):
                suspects.append(mine.agent)
        return suspects

    def correct(self, agent: str) -> None:
        """Count a correction or retraction of a verdict by somebody else."""
        annotator = self._annotator(agent)
        if annotator is not None:
            annotator.corrected += 1

    def usual_seconds(self, work: str, agent: str | None = None) -> float | None:
        """Median time for a sort of work of the trusted annotators, but for one; within a tenth.

        None while it is not known.
        """
        left_out = self.by_name.get(agent) if agent is not None else None
        step = self._median(work, left_out)
        return None if step is None else float(2 ** (step / 4))

    def dump(self) -> dict[str, Any]:
        """Exact state as plain JSON."""
        annotators = {name: annotator.dump() for name, annotator in self.by_name.items()}
        state = {"raters": annotators, "beyond": self.beyond, "pools": self._pools.dump()}
        copy: dict[str, Any] = json.loads(json.dumps(state))
        return copy

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> AnnotatorPanel:
        panel = cls()
        panel.by_name = {
            name: Annotator.load(annotator_state)
            for name, annotator_state in state["raters"].items()
        }
        panel.beyond, panel._pools = state["beyond"], ReferencePools.load(state["pools"])
        return panel

    def _annotator(self, name: str) -> Annotator | None:
        if name not in self.by_name and len(self.by_name) < AGENTS_MAX:
            self.by_name[name] = Annotator(len(self.by_name) + 1)
        return self.by_name.get(name)

    def _others(self, annotator: Annotator | None) -> set[int]:
        """The numbers of those who are trusted, but for one."""
        annotators = self.by_name.values()
        return {r.order for r in annotators if r.suspected_at is None and r is not annotator}

    def _suspected(self, annotator: Annotator, at: int) -> bool:
        others = [r for r in self.by_name.values() if r is not annotator and r.suspected_at is None]
        annotator.alone = sum(r.judged >= JUDGED_MIN for r in others) < 2
        if annotator.suspected_at is not None or annotator.evidence < annotator.bar:
            return False
        annotator.suspected_at, annotator.suspected_after = at, annotator.judged
        return True

    def _compare_time(
        self, annotator: Annotator, work: str, seconds: float | None, at: int
    ) -> None:
        """Compare how often a verdict is much quicker than the others' median."""
        if seconds is None:
            return
        cell, step = f"time/{work}", _step(seconds)
        usual = self._median(work, annotator)
        if usual is None:
            self._pools.add(cell, annotator.order, step)
            return
        quick = usual - _step(QUICKER)
        annotator.quick += step < quick
        annotator.timed += 1
        case = _Observation(cell, step, lambda other: other < quick, 0.15, HASTE, at)
        self._compare_with_others(annotator, annotator.speed, case)

    def _compare_with_others(
        self, annotator: Annotator, family: MartingaleFamily, case: _Observation
    ) -> None:
        """Compare what a verdict shows with verdicts of others that it was not compared with."""
        mine = annotator.waiting.setdefault(case.cell, [0, 0])
        mine[0] += 1
        mine[1] += case.holds(case.value)
        place = annotator.read.get(case.cell, 0)
        others = self._others(annotator)
        values, annotator.read[case.cell] = self._pools.take_from(
            case.cell, others, place, EACH * mine[0]
        )
        if values:
            theirs = (len(values), sum(map(case.holds, values)))
            usual = annotator.usual_share(case.cell, case.expected)
            for name, martingale in family.by_name.items():
                chances = (behaviour_chance(name, usual), usual)
                ratio = two_sample_ratio((mine[0], mine[1]), theirs, chances, case.within)
                if ratio != 1.0:
                    martingale.multiply(ratio, case.at)
            annotator.record_comparison(case.cell, *theirs)
        self._pools.add(case.cell, annotator.order, case.value)

    def _median(self, work: str, left_out: Annotator | None) -> float | None:
        steps = sorted(self._pools.values(f"time/{work}", self._others(left_out)))
        return steps[(len(steps) - 1) // 2] if len(steps) >= TIMES_MIN else None


@dataclass(frozen=True, slots=True)
class _Observation:
    """What a verdict shows: a value, and whether that which is compared holds of such a one; how
    often it should by what is `expected`, and within how much it usually does.
    """

    cell: str
    value: int
    holds: Callable[[int], bool]
    expected: float
    within: float
    at: int


def _step(seconds: float) -> int:
    """Times are compared by quarters of their octave."""
    return round(4 * math.log2(max(seconds, 0.001)))
