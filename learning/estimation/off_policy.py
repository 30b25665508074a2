"""Off-policy evaluation: what another policy would have come to, from logged conversations.

Each conversation is kept, offered a person or escalated, under the policy that is evaluated; and
its truth is known for certain (judged, or caught), known for some of its kind (audited with a
propensity, or judged so far), or not known. Each kind is estimated by itself (inverse propensity
weighting) and the sums keep their bounds, so all intervals of one preview hold together.
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
    """A logged conversation: its `action`, the source of its label, and the label if there is one.

    `source` person: it was handed over, and its agent tells; audit: it was kept, and a review
    tells, if it was drawn. `needed` None: not known. `propensity`: the probability that a kept one
    was drawn; `certain` when it was caught, which is no sample. `offered`: a person was offered on
    its way; always so where the action is `offered`.
    """

    action: Action
    source: Source
    needed: bool | None
    propensity: float = 1.0
    certain: bool = False
    offered: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """A point estimate with its 95 % interval; its value is None where nothing is known."""

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
        """Complement: the rest of a whole."""
        value = None if self.value is None else whole - self.value
        return Bounds(value, whole - self.high, whole - self.low)


NONE = Bounds(0.0, 0.0, 0.0)


def sum_bounds(*amounts: Bounds) -> Bounds:
    """Sum of estimates, bounds included; its value is None where a term's is."""
    values = [amount.value for amount in amounts]
    value = None if None in values else sum(v for v in values if v is not None)
    return Bounds(
        value, sum(amount.low for amount in amounts), sum(amount.high for amount in amounts)
    )


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """Value of a policy: conversations by action, missed and unneeded escalations, cost."""

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
    """Off-policy estimate of a policy's value, with `accepting` the acceptance of offers."""
    cells: dict[tuple[Action, Source], list[LoggedConversation]] = {}
    offers = 0
    for case in cases:
        offers += case.offered or case.action == "offered"
        cells.setdefault((case.action, case.source), []).append(case)
    count = {
        action: sum(
            len(group) for (group_action, _), group in cells.items() if group_action == action
        )
        for action in _ACTIONS
    }
    needed = {action: _needed_by(action, cells) for action in _ACTIONS}
    rates = accepting
    offered_unneeded = needed["offered"].out_of(count["offered"])
    missed = sum_bounds(needed["kept"], needed["offered"].times(1 - rates.needed))
    unneeded = sum_bounds(
        needed["escalated"].out_of(count["escalated"]), offered_unneeded.times(rates.unneeded)
    )
    helped = sum_bounds(needed["escalated"], needed["offered"].times(rates.needed))
    spared = sum_bounds(
        needed["kept"].out_of(count["kept"]), offered_unneeded.times(1 - rates.unneeded)
    )
    whole = sum(count.values())
    cost = sum_bounds(
        missed.times(costs.missed),
        unneeded.times(costs.unneeded),
        Bounds(costs.ask * offers, costs.ask * offers, costs.ask * offers),
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
    """Share of `yes` in yes and no: least where yes is least and no is greatest."""
    value = None
    if yes.value is not None and no.value is not None and yes.value + no.value > 0:
        value = yes.value / (yes.value + no.value)
    low = yes.low / (yes.low + no.high) if yes.low > 0 else 0.0
    high = yes.high / (yes.high + no.low) if no.low > 0 else 1.0
    return Bounds(value, low, high)


def _needed_by(
    action: Action, cells: dict[tuple[Action, Source], list[LoggedConversation]]
) -> Bounds:
    return sum_bounds(*(needed_among(cells[key]) for key in sorted(cells) if key[0] == action))


def needed_among(cases: Sequence[LoggedConversation]) -> Bounds:
    """Hajek (self-normalised inverse propensity) estimate of how many cases needed a person.

    All cases are of one source. What is certain is counted. For the rest, the share among those
    known, weighted by inverse propensities, and an interval for as many equally weighted ones
    (Kish's effective size): exact where all propensities are equal, else approximate.
    """
    person = cases[0].source == "person"
    certain = [c for c in cases if c.certain or (person and c.needed is not None)]
    rest = len(cases) - len(certain)
    certain_needed = float(sum(bool(c.needed) for c in certain))
    if not rest:
        return Bounds(certain_needed, certain_needed, certain_needed)
    sample = [c for c in cases if c.needed is not None and (person or not c.certain)]
    weights = [1 / c.propensity for c in sample]
    whole, squares = sum(weights), sum(w * w for w in weights)
    if not whole:
        return Bounds(None, certain_needed, certain_needed + rest)
    share = sum(w for w, c in zip(weights, sample, strict=True) if c.needed) / whole
    size = whole * whole / squares
    interval = under_drift(share * size, size, ALPHA / CELLS)
    low, high = interval.low or 0.0, 1.0 if interval.high is None else interval.high
    return Bounds(
        certain_needed + rest * share, certain_needed + rest * low, certain_needed + rest * high
    )
