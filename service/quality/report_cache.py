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
    """The newest answer under a key, and what it was found for; `turn` lets one look at a time."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    given: Any = None
    answer: Any = None
    began: float = -1.0
    until: float = -1.0


class AsyncCache(Generic[T]):
    """The newest answers by key. Owned by the event loop's thread."""

    def __init__(self, may_hold: Callable[[T], bool]) -> None:
        self._may_hold = may_hold
        self._kept: dict[str, _CacheEntry] = {}

    async def get(self, key: str, given: Any, find: Callable[[], Awaitable[T]]) -> T:
        """The answer under a key for what is `given`, found now or a little earlier.

        One that another caller began to find after this one had asked is as good as its own.
        """
        asked = time.monotonic()
        kept = lru_put(self._kept, key, self._kept.get(key) or _CacheEntry(), ENTRIES_MAX)
        async with kept.turn:
            began = time.monotonic()
            if kept.given == given and (kept.began >= asked or began < kept.until):
                found: T = kept.answer
                return found
            answer = await find()
            ended = time.monotonic()
            kept.given, kept.answer, kept.began = given, answer, began
            beyond = ended - began - UNCACHED_SECONDS if self._may_hold(answer) else 0.0
            kept.until = ended + LIFETIME_FACTOR * max(0.0, beyond)
            return answer
