"""Rate limits by key: token buckets of requests and of characters of text, and a bound of the
requests in flight at once.

They are of one process, and in its memory: replicas multiply them. A batch takes a token for each
of its items. Texts cost what it costs to read them: the first FREE_CHARS of a request, or of an
item, come with its token.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cachetools import LRUCache

from service.runtime.errors import RateLimited

IN_FLIGHT_MAX = 1024
"""Requests of one key that may be in flight: half of the queue's default capacity."""

KEYS_MAX = 4096
"""Keys whose buckets are remembered; of more, the one unused for longest is full again."""


FREE_CHARS = 500
"""More than most messages have, with the turns before them."""

Limit = tuple[int, int, int]
"""`RateLimit-*`: the limit, what is left, and the seconds until all is there again."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens a second, and how many are saved up at most."""

    per_second: float
    burst: float


@dataclass(slots=True)
class Tokens:
    """What is left of a rate at a moment (token bucket)."""

    rate: Rate
    left: float
    at: float

    def take(self, count: float, now: float) -> float:
        """Take tokens where there are enough; gives the seconds until there will be."""
        self.left = min(self.rate.burst, self.left + (now - self.at) * self.rate.per_second)
        self.at = now
        if self.left < count:
            return (count - self.left) / self.rate.per_second
        self.left -= count
        return 0.0

    def limit(self) -> Limit:
        burst, left = self.rate.burst, max(0, int(self.left))
        return int(burst), left, math.ceil((burst - left) / self.rate.per_second)


@dataclass(slots=True)
class Bucket:
    """A key's tokens, and its requests in flight."""

    requests: Tokens
    chars: Tokens
    in_flight: int = 0


class RateLimits:
    """Rates of each key's requests and of their characters, and at most `in_flight_max` requests of
    it at once.
    """

    def __init__(
        self,
        requests: Rate,
        chars: Rate,
        in_flight_max: int = IN_FLIGHT_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests, self._chars = requests, chars
        self._in_flight_max = in_flight_max
        self._clock = clock
        self._buckets: LRUCache[str, Bucket] = LRUCache(KEYS_MAX)

    def enter(self, key_id: str) -> Bucket:
        """A request of this key begins; `leave` ends it. Raises RateLimited."""
        bucket = self._bucket(key_id)
        if bucket.in_flight >= self._in_flight_max:
            raise RateLimited(
                "too_many_in_flight",
                f"{self._in_flight_max} requests of this key are being answered",
                hint="wait for answers before sending more",
            )
        self._take(bucket.requests, 1, "asks more than {:g} times a second")
        bucket.in_flight += 1
        return bucket

    def leave(self, bucket: Bucket) -> None:
        bucket.in_flight -= 1

    def take(self, key_id: str, count: int) -> None:
        """Take more tokens for a request that holds many. Raises RateLimited."""
        requests = self._bucket(key_id).requests
        self._take(requests, count, "asks more than {:g} times a second")

    def take_chars(self, key_id: str, chars: Iterable[int]) -> None:
        """Take the characters of a request's items, so many in each. Raises RateLimited."""
        count = sum([max(0, n - FREE_CHARS) for n in chars])
        if count:
            what = "sends more than {:g} characters of long texts a second"
            self._take(self._bucket(key_id).chars, count, what)

    def _bucket(self, key_id: str) -> Bucket:
        if (bucket := self._buckets.get(key_id)) is None:
            now = self._clock()
            bucket = self._buckets[key_id] = Bucket(
                Tokens(self._requests, self._requests.burst, now),
                Tokens(self._chars, self._chars.burst, now),
            )
        return bucket

    def _take(self, tokens: Tokens, count: int, what: str) -> None:
        seconds = tokens.take(count, self._clock())
        if seconds:
            refusal = RateLimited(
                "rate_limited",
                f"this key {what.format(tokens.rate.per_second)}",
                hint="wait, then send it again; RateLimit-Remaining tells what is left",
            )
            refusal.retry_after = max(1, math.ceil(seconds))
            refusal.limit = tokens.limit()
            raise refusal
