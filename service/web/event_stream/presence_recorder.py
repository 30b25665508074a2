"""Presence, recorded: who was seen in the console, and at which conversation.

Seen are who follows events from the console, and who has a conversation's page open, which asks
whether it has changed. Both are kept in memory, and written at most every WRITE_SECONDS a person
and place, together; any replica reads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

import structlog

from service.store import access
from service.store.database.transactions import DatabaseError, Store
from service.web.event_stream.broadcast import EventBroadcaster

WRITE_SECONDS = 20.0
LOOK_SECONDS = 5.0
SEEN_MAX = 10_000
"""People and places that wait to be written; more are not told of."""

_log = structlog.get_logger("baton.presence")
_Seen = tuple[str, str, str]


class PresenceRecorder:
    """Who was seen by this process, and when that was written last."""

    def __init__(self, store: Store, broadcaster: EventBroadcaster) -> None:
        self._store, self._broadcaster = store, broadcaster
        self._seen: dict[_Seen, float] = {}
        self._written: dict[_Seen, float] = {}
        self._task: asyncio.Task[None] | None = None

    def see(self, workspace: str, user_id: str, place: str = "") -> None:
        """Somebody is there now: in the console, or at a handoff's page (its id)."""
        if len(self._seen) < SEEN_MAX:
            self._seen[workspace, user_id, place] = time.time()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for principal in self._broadcaster.people():
                self.see(principal.workspace, principal.name)
            with contextlib.suppress(DatabaseError):
                await self.write()

    async def write(self) -> None:
        """Write who was seen and is due; a write that fails is told anew when they are seen."""
        now, seen = time.time(), self._seen
        self._written = {k: at for k, at in self._written.items() if at > now - WRITE_SECONDS}
        due = {key: at for key, at in seen.items() if key not in self._written}
        self._seen = {key: at for key, at in seen.items() if key not in due}
        if not due:
            return
        try:
            await asyncio.to_thread(self._store_all, due)
        except DatabaseError as error:
            _log.warning("presence_waits", why=str(error.orig))
            raise
        self._written |= dict.fromkeys(due, now)

    def _store_all(self, due: Mapping[_Seen, float]) -> None:
        with self._store.write(short_wait=True) as connection:
            access.mark_present(connection, due)
