"""Reference groups: bounded pools of labels by sort of case, to compare annotators with.

Every value is compared once with each other annotator, in the order it came.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

CELLS_MAX = 200
VALUES_MAX = 300
"""The newest of each cell."""


class ReferencePools:
    """Pools of the newest values by cell, each with the number of its annotator."""

    def __init__(self) -> None:
        self._cells: dict[str, list[Any]] = {}

    def add(self, cell: str, agent: int, value: int) -> bool:
        """Add a value; False where there are as many cells as CELLS_MAX allows already."""
        if cell not in self._cells and len(self._cells) >= CELLS_MAX:
            return False
        pool = self._cells.setdefault(cell, [0, []])
        pool[1].append([agent, value])
        if len(pool[1]) > VALUES_MAX:
            pool[0] += 1
            del pool[1][0]
        return True

    def take_from(
        self, cell: str, agents: Collection[int], place: int, most: int
    ) -> tuple[list[int], int]:
        """Values of these annotators from a place on, at most so many; and the place after them."""
        dropped, pool = self._cells.get(cell, (0, []))
        values: list[int] = []
        place = max(place, dropped)
        while len(values) < most and place - dropped < len(pool):
            agent, value = pool[place - dropped]
            if agent in agents:
                values.append(value)
            place += 1
        return values, place

    def values(self, cell: str, agents: Collection[int]) -> list[int]:
        """All values in a cell's pool that are of these annotators."""
        _, pool = self._cells.get(cell, (0, []))
        return [value for agent, value in pool if agent in agents]

    def dump(self) -> dict[str, list[Any]]:
        return self._cells

    @classmethod
    def load(cls, state: dict[str, list[Any]]) -> ReferencePools:
        pools = cls()
        pools._cells = dict(state)
        return pools
