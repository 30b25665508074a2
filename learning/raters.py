"""Whose labels can be trusted? Each agent's verdicts beside what others and the model expect.

The model learns what agents say, so one who judges carelessly, or forges, harms it. Three things
are watched of each: whether a person is found needed as often as others find it in the same kind
of case, and as the model expected before it heard of it (only who disagrees with both is
suspected, so a model that errs accuses nobody, and of two agents who disagree the model tells who
errs); whether a second reviewer of the same conversation agrees; and whether verdicts come much
sooner than others'. All evidence of one agent is one number, which reaches its bar for any honest
agent at any time with a chance of ALPHA at most in all, the k-th agent having 1 / (k (k + 1)) of
it.

Honest means here: in each kind of case a person is found needed as often as others find it, within
TOLERANCE, whoever gets it; a colleague is contradicted against expectation in at most CONTRADICTS
of double reviews; and at most QUICK of verdicts are much quicker than the others' median.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from learning.rater import (
    CONTRADICTS,
    QUICK,
    TOLERANCE,
    Rater,
    Verdict,
    chance_of,
)
from learning.suspicion import unlike

AGENTS_MAX = 300
CELLS_MAX = 100
POOL_MAX = 300
"""The newest verdicts of each cell, to compare others with; each is compared once with each."""

EACH = 4
"""One verdict is compared with so many of others at most."""

TIMES_MIN = 20
"""Of fewer verdicts the others' usual time is not known."""

QUICKER = 4.0
"""Much quicker is less than the others' median time divided by this."""


class Raters:
    """All agents of a workspace, verdict by verdict, in the order of the ledger."""

    def __init__(self) -> None:
        self.by_name: dict[str, Rater] = {}
        self.beyond = 0
        self._pools: dict[str, list[Any]] = {}

    def learn(self, verdict: Verdict) -> bool:
        """Take in a verdict; True where its agent is suspected by it."""
        rater = self._rater(verdict.agent)
        if rater is None:
            self.beyond += 1
            return False
        self._time(rater, verdict.seconds, verdict.at)
        if verdict.needed is not None:
            self._compare(rater, verdict, verdict.needed)
        rater.count(verdict)
        return self._suspected(rater, verdict.at)

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
            unexpected = mine.needed != (rater.usually(mine) >= 0.5)
            against = mine.needed != theirs.needed and unexpected
            for name, bet in rater.contradicts.by_name.items():
                bet.learn(against, chance_of(name), (0.0, CONTRADICTS), mine.at)
            if self._suspected(rater, mine.at):
                fresh.append(mine.agent)
        return fresh

    def time(self, agent: str, seconds: float | None, at: int) -> bool:
        """Take in how long a verdict took that is no sample, so that it is compared in nothing
        else: what agents tell unasked. True where its agent is suspected by it.
        """
        rater = self._rater(agent)
        if rater is None:
            return False
        rater.told += 1
        self._time(rater, seconds, at)
        return self._suspected(rater, at)

    def correct(self, agent: str) -> None:
        """Somebody else corrected or retracted one of this agent's verdicts."""
        rater = self._rater(agent)
        if rater is not None:
            rater.corrected += 1

    def usual_seconds(self, agent: str | None = None) -> float | None:
        """The median time of those who are trusted, but for one; None while it is not known."""
        return _median(r.times for name, r in self._trusted() if name != agent)

    def dump(self) -> dict[str, Any]:
        """Exact state as plain JSON."""
        raters = {name: rater.dump() for name, rater in self.by_name.items()}
        state = {"raters": raters, "beyond": self.beyond, "pools": self._pools}
        found: dict[str, Any] = json.loads(json.dumps(state))
        return found

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Raters:
        found = cls()
        found.by_name = {name: Rater.load(one) for name, one in state["raters"].items()}
        found.beyond, found._pools = state["beyond"], dict(state["pools"])
        return found

    def _rater(self, name: str) -> Rater | None:
        if name not in self.by_name and len(self.by_name) < AGENTS_MAX:
            self.by_name[name] = Rater(len(self.by_name) + 1)
        return self.by_name.get(name)

    def _trusted(self) -> list[tuple[str, Rater]]:
        return [(name, r) for name, r in self.by_name.items() if r.suspected_at is None]

    def _suspected(self, rater: Rater, at: int) -> bool:
        if rater.suspected_at is not None or rater.evidence < rater.bar:
            return False
        rater.suspected_at, rater.suspected_after = at, rater.judged
        return True

    def _compare(self, rater: Rater, verdict: Verdict, needed: bool) -> None:
        """With what the model expected, and with verdicts of others that it was not yet."""
        near = (verdict.expected - TOLERANCE, verdict.expected + TOLERANCE)
        within = (max(0.02, near[0]), min(0.98, near[1]))
        for name, bet in rater.unlike_model.by_name.items():
            bet.learn(needed, chance_of(name, verdict.expected), within, verdict.at)
        cell = verdict.cell
        if cell not in self._pools and len(self._pools) >= CELLS_MAX:
            return
        mine = rater.waiting.setdefault(cell, [0, 0])
        mine[0] += 1
        mine[1] += needed
        others = rater.usually(verdict)
        of, found = self._others(rater, cell, EACH * mine[0])
        if of:
            for name, bet in rater.unlike_others.by_name.items():
                chances = chance_of(name, others), others
                ratio = unlike((mine[0], mine[1]), (of, found), chances, TOLERANCE)
                if ratio != 1.0:
                    bet.multiply(ratio, verdict.at)
            known = rater.usual.setdefault(cell, [0, 0])
            rater.usual[cell] = [known[0] + of, known[1] + found]
            rater.waiting[cell] = [0, 0]
        pool = self._pools.setdefault(cell, [0, []])
        pool[1].append(2 * rater.order + needed)
        if len(pool[1]) > POOL_MAX:
            pool[0] += 1
            del pool[1][0]

    def _others(self, rater: Rater, cell: str, most: int) -> tuple[int, int]:
        """Verdicts of trusted others in a cell that this agent was not compared with yet."""
        dropped, pool = self._pools.get(cell, (0, []))
        trusted = {one.order for _, one in self._trusted() if one is not rater}
        place, of, found = max(rater.read.get(cell, 0), dropped), 0, 0
        while of < most and place - dropped < len(pool):
            order, needed = divmod(pool[place - dropped], 2)
            if order in trusted:
                of, found = of + 1, found + needed
            place += 1
        rater.read[cell] = place
        return of, found

    def _time(self, rater: Rater, seconds: float | None, at: int) -> None:
        if seconds is None:
            return
        usual = _median(r.times for _, r in self._trusted() if r is not rater)
        if usual is not None:
            quick = seconds < usual / QUICKER
            rater.quick += quick
            rater.timed += 1
            for name, bet in rater.speed.by_name.items():
                bet.learn(quick, chance_of(name), (0.0, QUICK), at)
        step = str(round(2 * math.log2(max(seconds, 0.01))))
        rater.times[step] = rater.times.get(step, 0) + 1


def _median(found: Iterable[Mapping[str, int]]) -> float | None:
    """The median of times that are counted by their half octave, in seconds."""
    counts: Counter[int] = Counter()
    for times in found:
        counts.update({int(step): number for step, number in times.items()})
    below = 0
    for step in sorted(counts):
        below += counts[step]
        if 2 * below >= counts.total() >= TIMES_MIN:
            return float(2 ** (step / 2))
    return None
