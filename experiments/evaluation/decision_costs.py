"""Decision costs by inverse propensity weighting (Hajek), of each line and of two yardsticks.

Conversations whose label became known with a known probability count by its inverse. The
yardsticks learn nothing: the rules alone, and never handing over. Intervals are for one look.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.estimation.rate_intervals import (
    NO_RATE,
    Z_95,
    effective_size,
    missed_rate,
    under_drift,
)
from learning.measures.scores import Scores, log_losses

SEGMENTS_MAX = 60
RULES_ONLY, ALWAYS_CONTINUE = "rules only", "always continue"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JudgedOutcome:
    """An outcome. `needed` None: nobody can know. `propensity` 0: it is no sample of anything.

    `ruled`: rules alone hand the conversation over. `handed_over` by the model or a rule, `by_rule`
    the latter. `uniform`: the propensity of the uniform coin where that drew it, else 0. `caught`:
    it came to light by itself. `decided_at`: when it was first scored.
    """

    position: int
    conversation: str
    at: float
    needed: bool | None
    propensity: float
    ruled: bool
    handed_over: bool
    by_rule: bool
    uniform: float
    caught: bool
    decided_at: float
    segments: tuple[str, ...]

    @property
    def counts(self) -> bool:
        return self.needed is not None and self.propensity > 0


@dataclass(frozen=True, slots=True)
class DecisionCosts:
    """At which probability a line hands over, and what mistakes cost."""

    threshold: float
    unneeded: float
    missed: float


def compare_lines(
    outcomes: Iterable[JudgedOutcome],
    lines: Mapping[str, Scores],
    champion: str,
    terms: DecisionCosts,
) -> dict[str, dict[str, Any]]:
    """Decision costs of each line and yardstick, and how much more each costs a conversation than
    the champion, of those that both scored.
    """
    judged = [fact for fact in outcomes if fact.counts]
    needed = np.array([fact.needed for fact in judged], bool)
    weight = np.array([1 / fact.propensity for fact in judged])
    ruled = np.array([fact.ruled for fact in judged], bool)
    ups: dict[str, tuple[Bools, Bools]] = {
        name: _decisions(judged, ruled, scores, terms.threshold) for name, scores in lines.items()
    }
    base = ups[champion]
    ups |= {RULES_ONLY: (ruled, base[1]), ALWAYS_CONTINUE: (np.zeros(len(judged), bool), base[1])}
    costs = {name: _costs(up, needed, terms) for name, (up, _) in ups.items()}
    figures = {}
    for name, (up, there) in ups.items():
        common = there & base[1]
        excess = (costs[name] - costs[champion])[common]
        figures[name] = {
            "conversations": int(there.sum()),
            "cost_per_conversation": mean(costs[name][there], weight[there]),
            "escalated": mean(up[there].astype(float), weight[there]),
            "missed_of_kept": mean(needed[there & ~up].astype(float), weight[there & ~up]),
            "unneeded_of_escalated": mean((~needed[there & up]).astype(float), weight[there & up]),
            "more_than_champion": None if name == champion else mean(excess, weight[common]),
        }
    return figures


def _decisions(
    judged: Sequence[JudgedOutcome], ruled: Bools, scores: Scores, threshold: float
) -> tuple[Bools, Bools]:
    """Whether a line hands each over, and whether it is known: rules need no score."""
    highest: dict[int, float] = {}
    for position, p in zip(scores.position.tolist(), scores.probability.tolist(), strict=True):
        highest[position] = max(p, highest.get(position, 0.0))
    first = int(scores.position[0]) if len(scores) else 0
    up = np.array([highest.get(fact.position, 0.0) >= threshold for fact in judged], bool) | ruled
    there = [
        fact.position in highest or (fact.by_rule and 0 < first <= fact.position) for fact in judged
    ]
    return up, np.array(there, bool)


def _costs(up: Bools, needed: Bools, terms: DecisionCosts) -> Floats:
    return np.where(up & ~needed, terms.unneeded, 0.0) + np.where(~up & needed, terms.missed, 0.0)


def mean(x: Floats, weight: Floats) -> list[float] | None:
    """A weighted mean with its 95 % interval for one look; None of nothing."""
    whole = float(weight.sum())
    if not whole:
        return None
    middle = float((weight * x).sum()) / whole
    error = math.sqrt(float((weight**2 * (x - middle) ** 2).sum())) / whole
    return [middle, middle - Z_95 * error, middle + Z_95 * error]


def segments(
    outcomes: Iterable[JudgedOutcome], champion: Scores, terms: DecisionCosts
) -> dict[str, dict[str, Any]]:
    """The champion in each part of the traffic, the largest parts first; beside it what the
    yardsticks' decisions would have cost, and what was found of those that were really made.
    """
    every = list(outcomes)
    judged = [fact for fact in every if fact.counts]
    counts = Counter(name for fact in judged for name in fact.segments)
    loss = _losses(champion)
    rows = {}
    for name, total in counts.most_common(SEGMENTS_MAX):
        members = [fact for fact in judged if name in fact.segments]
        lines = compare_lines(members, {"champion": champion}, "champion", terms)
        champion_row = lines.pop("champion")
        losses = [loss[fact.position] for fact in members if fact.position in loss]
        weight = np.array([1 / fact.propensity for fact in members])
        needed = np.array([bool(fact.needed) for fact in members], float)
        rows[name] = champion_row | {
            "conversations": total,
            "needed": mean(needed, weight),
            "log_loss": mean(np.array(losses), np.ones(len(losses))),
            "yardsticks": {line: row["cost_per_conversation"] for line, row in lines.items()},
            "made": _actual_rates(fact for fact in every if name in fact.segments),
        }
    return rows


def _actual_rates(outcomes: Iterable[JudgedOutcome]) -> dict[str, Any]:
    """Error rates of the decisions that were made; intervals hold at every look.

    How many were kept is not among the outcomes, so misses are told of what was audited, and those
    caught beside them.
    """
    sums = RateSums()
    for fact in outcomes:
        sums.add(fact)
    size, missed = effective_size(sums.weight, sums.squares, sums.weight_missed)
    return {
        "false_escalation_rate": _share(sums.not_needed, sums.needed + sums.not_needed),
        "missed_of_audited": asdict(under_drift(missed, size) if size else NO_RATE),
        "audited": sums.audited,
        "caught": sums.caught,
        "unknowable": sums.unknowable,
    }


def _losses(scores: Scores) -> dict[int, float]:
    """The mean log loss of each outcome's lessons, by position."""
    positions, place = np.unique(scores.position, return_inverse=True)
    total = np.bincount(place, log_losses(scores.probability, scores.label))
    return dict(zip(positions.tolist(), (total / np.bincount(place)).tolist(), strict=True))


@dataclass(slots=True)
class RateSums:
    """Sums from which the rates follow, updated outcome by outcome.

    `kept` conversations were closed without a person; of these `caught` were missed for certain;
    the uniform audits' answers are summed by weight, and the weights of those missed.
    """

    needed: int = 0
    not_needed: int = 0
    needed_by_rule: int = 0
    not_needed_by_rule: int = 0
    unknowable: int = 0
    kept: int = 0
    caught: int = 0
    audited: int = 0
    weight: float = 0.0
    squares: float = 0.0
    weight_missed: float = 0.0

    def add(self, fact: JudgedOutcome) -> None:
        if fact.handed_over:
            if fact.needed is None:
                self.unknowable += 1
            elif fact.needed:
                self.needed += 1
                self.needed_by_rule += fact.by_rule
            else:
                self.not_needed += 1
                self.not_needed_by_rule += fact.by_rule
        elif fact.caught:
            self.caught += 1
        elif fact.uniform and fact.needed is not None:
            weight = 1 / fact.uniform
            self.audited += 1
            self.weight += weight
            self.squares += weight * weight
            self.weight_missed += weight * fact.needed


def rates(sums: RateSums, terms: DecisionCosts) -> dict[str, Any]:
    """The rates of what really was decided, with intervals that hold at every look."""
    handoffs = sums.needed + sums.not_needed
    by_rule = sums.needed_by_rule + sums.not_needed_by_rule
    kept = max(sums.kept, sums.caught)
    audited = effective_size(sums.weight, sums.squares, sums.weight_missed)
    missed = asdict(missed_rate(kept, sums.caught, *audited))
    false = _share(sums.not_needed, handoffs)
    conversations = kept + handoffs + sums.unknowable
    cost = None
    if conversations and missed["rate"] is not None and (handoffs or not conversations - kept):
        escalated = terms.unneeded * (conversations - kept) * (false["rate"] or 0.0)
        cost = (terms.missed * kept * missed["rate"] + escalated) / conversations
    return {
        "missed_rate": missed,
        "false_escalation_rate": false,
        "false_escalation_rate_of_rules": _share(sums.not_needed_by_rule, by_rule),
        "false_escalation_rate_of_the_model": _share(
            sums.not_needed - sums.not_needed_by_rule, handoffs - by_rule
        ),
        "automation_rate": _share(kept, conversations),
        "cost_per_conversation": cost,
        "kept": kept,
        "judged": handoffs,
        "audited": sums.audited,
        "caught": sums.caught,
    }


def _share(count: int, among: int) -> dict[str, Any]:
    return asdict(under_drift(count, among) if among else NO_RATE)


TOP = 20
MISSED, UNNEEDED = "missed: needed a person", "handed over by the model: needed nobody"


def costliest(
    outcomes: Iterable[JudgedOutcome], champion: Scores, terms: DecisionCosts, most: int = TOP
) -> list[dict[str, Any]]:
    """Mistakes by regret: cost times the champion's probability of the contrary when scored.

    A conversation that a rule handed over is no mistake of the model, and counts for none.
    """
    highest: dict[int, float] = {}
    for at, p in zip(champion.position.tolist(), champion.probability.tolist(), strict=True):
        highest[at] = max(p, highest.get(at, 0.0))
    mistakes: list[tuple[float, dict[str, Any]]] = []
    for fact in outcomes:
        p = highest.get(fact.position)
        if p is None or fact.needed is None or fact.by_rule or fact.needed == fact.handed_over:
            continue
        cost = terms.missed if fact.needed else terms.unneeded
        regret = round(cost * (1.0 - p if fact.needed else p), 6)
        mistake = {
            "conversation": fact.conversation,
            "position": fact.position,
            "what": MISSED if fact.needed else UNNEEDED,
            "probability": round(p, 6),
            "cost": cost,
            "at": fact.at,
            "regret": regret,
        }
        mistakes.append((regret, mistake))
    mistakes.sort(key=lambda entry: (-entry[0], entry[1]["position"]))
    return [mistake for _, mistake in mistakes[:most]]
