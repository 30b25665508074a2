"""What agents said in each sort of case, kept for a while so that others can be compared with it.

Every value is compared once with each other agent, in the order it came.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

CELLS_MAX = 200
VALUES_MAX = 300
"""The newest of each cell."""


class ReferencePools:
    """By cell the newest values, each with the number of the agent it is from."""

    def __init__(self) -> None:
        self._cells: dict[str, list[Any]] = {}

    def add(self, cell: str, agent: int, value: int) -> bool:
        """False where there are as many cells already as are kept."""
        if cell not in self._cells and len(self._cells) >= CELLS_MAX:
            return False
        pool = self._cells.setdefault(cell, [0, []])
        pool[1].append([agent, value])
        if len(pool[1]) > VALUES_MAX:
            pool[0] += 1
            del pool[1][0]
        return True

    def of(
        self, cell: str, agents: Collection[int], place: int, most: int
    ) -> tuple[list[int], int]:
        """Values of these agents from a place on, at most so many; and the place after them."""
        dropped, pool = self._cells.get(cell, (0, []))
        found: list[int] = []
        place = max(place, dropped)
        while len(found) < most and place - dropped < len(pool):
            agent, value = pool[place - dropped]
            if agent in agents:
                found.append(value)
            place += 1
        return found, place

    def values(self, cell: str, agents: Collection[int]) -> list[int]:
        """All that is kept of these agents in a cell."""
        _, pool = self._cells.get(cell, (0, []))
        return [value for agent, value in pool if agent in agents]

    def dump(self) -> dict[str, list[Any]]:
        return self._cells

    @classmethod
    def load(cls, state: dict[str, list[Any]]) -> ReferencePools:
        found = cls()
        found._cells = dict(state)
        return found
