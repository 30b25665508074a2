"""LRU cache in a plain dict: the entries asked for longest ago go first."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def lru_put(kept: dict[K, T], name: K, one: T, most: int) -> T:
    """Keep one among those asked for last; the ones asked for longest ago go."""
    kept.pop(name, None)
    kept[name] = one
    while len(kept) > most:
        del kept[next(iter(kept))]
    return one
