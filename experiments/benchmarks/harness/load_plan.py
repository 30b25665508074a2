"""Load plan of a benchmark: rounds, turns and stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STORES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How much to measure: rounds, of which medians are shown, of so long turns on each store."""

    rounds: int = 5
    seconds: float = 3.0
    stores: Sequence[str] = STORES
