"""Recorder of security events and of keys' last use: kept in memory, written together once a
second, so that what a request does not change costs it no transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import structlog

from service.store import access, security_log
from service.store.database.transactions import DatabaseError, Store

WRITE_SECONDS = 1.0
WAITING_MAX = 10_000
"""Different events that wait to be written; beyond that they are counted in the log alone."""

_log = structlog.get_logger("baton.security")
_Alike = tuple[str, str, str, str | None, str]


class SecurityRecorder:
    """Events of this process that wait to be written; alike ones are one with a count."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: dict[_Alike, int] = {}
        self._used: dict[str, float] = {}
        self._lost = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def record(
        self,
        kind: str,
        actor: str,
        subject: str = "",
        *,
        workspace: str | None = None,
        address: str = "",
    ) -> None:
        """Record an event; it is written within WRITE_SECONDS."""
        key = (kind, actor, subject, workspace, address)
        if key in self._events or len(self._events) < WAITING_MAX:
            self._events[key] = self._events.get(key, 0) + 1
        else:
            self._lost += 1

    def use(self, key_id: str) -> None:
        """A key was used just now."""
        self._used[key_id] = time.time()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what waits. A write that has begun is awaited: the store is closed next."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._write()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), WRITE_SECONDS)
            await self._write()

    async def _write(self) -> None:
        events, used = self._events, self._used
        if not events and not used:
            return
        self._events, self._used = {}, {}
        rows = [
            security_log.event(kind, actor, subject, workspace=w, address=address, count=count)
            for (kind, actor, subject, w, address), count in events.items()
        ]
        if self._lost:
            _log.error("security_events_lost", count=self._lost)
            self._lost = 0
        try:
            await asyncio.to_thread(self._store_all, rows, used)
        except DatabaseError as error:
            self._events = {**events, **self._events}
            _log.warning("security_log_waits", why=str(error.orig))

    def _store_all(self, rows: list[dict[str, Any]], used: dict[str, float]) -> None:
        with self._store.write(short_wait=True) as connection:
            security_log.append(connection, rows)
            access.mark_used(connection, used)
