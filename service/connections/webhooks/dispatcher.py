"""Dispatcher of the outbox: makes deliveries of events, sends those that are due, and remembers.

`sending` is committed before the call and what came of it after; what a crash cut off is sent again
under the same webhook-id, so nothing is lost, and whoever handles each id once has it once.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import structlog
from sqlalchemy import Connection

from service.connections.addresses import AddressPolicy
from service.connections.webhooks.delivery_attempt import (
    TIMEOUT_SECONDS,
    Attempt,
    attempt,
    body_of,
    headers_of,
    next_due,
    now_utc,
)
from service.runtime.ids import new_id
from service.runtime.sealing import Sealer, UnsealError
from service.runtime.settings import Settings
from service.store.database.clock import database_time
from service.store.database.transactions import DatabaseError, Store
from service.store.ledger import outbox_rows, webhook_rows

POLL_SECONDS = 0.2
EVENTS_MAX = 500
"""Events made into deliveries in one transaction."""

AT_ONCE, AT_ONCE_EACH = 64, 4
"""Deliveries on their way at once; and to one webhook, so that a slow one holds up no other."""

CLAIM_SECONDS = TIMEOUT_SECONDS + 10.0
"""After so long a delivery that is still `sending` was cut off."""

_log = structlog.get_logger("baton.webhooks")


class WebhookDispatcher:
    """Sends the outbox's events to webhooks while this process leads."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._policy = AddressPolicy.of(settings)
        self._chance = random.Random()
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
        for row in await asyncio.to_thread(self._claim_due):
            self._busy[row["webhook"]["id"]] += 1
            task = asyncio.create_task(self._deliver(client, row))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def make_deliveries(self) -> int:
        """Make deliveries of the events that have none yet; gives how many events."""
        with self._store.read() as connection:
            if not outbox_rows.undispatched(connection, 1):
                return 0
        with self._store.write() as connection:
            events = outbox_rows.undispatched(connection, EVENTS_MAX)
            webhooks = webhook_rows.of_workspaces(connection, {row.workspace for row in events})
            now = database_time(connection)
            rows = [
                _delivery_row(webhook, event, now)
                for event in events
                for webhook in webhooks
                if webhook.workspace == event.workspace
                and (not webhook.types or event.type in webhook.types)
            ]
            webhook_rows.add_deliveries(connection, rows)
            outbox_rows.mark_dispatched(connection, [row.id for row in events])
            return len(events)

    def _claim_due(self) -> list[dict[str, Any]]:
        """Mark what is due and has room as `sending`, and commit that; gives what to send."""
        room = AT_ONCE - len(self._tasks)
        full = [name for name, number in self._busy.items() if number >= AT_ONCE_EACH]
        if room <= 0:
            return []
        with self._store.read() as connection:
            now = database_time(connection)
            if not webhook_rows.due(connection, now, 1, full):
                return []
        with self._store.write() as connection:
            return self._claim(connection, webhook_rows.due(connection, now, room, full), now)

    def _claim(
        self, connection: Connection, rows: Sequence[Any], now: float
    ) -> list[dict[str, Any]]:
        claimed: list[dict[str, Any]] = []
        taken = Counter(self._busy)
        for row in rows:
            if taken[row.webhook_id] >= AT_ONCE_EACH:
                continue
            webhook = webhook_rows.webhook(connection, row.workspace, row.webhook_id)
            event = outbox_rows.by_id(connection, row.workspace, row.event_id)
            if webhook is None or webhook.disabled_at is not None or event is None:
                why = "the webhook is disabled" if event is not None else "the event is gone"
                webhook_rows.change_delivery(connection, row.id, status="failed", error=why)
                continue
            taken[row.webhook_id] += 1
            changes = {"status": "sending", "attempts": row.attempts + 1, "tried_at": now}
            until = now + CLAIM_SECONDS
            webhook_rows.change_delivery(connection, row.id, due_at=until, **changes)
            delivery = row._asdict() | changes
            claimed.append({"delivery": delivery, "webhook": webhook._asdict(), "event": event})
        return claimed

    async def _deliver(self, client: httpx.AsyncClient, row: dict[str, Any]) -> None:
        webhook, delivery = row["webhook"], row["delivery"]
        try:
            try:
                secrets = await asyncio.to_thread(self._secrets, webhook)
            except (UnsealError, OSError) as error:
                outcome = Attempt("retry", error=str(error))
            else:
                body = body_of(row["event"], with_text=webhook["with_text"])
                headers = headers_of(row["event"].id, body, secrets, now_utc())
                outcome = await attempt(client, webhook["url"], headers, body, self._policy)
            await asyncio.to_thread(self._record, webhook, delivery, outcome)
        except DatabaseError as error:
            _log.warning("delivery_not_recorded", delivery=delivery["id"], why=str(error.orig))
        except Exception:
            _log.exception("delivery_broke", delivery=delivery["id"])
        finally:
            self._busy[webhook["id"]] -= 1

    def _secrets(self, webhook: dict[str, Any]) -> list[str]:
        """The secret, and while it rotates the one before."""
        sealer = Sealer.of(self._settings)
        secrets = [sealer.unseal(webhook["secret"])]
        until = webhook["previous_until"]
        if webhook["previous_secret"] is not None and until > now_utc().timestamp():
            secrets.append(sealer.unseal(webhook["previous_secret"]))
        return secrets

    def _record(self, webhook: dict[str, Any], delivery: dict[str, Any], outcome: Attempt) -> None:
        with self._store.write() as connection:
            now = database_time(connection)
            values: dict[str, Any] = {"http_status": outcome.http_status, "error": outcome.error}
            if outcome.result == "done":
                values |= {"status": "done", "done_at": now}
            else:
                due = next_due(delivery["attempts"], outcome, now, self._chance)
                if due is None or outcome.result == "gone":
                    values["status"] = "failed"
                else:
                    values |= {"status": "waiting", "due_at": due}
            webhook_rows.change_delivery(connection, delivery["id"], **values)
            if outcome.result == "gone":
                workspace, name, why = webhook["workspace"], webhook["id"], outcome.error or ""
                changes = {"disabled_at": now, "disabled_why": why}
                webhook_rows.change(connection, workspace, name, **changes)
                webhook_rows.fail_open(connection, name, why)
        if outcome.result != "done":
            _log.info("delivery_failed", webhook=webhook["id"], why=outcome.error)


def _delivery_row(webhook: Any, event: Any, now: float) -> dict[str, Any]:
    return {
        "id": new_id("y"),
        "workspace": event.workspace,
        "webhook_id": webhook.id,
        "event_id": event.id,
        "type": event.type,
        "status": "waiting",
        "attempts": 0,
        "due_at": now,
        "created_at": now,
        "tried_at": None,
        "done_at": None,
        "http_status": None,
        "error": None,
    }
