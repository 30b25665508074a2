"""Rate limits by key: a token bucket of requests, and a bound of those in flight at once.

They are of one process, and in its memory: replicas multiply them. A batch takes a token for each
of its items.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from service.runtime.errors import RateLimited

IN_FLIGHT_MAX = 1024
"""Requests of one key that may be in flight: half of the queue's default capacity."""

KEYS_MAX = 4096
"""Keys whose buckets are remembered; of more, the one unused for longest is full again."""


@dataclass(slots=True)
class Bucket:
    """A key's tokens at a moment, and its requests in flight."""

    tokens: float
    at: float
    in_flight: int = 0


class RateLimits:
    """Token buckets: `rate` tokens a second, at most twice as many saved up; and at most
    `in_flight_max` requests of one key at once.
    """

    def __init__(
        self,
        rate: float,
        in_flight_max: int = IN_FLIGHT_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate, self.burst = rate, 2 * rate
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
        self._take(bucket, 1)
        bucket.in_flight += 1
        return bucket

    def leave(self, bucket: Bucket) -> None:
        bucket.in_flight -= 1

    def take(self, key_id: str, count: int) -> None:
        """Take more tokens for a request that holds many. Raises RateLimited."""
        self._take(self._bucket(key_id), count)

    def headers(self, bucket: Bucket) -> list[tuple[bytes, bytes]]:
        """`RateLimit-*`: the limit, what is left, and the seconds until all is there again."""
        left = max(0, int(bucket.tokens))
        return [
            (b"ratelimit-limit", b"%d" % self.burst),
            (b"ratelimit-remaining", b"%d" % left),
            (b"ratelimit-reset", b"%d" % -(-(self.burst - left) // self.rate)),
        ]

    def _bucket(self, key_id: str) -> Bucket:
        if (bucket := self._buckets.get(key_id)) is None:
            bucket = self._buckets[key_id] = Bucket(self.burst, self._clock())
        return bucket

    def _take(self, bucket: Bucket, count: int) -> None:
        now = self._clock()
        bucket.tokens = min(self.burst, bucket.tokens + (now - bucket.at) * self.rate)
        bucket.at = now
        if bucket.tokens < count:
            raise RateLimited(
                "rate_limited",
                f"this key asks more than {self.rate:g} times a second",
                hint="wait, then send it again; RateLimit-Remaining tells what is left",
            )
        bucket.tokens -= count
