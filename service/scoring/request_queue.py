"""The bounded queue of requests: who floods it waits for themselves.

Each workspace has a line of its own, and a batch takes from them in turn. When the queue is full,
a workspace within its fair share still finds a place: the newest request of the longest line is
refused instead. Refused is never lost: nothing of it was written, and its sender is told.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from service.store.conversations.batch import Batch

LockTargets = Mapping[str, Sequence[str]]
"""Conversations to be locked, and the message ids whose presence in them matters."""


@dataclass(slots=True)
class QueuedRequest:
    """One waiting request: what it needs locked beforehand, what it does, and who waits for it.

    Whatever a request will change belongs to a conversation that it names here, or looks up: all
    conversations of a batch are locked first, in one order, and then the ledgers' heads.
    """

    workspace: str
    needs: LockTargets | Callable[[Connection], LockTargets]
    do: Callable[[Batch], Any]
    appends: bool
    answer: asyncio.Future[Any] = field(repr=False)

    def needed(self, connection: Connection) -> LockTargets:
        return self.needs(connection) if callable(self.needs) else self.needs


class RequestQueue:
    """At most `most` requests of all workspaces together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: OrderedDict[str, deque[QueuedRequest]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, work: QueuedRequest) -> QueuedRequest | None:
        """Let a request wait; gives the one that is refused for it, which may be itself."""
        refused = self._displaced(work) if self._count >= self._most else None
        if refused is work:
            return refused
        line = self._lines.get(work.workspace)
        if line is None:
            line = self._lines[work.workspace] = deque()
        line.append(work)
        self._count += 1
        return refused

    def _displaced(self, work: QueuedRequest) -> QueuedRequest:
        own = len(self._lines.get(work.workspace, ()))
        workspaces = len(self._lines) + (work.workspace not in self._lines)
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=work.workspace)
        if own >= self._most // workspaces or longest == work.workspace:
            return work
        self._count -= 1
        return self._lines[longest].pop()

    def take(self, most: int) -> list[QueuedRequest]:
        """The next requests, one of each workspace in turn."""
        taken: list[QueuedRequest] = []
        while self._lines and len(taken) < most:
            name, line = next(iter(self._lines.items()))
            if len(self._lines) == 1:
                while line and len(taken) < most:
                    taken.append(line.popleft())
            else:
                taken.append(line.popleft())
                self._lines.move_to_end(name)
            if not line:
                del self._lines[name]
        self._count -= len(taken)
        return taken
