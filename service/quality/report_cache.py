"""Answers that take long to find, given again for a while.

What counts everything that is stored takes longer with all that ever happened, and must not take
scoring's processor however often it is asked for. So an answer about much that took long holds for
so many times as long, and whoever asks while one is being found waits for it. One that was quick,
or is about little, never holds: it may have been slow because the machine was busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from service.runtime.lru import lru_put

UNCACHED_SECONDS = 0.25
"""An answer that was found in this time is found anew whenever it is asked for."""

LIFETIME_FACTOR = 10.0
"""So many times what it took beyond that an answer holds: the longer it takes, the nearer all looks
come to a tenth of one core."""

ENTRIES_MAX = 64
"""Answers that are kept, those asked for last."""

T = TypeVar("T")


@dataclass(slots=True)
class _CacheEntry:
    """The newest answer under a key, and what it was found for; `lock` lets one look at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    inputs: Any = None
    answer: Any = None
    started_at: float = -1.0
    expires_at: float = -1.0


class AsyncCache(Generic[T]):
    """The newest answers by key. Owned by the event loop's thread."""

    def __init__(self, may_hold: Callable[[T], bool]) -> None:
        self._may_hold = may_hold
        self._entries: dict[str, _CacheEntry] = {}

    async def get(self, key: str, inputs: Any, compute: Callable[[], Awaitable[T]]) -> T:
        """The answer under a key for what is `given`, found now or a little earlier.

        One that another caller began to find after this one had asked is as good as its own.
        """
        requested_at = time.monotonic()
        entry = lru_put(self._entries, key, self._entries.get(key) or _CacheEntry(), ENTRIES_MAX)
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
