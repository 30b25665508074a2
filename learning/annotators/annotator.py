"""Annotator reliability: one agent's verdicts, counted, and test martingales on their honesty.

See `learning.annotators.panel` for what honest means and why all of it together seldom errs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from learning.annotators.betting_martingale import MartingaleFamily
from learning.estimation.rate_intervals import ALPHA

TOLERANCE = 0.1
"""Honest agents differ so much in how often they find a person needed, in the same kind of case."""

CONTRADICTS = 0.2
"""Share of double reviews in which an honest agent is alone against colleague and expectation."""

HASTE = 0.25
"""Honest agents' shares of much quicker verdicts differ so much."""

RECENT = 0.97
"""How much a verdict still counts in `recent` after each later one: some 33 count."""

BINS = (0.1, 0.3, 0.6, 0.85)
AGREEMENT = ("needed", "not_needed", "opposite", "chance")
PAIRS = ("contradicts", "mostly contradicts")
SPEED = ("often quick", "always quick")
_CHANCE = {"contradicts": 0.5, "mostly contradicts": 0.85, "often quick": 0.65}
_CHANCE |= {"always quick": 0.95, "needed": 0.95, "not_needed": 0.05, "chance": 0.5}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One label of an annotator.

    It is of a sort of `work` (times are compared within it). `kind` is the sort of case that it is
    compared within, such as what it was escalated for; those of `graded` kinds are told apart by
    `expected`, too, the probability the model gave when the message was scored. `needed` None:
    could not tell. `seconds` at most were spent on it, None where that is not known. `at` is its
    place in the ledger.
    """

    agent: str
    work: str
    kind: str
    expected: float
    needed: bool | None
    seconds: float | None
    at: int
    graded: bool = True

    @property
    def cell(self) -> str:
        grade = sum(self.expected >= edge for edge in BINS) if self.graded else "all"
        return f"{self.kind}/{grade}"


@dataclass(slots=True)
class Annotator:
    """Reliability state of one annotator. `order` counts annotators as they appeared, from 1.

    `waiting` are verdicts by cell (of, held) that are not compared yet, `usual` those of others
    that they were compared with, `read` how far the cell's pool was read; `alone` says that there
    are fewer than two others to compare with. Field names are stored.
    """

    order: int
    judged: int = 0
    needed: int = 0
    unknowable: int = 0
    told: int = 0
    corrected: int = 0
    expected: float = 0.0
    recent: float = 0.0
    quick: int = 0
    timed: int = 0
    alone: bool = True
    suspected_at: int | None = None
    suspected_after: int | None = None
    pairs: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    waiting: dict[str, list[int]] = field(default_factory=dict)
    usual: dict[str, list[int]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    unlike_others: MartingaleFamily = field(default_factory=lambda: MartingaleFamily.of(AGREEMENT))
    unlike_model: MartingaleFamily = field(default_factory=lambda: MartingaleFamily.of(AGREEMENT))
    contradicts: MartingaleFamily = field(default_factory=lambda: MartingaleFamily.of(PAIRS))
    speed: MartingaleFamily = field(default_factory=lambda: MartingaleFamily.of(SPEED))

    @property
    def disagrees(self) -> MartingaleFamily:
        """Evidence against others; where these are one annotator only, the lesser evidence of both.

        The model tells which of the two errs.
        """
        if self.alone:
            return min(self.unlike_others, self.unlike_model, key=lambda family: family.worth)
        return self.unlike_others

    @property
    def evidence(self) -> float:
        return (self.disagrees.worth + self.contradicts.worth + self.speed.worth) / 3

    @property
    def bar(self) -> float:
        """Reached by an honest agent with a chance of ALPHA / (order (order + 1)) at most."""
        return self.order * (self.order + 1) / ALPHA

    @property
    def leading(self) -> tuple[str, int]:
        """The behaviour that the evidence speaks for most, and since when (a verdict's `at`)."""
        return max(
            (self.disagrees, self.contradicts, self.speed), key=lambda family: family.worth
        ).leading

    def count(self, verdict: Verdict) -> None:
        if verdict.needed is None:
            self.unknowable += 1
            return
        self.judged += 1
        self.needed += verdict.needed
        self.expected += verdict.expected
        excess = verdict.needed - verdict.expected
        self.recent = RECENT * self.recent + (1 - RECENT) * excess

    def usual_share(self, cell: str, expected: float) -> float:
        """Shrunken estimate of how often it holds of others in such a case, clipped to 0.02..0.98.

        From those this annotator was compared with; where they are few, from all cells of the same
        kind; before that, as is expected.
        """
        share = expected
        for name in (kind_of(cell), cell):
            of, held = self.usual.get(name, (0, 0))
            share = (held + 4 * share) / (of + 4)
        return min(0.98, max(0.02, share))

    def record_comparison(self, cell: str, of: int, held: int) -> None:
        """Count what held of the others that this annotator was just compared with."""
        for name in (kind_of(cell), cell):
            counts = self.usual.get(name, (0, 0))
            self.usual[name] = [counts[0] + of, counts[1] + held]
        self.waiting[cell] = [0, 0]

    def dump(self) -> dict[str, Any]:
        families = {name: getattr(self, name).dump() for name in _FAMILIES}
        return {name: getattr(self, name) for name in _PLAIN} | families

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Annotator:
        families: dict[str, Any] = {name: MartingaleFamily.load(state[name]) for name in _FAMILIES}
        return cls(**{name: state[name] for name in _PLAIN} | families)


_FAMILIES = ("unlike_others", "unlike_model", "contradicts", "speed")
_PLAIN = (
    *("order", "judged", "needed", "unknowable", "told", "corrected", "expected", "recent"),
    *(
        "quick",
        "timed",
        "suspected_at",
        "suspected_after",
        "pairs",
        "waiting",
        "usual",
        "read",
    ),
)


def kind_of(cell: str) -> str:
    return cell.rpartition("/")[0]


def behaviour_chance(behaviour: str, usual: float = 0.5) -> float:
    """Bernoulli parameter under a suspected behaviour: of "needed", or of what it is named for."""
    if behaviour == "opposite":
        return min(0.95, max(0.05, 1 - usual))
    return _CHANCE[behaviour]
