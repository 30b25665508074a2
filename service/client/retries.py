"""Retry policy: exponential backoff with jitter, Retry-After, and one deadline over all attempts.

It knows no clock and no network, so that both clients share it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

RETRIED = frozenset((408, 429, 500, 502, 503, 504))
"""Statuses after which the same request is sent again; 409 never is."""

FIRST_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long an attempt may take, how long all may, and how many follow the first."""

    timeout_seconds: float = 2.0
    deadline_seconds: float = 3.0
    retries: int = 2


@dataclass(slots=True)
class Attempts:
    """The attempts of one request; `begun` and every `now` are seconds of one clock."""

    policy: RetryPolicy
    begun: float
    failures: int = 0
    chance: random.Random = field(default_factory=random.Random)

    def timeout(self, now: float) -> float:
        """Seconds that the next attempt may take."""
        return max(min(self.policy.timeout_seconds, self._left(now)), 0.001)

    def pause(self, now: float, retry_after: str | None = None) -> float | None:
        """Seconds to wait after a failure until the next attempt; None: give up.

        Between half and all of the step is waited, and no less than Retry-After asks for.
        """
        self.failures += 1
        if self.failures > self.policy.retries:
            return None
        step: float = FIRST_PAUSE_SECONDS * 2 ** (self.failures - 1)
        pause = step * (0.5 + 0.5 * self.chance.random())
        if retry_after is not None and retry_after.isascii() and retry_after.isdecimal():
            pause = max(pause, float(retry_after))
        return pause if pause < self._left(now) else None

    def _left(self, now: float) -> float:
        return self.begun + self.policy.deadline_seconds - now
