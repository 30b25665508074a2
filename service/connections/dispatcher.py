"""Dispatcher of the outbox: makes deliveries of events, for webhooks and connections, in the
transaction that marks those events, and lets what is due be sent. Questions to the judge go with
it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import httpx
import structlog

from service.connections.calls.call_deliveries import make_calls
from service.connections.calls.call_sender import CallSender
from service.connections.judge.judge import Judge
from service.connections.webhooks.delivery_attempt import TIMEOUT_SECONDS
from service.connections.webhooks.webhook_sender import WebhookSender, make_webhook_deliveries
from service.runtime.settings import Settings
from service.store.database.clock import database_time
from service.store.database.transactions import DatabaseError, Store
from service.store.ledger import outbox_rows

POLL_SECONDS = 0.2
EVENTS_MAX = 500
"""Events made into deliveries in one transaction."""

AT_ONCE = 64
"""Deliveries of a sort that are on their way at once."""

_log = structlog.get_logger("baton.deliveries")


class Sender(Protocol):
    """Sends deliveries of one sort; `busy` are those on their way, by far side."""

    def claim_due(self, room: int, busy: Mapping[str, int]) -> Sequence[dict[str, Any]]: ...

    def group(self, row: dict[str, Any], /) -> str: ...

    async def deliver(self, client: httpx.AsyncClient, row: dict[str, Any]) -> None: ...


class Dispatcher:
    """Sends what follows from the outbox's events while this process leads."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._senders: tuple[Sender, ...] = (
            WebhookSender(store, settings),
            CallSender(store, settings),
            *([Judge(store, settings)] if settings.judge_url else []),
        )
        self._busy: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, stop: threading.Event, is_active: Callable[[], bool]) -> None:
        """Dispatch until `stop`; blocks."""
        asyncio.run(self._run(stop, is_active))

    async def _run(self, stop: threading.Event, is_active: Callable[[], bool]) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(
            trust_env=False, timeout=TIMEOUT_SECONDS, limits=limits
        ) as client:
            while not stop.is_set():
                try:
                    if is_active():
                        await self._pass(client)
                except DatabaseError as error:
                    _log.warning("dispatch_put_off", why=str(error.orig))
                except Exception:
                    _log.exception("dispatch_broke")
                await asyncio.sleep(POLL_SECONDS)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, client: httpx.AsyncClient) -> None:
        while await asyncio.to_thread(self.make_deliveries) == EVENTS_MAX:
            pass
        for sender in self._senders:
            busy = {name: number for name, number in self._busy.items() if number}
            if (room := AT_ONCE - len(self._tasks)) <= 0:
                return
            for row in await asyncio.to_thread(sender.claim_due, room, busy):
                self._busy[sender.group(row)] += 1
                task = asyncio.create_task(self._deliver(client, sender, row))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def make_deliveries(self) -> int:
        """Make deliveries of the events that have none yet; gives how many events."""
        with self._store.read() as connection:
            if not outbox_rows.undispatched(connection, 1):
                return 0
        with self._store.write() as connection:
            events = outbox_rows.undispatched(connection, EVENTS_MAX)
            now = database_time(connection)
            make_webhook_deliveries(connection, events, now)
            make_calls(connection, events, now)
            outbox_rows.mark_dispatched(connection, [row.id for row in events])
            return len(events)

    async def _deliver(
        self, client: httpx.AsyncClient, sender: Sender, row: dict[str, Any]
    ) -> None:
        group = sender.group(row)
        try:
            await sender.deliver(client, row)
        except DatabaseError as error:
            _log.warning("delivery_not_recorded", to=group, why=str(error.orig))
        except Exception:
            _log.exception("delivery_broke", to=group)
        finally:
            self._busy[group] -= 1
