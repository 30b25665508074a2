"""Study 4, figures of docs/explanation/learning.md: intervals, audits, costs and proof.

    python -m experiments.studies.004_learning_figures docs/figures

One simulated customer service (`experiments.studies.figures.simulated_service`): 12 000
conversations, one in five of which comes to need a person if the bot is left alone, the default
recipe and policy, 30 % of the missed ones complained of. Its kept conversations are audited by 400
other draws; a challenger is proven against a champion that learned less. All is
seeded, and takes two minutes. It writes the pictures, and prints and writes (`numbers.json`) every
number that the page takes from them, and the page's tables. A test plays the beginning again, to
tell when the model is no longer the same.

Expected: of 400 services, looked at after every audit from the 30th on, Baton's interval is ever
wrong in at most 20, Wilson's and Wald's in many more; of challengers that are no better at most
1.25 % ever come to 80.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from experiments.simulation.world import World, WorldSettings
from experiments.studies.figures.audits import budget, looks, unseen
from experiments.studies.figures.simulated_service import SimulatedService
from experiments.studies.figures.thresholds import costs, proof
from learning.decision.policy import AuditBudget, Costs, Policy
from learning.estimation.rate_intervals import missed_rate, under_drift

SEED, CONVERSATIONS, BEGINNING = 7, 12_000, 900
WORLD = WorldSettings(base_rate=0.2, caught=0.3)
SEEDS, TOLD = (21, 22, 23), 4000


def told() -> dict[str, dict[str, float]]:
    """What a service costs by what its model is told: means of the later halves of SEEDS."""
    rows = {}
    for name, (uniform, targeted), caught in (
        ("verdicts on handoffs", (0.0, 0.0), 0.0),
        ("and 30 % of the misses", (0.0, 0.0), 0.3),
        ("and the default audits", (0.03, 0.02), 0.0),
        ("everything", (1.0, 0.0), 0.0),
    ):
        policy = Policy(audits=AuditBudget(uniform_share=uniform, targeted_share=targeted))
        worlds = [World(seed, WorldSettings(base_rate=0.2, caught=caught)) for seed in SEEDS]
        late = [
            case
            for world in worlds
            for case in list(SimulatedService(world, policy).play(TOLD))[TOLD // 2 :]
        ]
        by_bot = [case for case in late if not case.handed_over]
        needless = sum(case.handed_over and not case.needed for case in late)
        missed = sum(case.needed for case in by_bot)
        rows[name] = {
            "handed_over": round(1 - len(by_bot) / len(late), 3),
            "missed_of_kept": round(missed / len(by_bot), 4),
            "cost": round((needless + Costs().missed * missed) / len(late), 3),
        }
    return rows


def thresholds() -> dict[str, list[float]]:
    """By missed : unneeded: from where without an offer, and with one: ask, escalate."""
    rows = {}
    for missed in (1.0, 2.0, 4.0, 10.0, 20.0):
        bars = Policy(costs=Costs(missed=missed)).cost_thresholds
        plain = 1 / (1 + missed)
        rows[f"{missed:g}:1"] = [round(x, 3) for x in (plain, bars.offer, bars.escalate)]
    return rows


def enough() -> dict[str, int]:
    """By missed rate: audits until the interval says "at most twice that", at every look."""
    rows = {}
    for rate in (0.01, 0.02, 0.05):
        n = round(10 / rate)
        while (under_drift(rate * n, n).high or 0.0) > 2 * rate:
            n += 1
        rows[f"{rate:.0%}"] = n
    return rows


def complaints() -> dict[str, list[float]]:
    """What 10 000 kept conversations come to, 500 of them missed: known, audited, found."""
    rows = {}
    for name, complained, audited, missed in (
        ("audits", 0, 300, 15),
        ("and complaints", 150, 300, 11),
    ):
        rate = missed_rate(10_000, complained, audited, missed)
        rows[name] = [round(x or 0.0, 6) for x in (rate.rate, rate.low, rate.high)]
    return rows


def example() -> dict[str, list[float]]:
    """The worked example's thresholds: without an offer, and with one."""
    costs = Costs(unneeded=4.0, missed=20.0, ask=0.5)
    bars = Policy(costs=costs).cost_thresholds
    plain = costs.unneeded / (costs.unneeded + costs.missed)
    return {"thresholds": [round(x, 3) for x in (plain, bars.offer, bars.escalate)]}


TABLES = (told, thresholds, enough, complaints, example)


def main(folder: Path) -> None:
    service = SimulatedService(World(SEED, WORLD))
    ended = list(service.play(CONVERSATIONS))
    figures = {
        "unseen": unseen(ended),
        "looks": looks(ended),
        "budget": budget(ended),
        "costs": costs(ended),
        "proof": proof(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (svg, _) in figures.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    results: dict[str, Any] = {name: values for name, (_, values) in figures.items()}
    tables = {one.__name__: one() for one in TABLES}
    results["beginning"] = unseen(ended[:BEGINNING])[1]
    text = json.dumps(results | tables, indent=1)
    (folder / "numbers.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/figures"))
