"""Bounded request queue with a fair share per workspace (load shedding): the longest line is shed
first.

Each workspace has a line of its own, and a batch takes from them round-robin. When the queue is
full, a workspace within its fair share still gets a place: the newest request of the longest line
is refused instead. Nothing of a refused request was written, and its sender gets the refusal.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from service.store.conversations.batch import Batch

LockTargets = Mapping[str, Sequence[str]]
"""Conversations to be locked, and the message ids to look up in each."""


@dataclass(slots=True)
class QueuedRequest:
    """One waiting request: what it locks, what it does (`do`), how many characters of text it reads
    for it, and the future of its answer.

    Whatever a request will change belongs to a conversation that it names here, or looks up: all
    conversations of a batch are locked first, in one order, and then the ledgers' heads.
    """

    workspace: str
    needs: LockTargets | Callable[[Connection], LockTargets]
    do: Callable[[Batch], Any]
    appends: bool
    answer: asyncio.Future[Any] = field(repr=False)
    chars: int = 0
    queued_at: float = field(default_factory=time.monotonic)
    taken_at: float = 0.0

    def find_lock_targets(self, connection: Connection) -> LockTargets:
        return self.needs(connection) if callable(self.needs) else self.needs


class RequestQueue:
    """A queue of at most `capacity` requests of all workspaces together."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lines: OrderedDict[str, deque[QueuedRequest]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, request: QueuedRequest) -> QueuedRequest | None:
        """Enqueue a request; gives the one that is shed for it, which may be itself, or None."""
        shed = self._choose_shed(request) if self._count >= self._capacity else None
        if shed is request:
            return shed
        line = self._lines.get(request.workspace)
        if line is None:
            line = self._lines[request.workspace] = deque()
        line.append(request)
        self._count += 1
        return shed

    def _choose_shed(self, request: QueuedRequest) -> QueuedRequest:
        own = len(self._lines.get(request.workspace, ()))
        workspaces = len(self._lines) + (request.workspace not in self._lines)
        longest = max(
            self._lines, key=lambda name: len(self._lines[name]), default=request.workspace
        )
        if own >= self._capacity // workspaces or longest == request.workspace:
            return request
        self._count -= 1
        return self._lines[longest].pop()

    def take(self, limit: int, chars_max: int) -> list[QueuedRequest]:
        """Dequeue at most `limit` requests, round-robin over workspaces; none after so many
        characters to read.
        """
        requests: list[QueuedRequest] = []
        chars = 0
        while self._lines and len(requests) < limit and chars < chars_max:
            name, line = next(iter(self._lines.items()))
            requests.append(line.popleft())
            chars += requests[-1].chars
            if line:
                self._lines.move_to_end(name)
            else:
                del self._lines[name]
        self._count -= len(requests)
        return requests
