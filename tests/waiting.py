"""How long tests wait: one limit for all of them, which no machine that works at all comes near.

    until(lambda: place.entries(), "something is learned")

A wait ends at once when what it waits for is there, so that a generous limit costs nothing but the
time to a failure. How quick something is, no test says: that is measured by `baton bench`.
`BATON_TEST_WAIT_SECONDS` sets another limit; pytest's own (`timeout` in pyproject.toml) is larger.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_SECONDS = float(os.environ.get("BATON_TEST_WAIT_SECONDS", "180"))
LIMIT_MS = 1000 * LIMIT_SECONDS


def until(holds: Callable[[], T], what: str, *, every: float = 0.1) -> T:
    """Wait until something holds; gives what was found."""
    give_up = time.monotonic() + LIMIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < give_up, f"not within {LIMIT_SECONDS:g} s: {what}"
        time.sleep(every)
    return found
