"""How far labels that are inferred from events may be believed, measured beside what people stated.

A kind teaches nothing until enough stated answers stand beside it; then its lesson's label is the
share of them that needed a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from learning.estimation.rate_intervals import NO_RATE, under_drift

PAIRS_MIN = 30
"""Stated answers beside inferred ones from which on a kind teaches."""


@dataclass(frozen=True, slots=True)
class InferredKind:
    """A kind of evidence: its source, and whether it suggests that a person was needed."""

    source: Literal["observed", "rated"]
    needed: bool
    title: str


KINDS: Mapping[str, InferredKind] = {
    "returned": InferredKind("observed", False, "given back without a public word of a person"),
    "stepped_in": InferredKind("observed", True, "a person stepped in, and the customer answered"),
    "rated_low": InferredKind("rated", True, "a kept conversation was rated 1 or 2"),
    "rated_high": InferredKind("rated", False, "a kept conversation was rated 4 or 5"),
}
"""In the order of their strength: observed over rated."""


def share_needed(counts: Mapping[str, int]) -> float | None:
    """The label that a kind's lessons have; None while it teaches nothing."""
    pairs = counts.get("pairs", 0)
    return counts.get("needed", 0) / pairs if pairs >= PAIRS_MIN else None


def report(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Each kind with its pairs, their agreement with its interval, and what it teaches."""
    rows = []
    for name, kind in KINDS.items():
        found = counts.get(name, {})
        pairs, needed = found.get("pairs", 0), found.get("needed", 0)
        agreed = needed if kind.needed else pairs - needed
        rate = under_drift(agreed, pairs) if pairs else NO_RATE
        rows.append(
            {
                "kind": name,
                "source": kind.source,
                "means": kind.title,
                "inferred": found.get("inferred", 0),
                "pairs": pairs,
                "agreement": asdict(rate),
                "label": share_needed(found),
                "taught": found.get("taught", 0),
            }
        )
    return rows
