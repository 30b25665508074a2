"""The most expensive mistakes among what was really decided, by conversation; no text of any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiments.judged import Fact, Terms
from learning.evaluation import Scores

TOP = 20
MISSED, UNNEEDED = "missed: needed a person", "handed over by the model: needed nobody"


def worst(
    facts: Iterable[Fact], champion: Scores, terms: Terms, most: int = TOP
) -> list[dict[str, Any]]:
    """By cost times how sure the champion was of the contrary, as it stood before it learned them.

    A conversation that a rule handed over is no mistake of the model, and counts for none.
    """
    highest: dict[int, float] = {}
    for at, p in zip(champion.position.tolist(), champion.probability.tolist(), strict=True):
        highest[at] = max(p, highest.get(at, 0.0))
    found: list[tuple[float, dict[str, Any]]] = []
    for fact in facts:
        p = highest.get(fact.position)
        if p is None or fact.needed is None or fact.by_rule or fact.needed == fact.handed_over:
            continue
        cost = terms.missed if fact.needed else terms.unneeded
        regret = round(cost * (1.0 - p if fact.needed else p), 6)
        told = {
            "conversation": fact.conversation,
            "position": fact.position,
            "what": MISSED if fact.needed else UNNEEDED,
            "probability": round(p, 6),
            "cost": cost,
            "at": fact.at,
            "regret": regret,
        }
        found.append((regret, told))
    found.sort(key=lambda one: (-one[0], one[1]["position"]))
    return [told for _, told in found[:most]]
