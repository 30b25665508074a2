"""Circuit breaker: what fails again and again is left alone for a while, then tried once."""

from __future__ import annotations

FAILURES_MAX = 5
PAUSE_SECONDS = 60.0


class Breaker:
    """Opens after FAILURES_MAX failures in a row; each further one keeps it open as long again."""

    def __init__(self) -> None:
        self._failures = 0
        self._closed_from = 0.0

    def room(self, now: float, most: int) -> int:
        """How many may be asked now: none while it is open, one to try after it."""
        if now < self._closed_from:
            return 0
        return 1 if self._failures >= FAILURES_MAX else most

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, now: float, retry_after: float = 0.0) -> None:
        self._failures += 1
        if self._failures >= FAILURES_MAX or retry_after:
            self._closed_from = now + max(retry_after, PAUSE_SECONDS)
