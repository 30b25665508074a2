"""Figures on cost-sensitive thresholds and on sequential tests of a challenger."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarks.inputs.feature_rows import ModelLine, simulated_talks
from experiments.evaluation.metric_intervals import noise_floor
from experiments.simulation.world import WorldSettings
from experiments.studies.figures.simulated_service import EndedConversation
from experiments.studies.figures.svg import (
    BLUE,
    GREEN,
    GREY,
    INK,
    RED,
    Panel,
    Scale,
    counts,
    picture,
)
from learning.decision.policy import Policy
from learning.decision.promotion_terms import alpha_share
from learning.estimation.audit_sampling import DISAGREEMENT
from learning.measures.scores import measures
from learning.monitoring.promotion_evidence import FixedChallengerTest, LearningChallengerTest

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Figures = dict[str, Any]

RATIOS = {2.0: GREEN, 4.0: BLUE, 20.0: RED}
WORLD = WorldSettings(base_rate=0.2)
TAUGHT, MORE, JUDGED = 400, 2000, 3000
"""Conversations that the champion learned, that the challenger did, and that both are judged by."""

RUNS = 100
SHOWN = 10


def costs(ended: list[EndedConversation]) -> tuple[str, Figures]:
    """Decision cost by threshold, for several costs of a missed one."""
    pairs = np.array([pair for one in ended[len(ended) // 2 :] for pair in one.scored])
    p, needed = pairs[:, 0], pairs[:, 1] > 0.5
    grid = np.geomspace(0.01, 0.9, 160)
    ece = measures(p, pairs[:, 1])["ece"]
    numbers: Figures = {
        "messages": len(p),
        "ece": round(ece, 4),
        "by_chance": round(noise_floor(p), 4),
    }
    axis = Scale(0.01, 0.9, [(x, f"{x:.0%}") for x in (0.01, 0.03, 0.1, 0.3, 0.9)], "", log=True)
    panel = Panel(60, 42, 560, 250, axis, Scale(1, 2.5, [(1, "1"), (1.5, "1.5"), (2, "2")], ""))
    panel.x = Scale(0.01, 0.9, axis.ticks, "escalate from this probability on", log=True)
    panel.title = "Cost of the decisions over the best in hindsight (dots: by the formula)"
    for missed, colour in RATIOS.items():
        paid = [_cost(p, needed, float(bar), missed) for bar in grid]
        least, bar = min(paid), 1 / (1 + missed)
        at = _cost(p, needed, bar, missed)
        numbers[f"{missed:g}:1"] = {
            "threshold": round(bar, 4),
            "costs_over_best": round(at / least, 3),
            "best": round(float(grid[int(np.argmin(paid))]), 3),
            "costs_at_50_percent": round(_cost(p, needed, 0.5, missed) / least, 3),
        }
        inside = [(x, y / least) for x, y in zip(grid, paid, strict=True) if y / least <= 2.5]
        panel.line([x for x, _ in inside], [y for _, y in inside], colour)
        panel.dot(bar, at / least, colour)
    for n, (missed, colour) in enumerate(RATIOS.items()):
        panel.words(0.0105, 2.3 - 0.13 * n, f"missed {missed:g} : 1", colour)
    caption = "Each cost ratio has its own best threshold; the formula's lies at or near it."
    return picture("Costs choose the threshold", caption, 660, 350, [panel]), numbers


def _cost(p: Floats, needed: NDArray[np.bool_], bar: float, missed: float) -> float:
    return float(((p >= bar) & ~needed).mean() + missed * ((p < bar) & needed).mean())


def proof() -> tuple[str, Figures]:
    """Evidence for a challenger that is better, and for those that are not, as it grows."""
    terms = Policy().switching
    bar, level = 1 / (terms.alpha * alpha_share(1)), terms.alpha * alpha_share(1)
    (champion, challenger), up = _compared_costs()
    gain = champion - challenger
    by_kind: dict[str, list[tuple[Floats, int | None]]] = {"better": [], "no better": []}
    for run in range(RUNS):
        random = np.random.default_rng((8, run))
        order = random.permutation(JUDGED)
        by_kind["better"].append(_gather_evidence(gain[order], up[0][order], random, level))
        swapped = random.random(JUDGED) < 0.5
        mixed, over = np.where(swapped, -gain, gain), np.where(swapped, up[1], up[0])
        by_kind["no better"].append(_gather_evidence(mixed[order], over[order], random, level))
    numbers: Figures = {"runs": RUNS, "bar": bar, "saves": round(float(gain.mean()) * _unit(), 4)}
    numbers["saves_of_costs"] = round(float(gain.mean() / champion.mean()), 4)
    numbers["differ"] = round(float((gain != 0).mean()), 4)
    for name, runs in by_kind.items():
        at = [int(np.argmax(e >= bar)) + 1 for e, _ in runs if (e >= bar).any()]
        late = [n for _, n in runs if n is not None]
        numbers[name] = {
            "came_to_80": len(at),
            "came_to_20": sum(bool((e >= 1 / terms.alpha).any()) for e, _ in runs),
            "median_at": float(np.median(at)) if at else None,
            "learning_proven": len(late),
            "learning_median_at": float(np.median(late)) if late else None,
        }
    ticks = [(0.01, "0.01"), (1, "1"), (80, "80"), (10_000, "10 000")]
    heights = Scale(0.003, 30_000, ticks, "", log=True)
    axis = counts(0, JUDGED, list(range(0, JUDGED + 1, 500)), "conversations")
    panel = Panel(70, 42, 550, 250, axis, heights)
    panel.title = f"Evidence that a challenger is better ({SHOWN} runs of each)"
    xs = list(range(0, JUDGED, 20))
    for name, colour in (("no better", GREY), ("better", BLUE)):
        for evidence, _ in by_kind[name][:SHOWN]:
            panel.line(xs, [float(evidence[x]) for x in xs], colour, wide=1.2, faint=0.8)
    panel.line([0, JUDGED], [bar, bar], RED, dash="5 4", wide=1.5)
    panel.words(30, bar * 1.4, "it may serve", RED)
    panel.words(30, 9000, f"saves {numbers['saves_of_costs']:.0%} of the costs", BLUE)
    panel.words(30, 0.1, "no better", INK)
    caption = "Evidence for the better challenger passes 80; for others it wanders below."
    return picture("Proof that a challenger is better", caption, 660, 350, [panel]), numbers


def _unit() -> float:
    costs = Policy().costs
    return max(costs.unneeded, costs.missed)


def _compared_costs() -> tuple[list[Floats], list[Bools]]:
    """What the decisions of champion and challenger cost, conversation by conversation, in units of
    the greatest cost; and which conversations each of the two would hand over.
    """
    lines = []
    for seed, count in ((11, TAUGHT), (12, MORE)):
        line = ModelLine()
        for talk in simulated_talks(seed, count, WORLD):
            line.learn(talk)
        lines.append(line)
    talks, policy = simulated_talks(13, JUDGED, WORLD), Policy()
    needed = np.array([max(talk.labels) > 0.5 for talk in talks])
    up = [
        np.array(
            [max(map(line.score, talk.rows)) >= policy.cost_thresholds.escalate for talk in talks]
        )
        for line in lines
    ]
    missed, unneeded = policy.costs.missed / _unit(), policy.costs.unneeded / _unit()
    paid = [np.where(one, np.where(needed, 0, unneeded), np.where(needed, missed, 0)) for one in up]
    return paid, up


def _gather_evidence(
    gain: Floats, champion_up: Bools, random: np.random.Generator, level: float
) -> tuple[Floats, int | None]:
    """The product form's evidence after each conversation, and after how many the form for a
    challenger that learns is convinced. What the champion hands over is judged; of what it keeps,
    half is reviewed.
    """
    frozen, learning = (
        FixedChallengerTest(DISAGREEMENT, 1.0),
        LearningChallengerTest(1.0 / DISAGREEMENT, level),
    )
    coins, evidence, proven = random.random(gain.size), np.empty(gain.size), None
    for n, (one, over, coin) in enumerate(zip(gain, champion_up, coins, strict=True)):
        propensity = 1.0 if over else DISAGREEMENT
        if coin < propensity:
            frozen.learn(float(one), propensity)
            learning.learn(float(one), propensity)
        evidence[n] = frozen.evidence
        if proven is None and learning.proven():
            proven = n + 1
    return evidence, proven
