"""Event schedule (discrete-event simulation): new conversations in turn, and what is due.

The clock is the simulation's: it stands at the beginning of the newest conversation, so an agent's
verdict that takes a quarter of an hour comes some ten conversations later, however fast they are
played. When the last conversation has begun, what is left is done in the order it is due.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

from experiments.simulation.world import World

Job = Callable[[], None]


class EventSchedule:
    """Hands out jobs to any number of threads. It ends when nothing is left, or at `stop`."""

    def __init__(self, world: World, conversations: int, begin: Callable[[int], None]) -> None:
        self._world = world
        self._conversations = conversations
        self._begin = begin
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Job]] = []
        self._put = 0
        self._begun = 0
        self._running = 0
        self._stopped = False

    @property
    def stopped(self) -> bool:
        return self._stopped

    def put(self, due_at: float, job: Job) -> None:
        """Do `job` once the simulation's clock has reached `due_at` (seconds since the epoch)."""
        with self._changed:
            self._put += 1
            heapq.heappush(self._due, (due_at, self._put, job))
            self._changed.notify()

    def work(self) -> None:
        """Do jobs, one after another, until none is left. A job's error stops everybody."""
        while (job := self._take()) is not None:
            try:
                job()
            except BaseException:
                self.stop()
                raise
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

    def stop(self) -> None:
        """No more jobs: what runs is finished, what waits is left."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _take(self) -> Job | None:
        with self._changed:
            while not self._stopped:
                job = self._next()
                if job is not None:
                    self._running += 1
                    return job
                if not self._running:
                    return None
                self._changed.wait()
            return None

    def _next(self) -> Job | None:
        over = self._begun == self._conversations
        now = self._world.began(max(self._begun - 1, 0))
        if self._due and (over or self._due[0][0] <= now):
            return heapq.heappop(self._due)[2]
        if over:
            return None
        number = self._begun
        self._begun += 1
        return lambda: self._begin(number)
