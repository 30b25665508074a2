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

from learning.estimation.decision_loss import CONTINUE, ESCALATE, OFFER, DecisionLoss, Levels
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
RULES_HELD_OUT = "rules only, holdout"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JudgedOutcome:
    """An outcome. `needed` None: nobody can know. `propensity` 0: it is no sample of anything.

    `ruled`: rules alone hand the conversation over; `rule_offers`: they offer a person.
    `handed_over` by the model or a rule, `by_rule` the latter. `uniform`: the propensity of the
    uniform coin where that drew it, else 0. `caught`: it came to light by itself. `decided_at`:
    when it was first scored. `opening`: the number of its lessons, if the first is of the
    customer's first message, else 0. `labelled`: its messages were labelled one by one.
    `held_out`: rules alone decided in it, by a draw.
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
    rule_offers: bool = False
    opening: int = 0
    labelled: bool = False
    held_out: bool = False

    @property
    def rule_level(self) -> int:
        """The action of the rules alone."""
        return ESCALATE if self.ruled else OFFER if self.rule_offers else CONTINUE

    @property
    def counts(self) -> bool:
        return self.needed is not None and self.propensity > 0


@dataclass(frozen=True, slots=True)
class Population:
    """How many conversations there were of each kind, judged or not: kept ones, of which some were
    caught missed, and those that a person got.
    """

    kept: int
    caught: int
    handed_over: int


def population_weights(
    outcomes: Iterable[JudgedOutcome], population: Population | None
) -> dict[int, float]:
    """Weights of judged outcomes by position: inverse propensities, post-stratified to the known
    numbers of kept, caught and handed over conversations, so that what nobody answered is spoken
    for by others of its kind. Empty where a kind has no answer at all: then nothing is known.
    Without a population, inverse propensities alone.
    """
    strata: dict[str, list[tuple[int, float]]] = {}
    for fact in outcomes:
        caught = population is not None and fact.caught and not fact.handed_over
        if fact.needed is None or not (caught or fact.propensity):
            continue
        kind = "handed over" if fact.handed_over else "caught" if caught else "kept"
        weight = 1.0 if caught else 1.0 / fact.propensity
        strata.setdefault("labelled" if fact.labelled else kind, []).append((fact.position, weight))
    if population is None:
        return {at: weight for kind in strata.values() for at, weight in kind}
    labelled = len(strata.get("labelled", ()))
    sizes = {
        "handed over": population.handed_over,
        "caught": population.caught,
        "kept": max(0, population.kept - population.caught - labelled),
    }
    if any(size and not strata.get(kind) for kind, size in sizes.items()) and not labelled:
        return {}
    weights: dict[int, float] = {}
    for kind, pairs in strata.items():
        total = sum(weight for _, weight in pairs)
        factor = sizes.get(kind, total) / total
        weights |= {at: weight * factor for at, weight in pairs}
    return weights


def compare_lines(
    outcomes: Iterable[JudgedOutcome],
    lines: Mapping[str, Scores],
    champion: str,
    terms: DecisionLoss,
    weights: Mapping[int, float],
) -> dict[str, dict[str, Any]]:
    """Decision costs of each line and yardstick, and how much more each costs a conversation than
    the champion, of those that both scored, by `population_weights`.

    What a line that does not serve would have come to is cut off by the model's handoffs. Where it
    had not handed over by then, `bounds` is true and its figures of cost are bounds. `source` says
    the same in a word. In a conversation that was held out, no handoff was the model's.
    """
    judged = [fact for fact in outcomes if fact.position in weights]
    needed = np.array([fact.needed for fact in judged], bool)
    weight = np.array([weights[fact.position] for fact in judged])
    rules = np.array([fact.rule_level for fact in judged], np.int64)
    actions = {name: _actions(judged, rules, scores, terms) for name, scores in lines.items()}
    base = actions[champion]
    actions |= {RULES_ONLY: (rules, base[1]), ALWAYS_CONTINUE: (np.zeros_like(rules), base[1])}
    costs = {name: terms.losses(level, needed) for name, (level, _) in actions.items()}
    cut = np.array([f.handed_over and not f.by_rule and not f.held_out for f in judged], bool)
    figures = {}
    for name, (level, there) in actions.items():
        known = there & base[1]
        up, unmet = level == ESCALATE, needed * _unmet(level, terms)
        open_ended = cut & ~up if name not in (champion, ALWAYS_CONTINUE) else np.zeros_like(cut)
        least, most = _cost_bounds(level, needed, costs[name], open_ended, terms)
        more = (least - costs[champion], most - costs[champion])
        figures[name] = {
            "conversations": int(there.sum()),
            "cost_per_conversation": _mean_between(
                least[there], most[there], weight[there], terms.largest
            ),
            "bounds": bool(open_ended[there].any()),
            "source": "bounds" if open_ended[there].any() else "judged",
            "escalated": mean(up[there].astype(float), weight[there], 1.0),
            "offered": mean((level == OFFER)[there].astype(float), weight[there], 1.0),
            "missed_of_kept": mean(unmet[there & ~up], weight[there & ~up], 1.0),
            "unneeded_of_escalated": mean(
                (~needed[there & up]).astype(float), weight[there & up], 1.0
            ),
            "more_than_champion": None
            if name == champion
            else _mean_between(more[0][known], more[1][known], weight[known], terms.unit),
        }
    return figures


@dataclass(frozen=True, slots=True)
class HoldoutSample:
    """The judged conversations of those that were held out from the model, what the model `said` in
    each when it was decided, and how many there were.
    """

    outcomes: Sequence[JudgedOutcome]
    said: Scores
    population: Population


def held_out_row(sample: HoldoutSample, terms: DecisionLoss) -> dict[str, Any]:
    """What rules alone cost where they decided, as `compare_lines` has it, beside what the model's
    decisions would have cost in the same conversations: nothing is cut off, so these are no bounds.
    """
    weights = population_weights(sample.outcomes, sample.population)
    rows = compare_lines(sample.outcomes, {"model": sample.said}, "model", terms, weights)
    held_out = sample.population.kept + sample.population.handed_over
    return rows[RULES_ONLY] | {"source": "holdout", "held_out": held_out}


def _cost_bounds(
    level: Levels, needed: Bools, cost: Floats, open_ended: Bools, terms: DecisionLoss
) -> tuple[Floats, Floats]:
    """The least and the most that each conversation can have cost a line that did not serve: one
    that the model's handoff cut off may have gone on to a stronger action.
    """
    least, most = cost.copy(), cost.copy()
    for later in (OFFER, ESCALATE):
        other = terms.losses(np.maximum(level, later), needed)
        least = np.where(open_ended, np.minimum(least, other), least)
        most = np.where(open_ended, np.maximum(most, other), most)
    return least, most


def _mean_between(least: Floats, most: Floats, weight: Floats, width: float) -> list[float] | None:
    """The mean of what lies between bounds: its middle, the lower end of the least and the upper
    end of the most.
    """
    low, high = mean(least, weight, width), mean(most, weight, width)
    return None if low is None or high is None else [(low[0] + high[0]) / 2, low[1], high[2]]


def _unmet(level: Levels, terms: DecisionLoss) -> Floats:
    """The share of those in need whom an action leaves without a person."""
    return np.array([1.0, 1.0 - terms.accepted_needed, 0.0])[level]


def _actions(
    judged: Sequence[JudgedOutcome], rules: Levels, scores: Scores, terms: DecisionLoss
) -> tuple[Levels, Bools]:
    """A line's action on each, and whether it is known: rules need no score."""
    by_position = line_levels(scores, openings(judged), terms)
    first = int(scores.position[0]) if len(scores) else 0
    own = np.array([by_position.get(fact.position, CONTINUE) for fact in judged], np.int64)
    there = [
        fact.position in by_position or (fact.by_rule and 0 < first <= fact.position)
        for fact in judged
    ]
    return np.maximum(own, rules), np.array(there, bool)


def openings(judged: Iterable[JudgedOutcome]) -> dict[int, int]:
    """By position: the number of an outcome's lessons, where the first is a customer's first."""
    return {fact.position: fact.opening for fact in judged if fact.opening}


def line_levels(scores: Scores, openings: Mapping[int, int], terms: DecisionLoss) -> dict[int, int]:
    """The strongest action of a line in each outcome that it scored, by position, in order."""
    positions, start, place = np.unique(scores.position, return_index=True, return_inverse=True)
    ends = np.append(start[1:], len(scores))[: start.size]
    first = np.zeros(len(scores), bool)
    for at, begin, end in zip(positions.tolist(), start.tolist(), ends.tolist(), strict=True):
        first[begin] = openings.get(at) == end - begin
    strongest = np.zeros(positions.size, np.int64)
    np.maximum.at(strongest, place, terms.levels(scores.probability, first))
    return dict(zip(positions.tolist(), strongest.tolist(), strict=True))


def mean(x: Floats, weight: Floats, width: float = 0.0) -> list[float] | None:
    """A weighted mean with its 95 % interval for one look; None of nothing.

    `width` is that of the range of x: so much may be unseen with the largest weight, twice, so that
    few answers, all alike, are no proof (as in Wilson's interval of a share).
    """
    whole = float(weight.sum())
    if not whole:
        return None
    middle = float((weight * x).sum()) / whole
    unseen = (Z_95 * width * float(weight.max())) ** 2
    squares = float((weight**2 * (x - middle) ** 2).sum())
    error = math.sqrt(squares + unseen) / whole
    return [middle, middle - Z_95 * error, middle + Z_95 * error]


def segments(
    outcomes: Iterable[JudgedOutcome],
    champion: Scores,
    terms: DecisionLoss,
    population: Population | None = None,
) -> dict[str, dict[str, Any]]:
    """The champion in each part of the traffic, the largest parts first; beside it what the
    yardsticks' decisions would have cost, and what was found of those that were really made.
    """
    every = list(outcomes)
    weights = population_weights(every, population)
    judged = [fact for fact in every if fact.position in weights]
    counts = Counter(name for fact in judged for name in fact.segments)
    loss = _losses(champion)
    rows = {}
    for name, total in counts.most_common(SEGMENTS_MAX):
        members = [fact for fact in judged if name in fact.segments]
        lines = compare_lines(members, {"champion": champion}, "champion", terms, weights)
        champion_row = lines.pop("champion")
        losses = [loss[fact.position] for fact in members if fact.position in loss]
        weight = np.array([weights[fact.position] for fact in members])
        needed = np.array([bool(fact.needed) for fact in members], float)
        rows[name] = champion_row | {
            "conversations": total,
            "needed": mean(needed, weight, 1.0),
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
    """Counts and sums from which the rates follow, as `/v1/quality` counts them.

    `kept` conversations were closed without a person, `late` ones until a reopening showed a miss;
    of both `caught` were missed for certain. The uniform audits' answers, those caught left out,
    are summed by weight, and the weights of those missed. `escalated` conversations went to a
    person, in so many `handoffs`.
    """

    needed: int = 0
    not_needed: int = 0
    needed_by_rule: int = 0
    not_needed_by_rule: int = 0
    unknowable: int = 0
    kept: int = 0
    late: int = 0
    escalated: int = 0
    handoffs: int = 0
    caught: int = 0
    audited: int = 0
    weight: float = 0.0
    squares: float = 0.0
    weight_missed: float = 0.0

    def add_handoffs(self, verdict: str | None, total: int, *, by_rule: bool) -> None:
        """So many handoffs with this verdict, or none."""
        self.handoffs += total
        if verdict == "unknowable":
            self.unknowable += total
        elif verdict == "needed":
            self.needed += total
            self.needed_by_rule += total * by_rule
        elif verdict == "not_needed":
            self.not_needed += total
            self.not_needed_by_rule += total * by_rule

    def add(self, fact: JudgedOutcome) -> None:
        """One judged outcome."""
        if fact.handed_over:
            verdict = "unknowable" if fact.needed is None else None
            self.add_handoffs(
                verdict or ("needed" if fact.needed else "not_needed"), 1, by_rule=fact.by_rule
            )
        elif fact.caught:
            self.caught += 1
        elif fact.uniform and fact.needed is not None:
            weight = 1 / fact.uniform
            self.audited += 1
            self.weight += weight
            self.squares += weight * weight
            self.weight_missed += weight * fact.needed


def rates(sums: RateSums, terms: DecisionLoss) -> dict[str, Any]:
    """The rates of what really was decided, with intervals that hold at every look."""
    judged = sums.needed + sums.not_needed
    by_rule = sums.needed_by_rule + sums.not_needed_by_rule
    kept, ended = sums.kept + sums.late, sums.kept + sums.escalated
    audited = effective_size(sums.weight, sums.squares, sums.weight_missed)
    missed = asdict(missed_rate(kept, sums.caught, *audited))
    false = _share(sums.not_needed, judged)
    cost = None
    if ended and (missed["rate"] is not None or not kept) and (judged or not sums.handoffs):
        escalated = terms.unneeded * sums.handoffs * (false["rate"] or 0.0)
        cost = (terms.missed * kept * (missed["rate"] or 0.0) + escalated) / ended
    return {
        "missed_rate": missed,
        "false_escalation_rate": false,
        "false_escalation_rate_of_rules": _share(sums.not_needed_by_rule, by_rule),
        "false_escalation_rate_of_the_model": _share(
            sums.not_needed - sums.not_needed_by_rule, judged - by_rule
        ),
        "automation_rate": _share(sums.kept, ended),
        "cost_per_conversation": cost,
        "kept": kept,
        "judged": judged,
        "audited": sums.audited,
        "caught": sums.caught,
    }


def _share(count: int, among: int) -> dict[str, Any]:
    return asdict(under_drift(count, among) if among else NO_RATE)


TOP = 20
MISSED, UNNEEDED = "missed: needed a person", "handed over by the model: needed nobody"


def costliest(
    outcomes: Iterable[JudgedOutcome], champion: Scores, terms: DecisionLoss, most: int = TOP
) -> list[dict[str, Any]]:
    """Mistakes by regret: cost times the champion's probability of the contrary when scored.

    What a rule handed over, or was held out from the model, is no mistake of it: none is counted.
    """
    highest: dict[int, float] = {}
    for at, p in zip(champion.position.tolist(), champion.probability.tolist(), strict=True):
        highest[at] = max(p, highest.get(at, 0.0))
    mistakes: list[tuple[float, dict[str, Any]]] = []
    for fact in outcomes:
        p = highest.get(fact.position)
        rules_decided = fact.by_rule or fact.held_out
        if p is None or fact.needed is None or rules_decided or fact.needed == fact.handed_over:
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
