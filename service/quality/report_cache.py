"""Cache of slow reports with a lifetime proportional to their cost, and one computation at a time
per key (single flight).

Counting all that is stored takes longer the more there is, and must not take scoring's processor
however often it is requested. So a report about much that took long is cached for a multiple of
that time, and concurrent requests share one computation. One that was quick, or is about little, is
never cached: it may have been slow because the machine was busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cachetools import LRUCache

UNCACHED_SECONDS = 0.25
"""A report computed in this time is computed anew on every request."""

LIFETIME_FACTOR = 10.0
"""Lifetime of an entry over what its computation took beyond that: the longer it takes, the nearer
all computations come to a tenth of one core.
"""

ENTRIES_MAX = 64
"""Most entries held, least recently used evicted first."""

T = TypeVar("T")


@dataclass(slots=True)
class _CacheEntry:
    """The newest answer under a key and its inputs; `lock` admits one computation at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    inputs: Any = None
    answer: Any = None
    started_at: float = -1.0
    expires_at: float = -1.0


class AsyncCache(Generic[T]):
    """Asynchronous LRU cache by key; owned by the event loop's thread."""

    def __init__(self, may_hold: Callable[[T], bool]) -> None:
        self._may_hold = may_hold
        self._entries: LRUCache[str, _CacheEntry] = LRUCache(ENTRIES_MAX)

    async def get(self, key: str, inputs: Any, compute: Callable[[], Awaitable[T]]) -> T:
        """The answer under a key for these inputs, computed now or cached.

        One whose computation began after this request is as good as its own.
        """
        requested_at = time.monotonic()
        entry = self._entries.setdefault(key, _CacheEntry())
        async with entry.lock:
            started_at = time.monotonic()
            if entry.inputs == inputs and (
                entry.started_at >= requested_at or started_at < entry.expires_at
            ):
                cached: T = entry.answer
                return cached
            answer = await compute()
            ended_at = time.monotonic()
            entry.inputs, entry.answer, entry.started_at = inputs, answer, started_at
            beyond = ended_at - started_at - UNCACHED_SECONDS if self._may_hold(answer) else 0.0
            entry.expires_at = ended_at + LIFETIME_FACTOR * max(0.0, beyond)
            return answer
