"""LRU cache in a plain dict: the least recently used entries are evicted first."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def lru_put(cache: dict[K, T], key: K, value: T, capacity: int) -> T:
    """Insert or touch an entry, then evict the least recently used beyond `capacity`; gives
    `value`.
    """
    cache.pop(key, None)
    cache[key] = value
    while len(cache) > capacity:
        del cache[next(iter(cache))]
    return value
