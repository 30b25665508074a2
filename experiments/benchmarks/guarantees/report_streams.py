"""Figures of the evaluation report, from judged outcomes with non-response and caught misses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarks.guarantees.promise import Row, mean, promise
from experiments.evaluation.decision_costs import (
    RULES_ONLY,
    HoldoutSample,
    JudgedOutcome,
    Population,
    RateSums,
    compare_lines,
    held_out_row,
    population_weights,
    rates,
)
from learning.decision.label_requests import LabelRequestPolicy, label_value
from learning.decision.policy_parts import HOLDOUT_MAX
from learning.estimation.decision_loss import DecisionLoss
from learning.estimation.rate_intervals import ALPHA, under_drift
from learning.measures.prequential import Scores

Bools = NDArray[np.bool_]
LOSS = DecisionLoss(escalate=0.5, unneeded=1.0, missed=4.0)
SIZE, AUDITED, ANSWERED = 4000, 0.05, 0.3
HELD_OUT_OF = 200_000
"""Conversations, of which some are held out: half a year of a thousand a day."""


def _outcome(position: int, needed: bool, propensity: float, **changes: Any) -> JudgedOutcome:
    fields: dict[str, Any] = {
        "ruled": False,
        "handed_over": False,
        "by_rule": False,
        "uniform": 0.0,
        "caught": False,
        "decided_at": 0.0,
        "segments": (),
    }
    return JudgedOutcome(position, f"c{position}", 0.0, needed, propensity, **(fields | changes))


def _scores(high: Bools) -> Scores:
    position = np.arange(high.size, dtype=np.int64)
    ones = np.ones(high.size)
    return Scores(position, high.astype(float), ones, ones, position)


def thin_answers(seed: int) -> Row:
    """30 % of audits and handoffs are answered: whether the champion's cost is covered."""
    random = np.random.default_rng((14, seed))
    up, draws = random.random(SIZE) < 0.25, random.random((2, SIZE))
    needed = random.random(SIZE) < np.where(up, 0.5, 0.04)
    outcomes = [
        _outcome(n, bool(needed[n]), 1.0 if up[n] else AUDITED, handed_over=bool(up[n]))
        for n in range(SIZE)
        if draws[0, n] < ANSWERED and (up[n] or draws[1, n] < AUDITED)
    ]
    population = Population(int((~up).sum()), 0, int(up.sum()))
    lines = compare_lines(
        outcomes,
        {"champion": _scores(up)},
        "champion",
        LOSS,
        population_weights(outcomes, population),
    )
    truth = float(LOSS.losses(2 * up, needed).mean())
    cost, share = (lines["champion"][name] for name in ("cost_per_conversation", "escalated"))
    return {
        "cost": cost is not None and cost[1] <= truth <= cost[2],
        "share": share is not None and share[1] <= up.mean() <= share[2],
    }


def summarise_thin(rows: Sequence[Row]) -> Iterator[Row]:
    for key, what in (("cost", "cost beside"), ("share", "escalated share beside")):
        held = mean(rows, key)
        name = f"{what}, 30 % answered: covered"
        yield promise(name, ">= 0.95", held, holds=held >= 1 - ALPHA, of=len(rows))


def rules_saving(seed: int) -> Row:
    """15 % need a person; the model sees 80 % of them, rules 70 %, later: the saving's bounds."""
    random = np.random.default_rng((15, seed))
    needed = random.random(SIZE) < 0.15
    draws = random.random((3, SIZE))
    model = draws[0] < np.where(needed, 0.8, 0.05)
    rule = draws[1] < np.where(needed, 0.7, 0.02)
    by_rule = rule & ~model
    outcomes = [
        _outcome(
            n,
            bool(needed[n]),
            1.0 if model[n] or by_rule[n] else AUDITED,
            ruled=bool(by_rule[n]),
            handed_over=bool(model[n] or by_rule[n]),
            by_rule=bool(by_rule[n]),
        )
        for n in range(SIZE)
        if model[n] or by_rule[n] or draws[2, n] < AUDITED
    ]
    handed_over = model | by_rule
    population = Population(int((~handed_over).sum()), 0, int(handed_over.sum()))
    lines = compare_lines(
        outcomes,
        {"champion": _scores(model)},
        "champion",
        LOSS,
        population_weights(outcomes, population),
    )
    saving = float((LOSS.losses(2 * rule, needed) - LOSS.losses(2 * handed_over, needed)).mean())
    _, low, high = lines[RULES_ONLY]["more_than_champion"]
    return {"held": low <= saving <= high, "saving": saving, "low": low, "high": high}


def summarise_rules(rows: Sequence[Row]) -> Iterator[Row]:
    held = mean(rows, "held")
    name = "rules-only saving: the bounds hold the truth"
    yield promise(name, ">= 0.95", held, holds=held >= 1 - ALPHA, of=len(rows))
    for key, what in (("saving", "its truth"), ("low", "its lower"), ("high", "its upper bound")):
        yield promise(what, "told", mean(rows, key), holds=True)


def rules_held_out(seed: int) -> Row:
    """The same world with a holdout of 5 %: rules alone decide in it, 70 % of the handoffs are
    judged, and half of the audits that were drawn are answered.
    """
    random = np.random.default_rng((18, seed))
    drawn = np.flatnonzero(random.random(HELD_OUT_OF) < HOLDOUT_MAX)
    needed, draws = random.random(drawn.size) < 0.15, random.random((5, drawn.size))
    model = draws[0] < np.where(needed, 0.8, 0.05)
    rule = draws[1] < np.where(needed, 0.7, 0.02)
    caught = needed & ~rule & (draws[2] < 0.2)
    known = np.where(rule, draws[4] < 0.7, (draws[3] < AUDITED) & (draws[4] < 0.5)) | caught
    outcomes = [
        _outcome(
            n,
            bool(needed[n]),
            1.0 if rule[n] else AUDITED,
            ruled=bool(rule[n]),
            handed_over=bool(rule[n]),
            by_rule=bool(rule[n]),
            caught=bool(caught[n]),
            held_out=True,
        )
        for n in np.flatnonzero(known).tolist()
    ]
    population = Population(int((~rule).sum()), int(caught.sum()), int(rule.sum()))
    row = held_out_row(HoldoutSample(outcomes, _scores(model), population), LOSS)
    cost = LOSS.losses(2 * rule, needed)
    saving = cost - LOSS.losses(2 * (model | rule), needed)
    found = (row["cost_per_conversation"], row["more_than_champion"])
    _, low, high = found[1] or (0.0, -np.inf, np.inf)
    return {
        "cost": found[0] is not None and found[0][1] <= cost.mean() <= found[0][2],
        "saving": low <= saving.mean() <= high,
        "truth": float(saving.mean()),
        "low": low,
        "high": high,
    }


def summarise_held_out(rows: Sequence[Row]) -> Iterator[Row]:
    for key, what in (("cost", "cost"), ("saving", "saving")):
        held = mean(rows, key)
        name = f"rules-only holdout: their {what} is covered"
        yield promise(name, ">= 0.95", held, holds=held >= 1 - ALPHA, of=len(rows))
    for key, what in (("truth", "its truth"), ("low", "its lower"), ("high", "its upper end")):
        yield promise(what, "told", mean(rows, key), holds=True)


def caught_report(seed: int) -> Row:
    """A missed rate of 5 %, of which 40 % come to light after the audits, at 20 looks."""
    random = np.random.default_rng((16, seed))
    size = 12_000
    needed, drawn = random.random(size) < 0.05, random.random(size) < 0.03
    caught = needed & (random.random(size) < 0.4)
    held = True
    for look in np.linspace(size / 20, size, 20).astype(int):
        sums = RateSums(kept=int(look))
        for n in np.flatnonzero((drawn | caught)[:look]).tolist():
            sums.add(_outcome(n, bool(needed[n]), 0.03, uniform=0.03, caught=bool(caught[n])))
        missed = rates(sums, LOSS)["missed_rate"]
        held &= missed["low"] <= needed[:look].mean() <= missed["high"]
    return {"held": bool(held), "rate": missed["rate"]}


def summarise_caught(rows: Sequence[Row]) -> Iterator[Row]:
    held = mean(rows, "held")
    name = "missed rate in the report, 40 % caught: covered at every look"
    yield promise(name, ">= 0.95", held, holds=held >= 1 - ALPHA, of=len(rows))
    yield promise("its mean, of a true .05", "told", mean(rows, "rate"), holds=True)


HANDOFFS, A_DAY = 6000, 60


def asked_handoffs(seed: int) -> Row:
    """An agent with 60 handoffs a day answers 20: those drawn at random, then the most telling.
    Whether the interval by the drawn ones covers the false escalation rate of all, at 20 looks.
    """
    random, policy = np.random.default_rng((17, seed)), LabelRequestPolicy()
    p = random.beta(2, 1.5, HANDOFFS)
    unneeded, drawn = random.random(HANDOFFS) > p, random.random(HANDOFFS) < policy.uniform_share
    asked = drawn.copy()
    for start in range(0, HANDOFFS, A_DAY):
        day = np.arange(start, start + A_DAY)
        left = max(0, policy.per_agent_per_day - int(drawn[day].sum()))
        value = [0.0 if drawn[n] else label_value(p[n], 0.0, by_rule_alone=False) for n in day]
        asked[day[np.argsort(value)[::-1][:left]]] = True
    held = True
    for look in np.linspace(HANDOFFS / 20, HANDOFFS, 20).astype(int):
        estimate = under_drift(int(unneeded[:look][drawn[:look]].sum()), int(drawn[:look].sum()))
        held &= (estimate.low or 0.0) <= unneeded[:look].mean() <= (estimate.high or 1.0)
    return {"held": bool(held), "all": unneeded.mean(), "asked": unneeded[asked].mean()}


def summarise_asked(rows: Sequence[Row]) -> Iterator[Row]:
    held = mean(rows, "held")
    name = "false escalation rate with questions: covered at every look"
    yield promise(name, ">= 0.95", held, holds=held >= 1 - ALPHA, of=len(rows))
    yield promise("its truth, of all handoffs", "told", mean(rows, "all"), holds=True)
    yield promise("the same of those asked", "told", mean(rows, "asked"), holds=True)
