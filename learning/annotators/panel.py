"""Whose labels can be trusted? Each agent's verdicts beside what others and the model expect.

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
    """All agents of a workspace, verdict by verdict, in the order of the ledger."""

    def __init__(self) -> None:
        self.by_name: dict[str, Annotator] = {}
        self.beyond = 0
        self._pools = ReferencePools()

    def learn(self, verdict: Verdict) -> bool:
        """Take in a verdict; True where its agent is suspected by it."""
        rater = self._rater(verdict.agent)
        if rater is None:
            self.beyond += 1
            return False
        self._time(rater, verdict.work, verdict.seconds, verdict.at)
        if verdict.needed is not None:
            near = (verdict.expected - TOLERANCE, verdict.expected + TOLERANCE)
            within = (max(0.02, near[0]), min(0.98, near[1]))
            for name, bet in rater.unlike_model.by_name.items():
                chance = behaviour_chance(name, verdict.expected)
                bet.learn(verdict.needed, chance, within, verdict.at)
            said = int(verdict.needed)
            case = _Case(verdict.cell, said, bool, verdict.expected, TOLERANCE, verdict.at)
            self._beside(rater, rater.unlike_others, case)
        rater.count(verdict)
        return self._suspected(rater, verdict.at)

    def time(self, agent: str, work: str, seconds: float | None, at: int) -> bool:
        """Take in how long a verdict took that is no sample, so that it is compared in nothing
        else: what agents tell unasked. True where its agent is suspected by it.
        """
        rater = self._rater(agent)
        if rater is None:
            return False
        rater.told += 1
        self._time(rater, work, seconds, at)
        return self._suspected(rater, at)

    def pair(self, one: Verdict, other: Verdict) -> list[str]:
        """Two agents judged the same case; gives those who are suspected by it.

        Who contradicts is the one on the side that neither others nor the model expect.
        """
        fresh = []
        for mine, theirs in ((one, other), (other, one)):
            rater = self._rater(mine.agent)
            if rater is None or mine.needed is None or theirs.needed is None:
                continue
            rater.pairs[2 * mine.needed + theirs.needed] += 1
            usual = rater.usually(mine.cell, mine.expected)
            expected = {usual >= 0.5, mine.expected >= 0.5}
            against = mine.needed != theirs.needed and mine.needed not in expected
            for name, bet in rater.contradicts.by_name.items():
                bet.learn(against, behaviour_chance(name), (0.0, CONTRADICTS), mine.at)
            if self._suspected(rater, mine.at):
                fresh.append(mine.agent)
        return fresh

    def correct(self, agent: str) -> None:
        """Somebody else corrected or retracted one of this agent's verdicts."""
        rater = self._rater(agent)
        if rater is not None:
            rater.corrected += 1

    def usual_seconds(self, work: str, agent: str | None = None) -> float | None:
        """The median time for a sort of work of those who are trusted, but for one; within a
        tenth. None while it is not known.
        """
        but = self.by_name.get(agent) if agent is not None else None
        step = self._median(work, but)
        return None if step is None else float(2 ** (step / 4))

    def dump(self) -> dict[str, Any]:
        """Exact state as plain JSON."""
        raters = {name: rater.dump() for name, rater in self.by_name.items()}
        state = {"raters": raters, "beyond": self.beyond, "pools": self._pools.dump()}
        found: dict[str, Any] = json.loads(json.dumps(state))
        return found

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> AnnotatorPanel:
        found = cls()
        found.by_name = {name: Annotator.load(one) for name, one in state["raters"].items()}
        found.beyond, found._pools = state["beyond"], ReferencePools.load(state["pools"])
        return found

    def _rater(self, name: str) -> Annotator | None:
        if name not in self.by_name and len(self.by_name) < AGENTS_MAX:
            self.by_name[name] = Annotator(len(self.by_name) + 1)
        return self.by_name.get(name)

    def _others(self, rater: Annotator | None) -> set[int]:
        """The numbers of those who are trusted, but for one."""
        raters = self.by_name.values()
        return {r.order for r in raters if r.suspected_at is None and r is not rater}

    def _suspected(self, rater: Annotator, at: int) -> bool:
        others = [r for r in self.by_name.values() if r is not rater and r.suspected_at is None]
        rater.alone = sum(r.judged >= JUDGED_MIN for r in others) < 2
        if rater.suspected_at is not None or rater.evidence < rater.bar:
            return False
        rater.suspected_at, rater.suspected_after = at, rater.judged
        return True

    def _time(self, rater: Annotator, work: str, seconds: float | None, at: int) -> None:
        """Compare how often a verdict is much quicker than the others' median."""
        if seconds is None:
            return
        cell, step = f"time/{work}", _step(seconds)
        usual = self._median(work, rater)
        if usual is None:
            self._pools.add(cell, rater.order, step)
            return
        quick = usual - _step(QUICKER)
        rater.quick += step < quick
        rater.timed += 1
        case = _Case(cell, step, lambda other: other < quick, 0.15, HASTE, at)
        self._beside(rater, rater.speed, case)

    def _beside(self, rater: Annotator, bets: MartingaleFamily, case: _Case) -> None:
        """Compare what a verdict shows with verdicts of others that it was not compared with."""
        mine = rater.waiting.setdefault(case.cell, [0, 0])
        mine[0] += 1
        mine[1] += case.holds(case.value)
        place = rater.read.get(case.cell, 0)
        others = self._others(rater)
        found, rater.read[case.cell] = self._pools.of(case.cell, others, place, EACH * mine[0])
        if found:
            theirs = (len(found), sum(map(case.holds, found)))
            usual = rater.usually(case.cell, case.expected)
            for name, bet in bets.by_name.items():
                chances = (behaviour_chance(name, usual), usual)
                ratio = two_sample_ratio((mine[0], mine[1]), theirs, chances, case.within)
                if ratio != 1.0:
                    bet.multiply(ratio, case.at)
            rater.compared(case.cell, *theirs)
        self._pools.add(case.cell, rater.order, case.value)

    def _median(self, work: str, but: Annotator | None) -> float | None:
        steps = sorted(self._pools.values(f"time/{work}", self._others(but)))
        return steps[(len(steps) - 1) // 2] if len(steps) >= TIMES_MIN else None


@dataclass(frozen=True, slots=True)
class _Case:
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
