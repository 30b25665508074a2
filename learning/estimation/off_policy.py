"""What another policy would have come to, from what is known of conversations that took their way.

Each conversation is kept, offered a person or escalated, under the policy that is asked about; and
its truth is known for certain (judged, or caught), known for some of its kind (audited with a
propensity, or judged so far), or not known. Each kind is estimated by itself and the sums keep
their bounds, so all intervals of one preview hold together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from learning.decision.policy import AcceptanceRates, Costs
from learning.estimation.rate_intervals import ALPHA, under_drift

Action = Literal["kept", "offered", "escalated"]
Source = Literal["person", "audit"]
CELLS = 6
"""Three ways times two sources: each cell's interval is at level ALPHA / CELLS."""


@dataclass(frozen=True, slots=True)
class LoggedConversation:
    """A conversation: its `way`, who could tell the truth, and the truth if they did.

    `source` person: it was handed over, and its agent tells; audit: it was kept, and a review
    tells, if it was drawn. `needed` None: not known. `propensity`: the probability that a kept one
    was drawn; `certain` when it was caught, which is no sample. `asked`: that it was offered a
    person on its way; one whose way is offered always was.
    """

    way: Action
    source: Source
    needed: bool | None
    propensity: float = 1.0
    certain: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """An estimate with its 95 % interval; None where nothing is known."""

    value: float | None
    low: float
    high: float

    def times(self, factor: float) -> Bounds:
        return Bounds(
            None if self.value is None else self.value * factor,
            self.low * factor,
            self.high * factor,
        )

    def out_of(self, whole: float) -> Bounds:
        """The rest of a whole."""
        value = None if self.value is None else whole - self.value
        return Bounds(value, whole - self.high, whole - self.low)


NONE = Bounds(0.0, 0.0, 0.0)


def sum_bounds(*amounts: Bounds) -> Bounds:
    """The sum; its value is not known where a part's is not."""
    values = [one.value for one in amounts]
    value = None if None in values else sum(v for v in values if v is not None)
    return Bounds(value, sum(x.low for x in amounts), sum(x.high for x in amounts))


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """Conversations by their way; what of them was missed and escalated for nothing; the cost."""

    conversations: int
    kept: int
    offered: int
    escalated: int
    missed: Bounds
    missed_rate: Bounds
    unneeded: Bounds
    false_escalation_rate: Bounds
    cost_per_conversation: Bounds


def outlook(
    cases: Iterable[LoggedConversation], costs: Costs, accepting: AcceptanceRates
) -> PolicyValue:
    """Estimate what cases come to. Of those offered a person, the shares `accepting` take one."""
    cells: dict[tuple[Action, Source], list[LoggedConversation]] = {}
    asks = 0
    for case in cases:
        asks += case.asked or case.way == "offered"
        cells.setdefault((case.way, case.source), []).append(case)
    count = {way: sum(len(x) for (w, _), x in cells.items() if w == way) for way in _ACTIONS}
    needed = {way: _needed_by(way, cells) for way in _ACTIONS}
    a = accepting
    offered_unneeded = needed["offered"].out_of(count["offered"])
    missed = sum_bounds(needed["kept"], needed["offered"].times(1 - a.needed))
    unneeded = sum_bounds(
        needed["escalated"].out_of(count["escalated"]), offered_unneeded.times(a.unneeded)
    )
    helped = sum_bounds(needed["escalated"], needed["offered"].times(a.needed))
    spared = sum_bounds(
        needed["kept"].out_of(count["kept"]), offered_unneeded.times(1 - a.unneeded)
    )
    whole = sum(count.values())
    cost = sum_bounds(
        missed.times(costs.missed),
        unneeded.times(costs.unneeded),
        Bounds(costs.ask * asks, costs.ask * asks, costs.ask * asks),
    )
    return PolicyValue(
        whole,
        count["kept"],
        count["offered"],
        count["escalated"],
        missed,
        ratio_bounds(missed, spared),
        unneeded,
        ratio_bounds(unneeded, helped),
        cost.times(1 / whole) if whole else NONE,
    )


_ACTIONS: tuple[Action, ...] = ("kept", "offered", "escalated")


def ratio_bounds(yes: Bounds, no: Bounds) -> Bounds:
    """The part of `yes` in yes and no: least where yes is least and no is greatest."""
    value = None
    if yes.value is not None and no.value is not None and yes.value + no.value > 0:
        value = yes.value / (yes.value + no.value)
    low = yes.low / (yes.low + no.high) if yes.low > 0 else 0.0
    high = yes.high / (yes.high + no.low) if no.low > 0 else 1.0
    return Bounds(value, low, high)


def _needed_by(way: Action, cells: dict[tuple[Action, Source], list[LoggedConversation]]) -> Bounds:
    return sum_bounds(*(needed_among(cells[key]) for key in sorted(cells) if key[0] == way))


def needed_among(cases: Sequence[LoggedConversation]) -> Bounds:
    """How many of some cases, all of one source, needed a person.

    What is certain is counted. For the rest, the share among those known, weighted by inverse
    propensities (Hajek), and an interval for as many equally weighted ones (Kish's effective
    size): exact where all propensities are equal, else approximate.
    """
    person = cases[0].source == "person"
    certain = [c for c in cases if c.certain or (person and c.needed is not None)]
    rest = len(cases) - len(certain)
    sure = float(sum(bool(c.needed) for c in certain))
    if not rest:
        return Bounds(sure, sure, sure)
    sample = [c for c in cases if c.needed is not None and (person or not c.certain)]
    weights = [1 / c.propensity for c in sample]
    whole, squares = sum(weights), sum(w * w for w in weights)
    if not whole:
        return Bounds(None, sure, sure + rest)
    share = sum(w for w, c in zip(weights, sample, strict=True) if c.needed) / whole
    size = whole * whole / squares
    found = under_drift(share * size, size, ALPHA / CELLS)
    low, high = found.low or 0.0, 1.0 if found.high is None else found.high
    return Bounds(sure + rest * share, sure + rest * low, sure + rest * high)
