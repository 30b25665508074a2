"""Sending of the outbox's events to webhooks: those that are due are sent, and it is remembered.

`sending` is committed before the call and what came of it after; what a crash cut off is sent again
under the same webhook-id, so nothing is lost, and whoever handles each id once has it once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import structlog
from sqlalchemy import Connection

from service.connections.http.addresses import AddressPolicy
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
from service.store.database.transactions import Store
from service.store.ledger import outbox_rows, webhook_rows

AT_ONCE_EACH = 4
"""Deliveries on their way to one webhook, so that a slow one holds up no other."""

CLAIM_SECONDS = TIMEOUT_SECONDS + 10.0
"""After so long a delivery that is still `sending` was cut off."""

_log = structlog.get_logger("baton.webhooks")


class WebhookSender:
    """Claims deliveries to webhooks, sends them and records what came of it."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._policy = AddressPolicy.of(settings)
        self._chance = random.Random()

    def claim_due(self, room: int, busy: Mapping[str, int]) -> list[dict[str, Any]]:
        """Mark what is due and has room as `sending`, and commit that; gives what to send."""
        full = [name for name, number in busy.items() if number >= AT_ONCE_EACH]
        with self._store.read() as connection:
            now = database_time(connection)
            if not webhook_rows.due(connection, now, 1, full):
                return []
        with self._store.write() as connection:
            rows = webhook_rows.due(connection, now, room, full)
            return self._claim(connection, rows, now, Counter(busy))

    @staticmethod
    def group(row: dict[str, Any]) -> str:
        return str(row["webhook"]["id"])

    def _claim(
        self, connection: Connection, rows: Sequence[Any], now: float, taken: Counter[str]
    ) -> list[dict[str, Any]]:
        claimed: list[dict[str, Any]] = []
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

    async def deliver(self, client: httpx.AsyncClient, row: dict[str, Any]) -> None:
        webhook, delivery = row["webhook"], row["delivery"]
        try:
            sealer = await asyncio.to_thread(Sealer.of, self._settings)
            secrets = self._secrets(sealer, webhook)
        except (UnsealError, OSError) as error:
            outcome = Attempt("retry", error=str(error))
        else:
            body = body_of(row["event"], sealer, with_text=webhook["with_text"])
            headers = headers_of(row["event"].id, body, secrets, now_utc())
            outcome = await attempt(client, webhook["url"], headers, body, self._policy)
        await asyncio.to_thread(self._record, webhook, delivery, outcome)

    @staticmethod
    def _secrets(sealer: Sealer, webhook: dict[str, Any]) -> list[str]:
        """The secret, and while it rotates the one before."""
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


def make_webhook_deliveries(connection: Connection, events: Sequence[Any], now: float) -> None:
    """Make a delivery of each event for every webhook that wants it."""
    webhooks = webhook_rows.of_workspaces(connection, {row.workspace for row in events})
    rows = [
        _delivery_row(webhook, event, now)
        for event in events
        for webhook in webhooks
        if webhook.workspace == event.workspace
        and event.type != outbox_rows.WORDS
        and (not webhook.types or event.type in webhook.types)
    ]
    webhook_rows.add_deliveries(connection, rows)


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
