"""Clock step detection: does this machine's clock agree with the newest time in the database?

A process whose clock is days ahead would end at once whatever waits. So nothing expires by a clock
that has just begun or jumped, until the database has a time near it, or it has run on steadily.
"""

from __future__ import annotations

import time
from collections.abc import Callable

STEP_SECONDS = 600.0
"""A clock that is this much ahead of every time in the database has to prove itself so long."""


class ClockCheck:
    """Whether times may expire by this process's clock (`wall`), watched by a monotonic one."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._steady = wall, steady
        self._offset: float | None = None
        self._since = 0.0
        self._confirmed = False

    def agrees(self, newest: float) -> bool:
        """Whether the clock can be believed, given the newest time in the database; 0 where there
        is none: then there is nothing that it could end.
        """
        wall, steady = self._wall(), self._steady()
        offset = wall - steady
        if self._offset is None or abs(offset - self._offset) > STEP_SECONDS:
            self._offset, self._since, self._confirmed = offset, steady, False
        if wall - newest <= STEP_SECONDS:
            self._confirmed = True
        return not newest or self._confirmed or steady - self._since >= STEP_SECONDS
