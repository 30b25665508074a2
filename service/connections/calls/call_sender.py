"""Sending of calls to other systems, one after the other within a conversation.

`sending` is committed before a call, what came of it after. What a crash or a lost answer left
unknown is repeated where that changes nothing; looked for by its mark, which comes back, and then
repeated; and not repeated where a customer would see it twice: then it is uncertain, and told.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from pydantic import ValidationError
from sqlalchemy import Connection

from service.connections.calls.commands import command_of, with_words
from service.connections.connection_secrets import (
    SecretReferenceError,
    resolve_secret,
    unseal,
)
from service.connections.http.addresses import AddressPolicy
from service.connections.http.http_request import HttpAnswer, send
from service.connections.kinds.catalogue import KINDS
from service.connections.kinds.contract import Call
from service.runtime.sealing import Sealer, UnsealError
from service.runtime.settings import Settings
from service.store.database.clock import database_time
from service.store.database.transactions import Store
from service.store.ledger import call_rows, connection_rows, outbox_rows

TIMEOUT_SECONDS = 10.0
AT_ONCE_EACH = 16
"""Conversations of one connection that are sent to at once."""

CLAIM_SECONDS = TIMEOUT_SECONDS + 10.0
"""After so long a delivery that is still `sending` was cut off."""

ECHO_SECONDS = 30.0
"""How long the mark of a call whose fate is unknown is waited for."""

MINUTE, HOUR = 60.0, 3600.0
RETRY_SECONDS = (
    1.0, 5.0, 30.0, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR, 12 * HOUR,
)  # fmt: skip
JITTER = 0.1
FINAL = frozenset({400, 401, 403, 404, 410, 422})
"""Answers that no repetition changes."""

ALARM_ATTEMPTS = 4
"""So many attempts of one call that failed are an alarm."""

_log = structlog.get_logger("baton.calls")


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call with all that it is sent with."""

    call: Call
    url: str
    headers: dict[str, str]
    refusal: Callable[[bytes], str | None] | None = None


class NotPreparedError(Exception):
    """A call cannot be sent; `is_final`: it never can."""

    def __init__(self, why: str, *, is_final: bool) -> None:
        super().__init__(why)
        self.is_final = is_final


class CallSender:
    """Claims deliveries to connections, sends them and records what came of it."""

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
            if not call_rows.due(connection, now, 1, full):
                return []
        with self._store.write() as connection:
            rows = call_rows.due(connection, now, room, full)
            taken = Counter(busy)
            claimed: list[dict[str, Any]] = []
            for row in rows:
                if taken[row.connection_id] >= AT_ONCE_EACH:
                    continue
                if (one := self._claim(connection, dict(row._asdict()), now)) is not None:
                    taken[row.connection_id] += 1
                    claimed.append(one)
            return claimed

    @staticmethod
    def group(row: dict[str, Any]) -> str:
        return str(row["connection_id"])

    async def deliver(self, client: httpx.AsyncClient, row: dict[str, Any]) -> None:
        """Send a delivery, and those after it in its conversation that are due."""
        following: dict[str, Any] | None = row
        while following is not None:
            following = await self._deliver_one(client, following)

    async def _deliver_one(
        self, client: httpx.AsyncClient, row: dict[str, Any]
    ) -> dict[str, Any] | None:
        try:
            prepared = await asyncio.to_thread(self._prepare, row)
        except NotPreparedError as error:
            answer = HttpAnswer(400 if error.is_final else None, str(error), is_sent=False)
        else:
            answer = await send(
                client,
                prepared.call.method,
                prepared.url,
                prepared.headers,
                json.dumps(prepared.call.body, ensure_ascii=False).encode(),
                self._policy,
                TIMEOUT_SECONDS,
                reads=prepared.refusal is not None,
            )
            if answer.is_success and prepared.refusal is not None:
                why = prepared.refusal(answer.body)
                answer = answer if why is None else HttpAnswer(400, why)
        return await asyncio.to_thread(self._record, row, answer)

    def _claim(
        self, connection: Connection, row: dict[str, Any], now: float
    ) -> dict[str, Any] | None:
        """A delivery as it is now sent; None where it is not, for what became of it is unknown."""
        if row["status"] == "sending" and row["repeat"] != "natural":
            is_awaited = now < row["tried_at"] + ECHO_SECONDS
            if row["repeat"] == "once" or is_awaited:
                self._leave_unknown(connection, row, "it was cut off: whether it came", now)
                return None
        changes = {"status": "sending", "attempts": row["attempts"] + 1, "tried_at": now}
        call_rows.change(connection, row["id"], due_at=now + CLAIM_SECONDS, **changes)
        return row | changes

    def _leave_unknown(
        self, connection: Connection, row: dict[str, Any], why: str, now: float
    ) -> None:
        """A marked call waits for its mark; one that may be sent once is raised."""
        why = f"{why} is not known"
        if row["repeat"] == "marked":
            due = (row["tried_at"] or now) + ECHO_SECONDS
            call_rows.change(connection, row["id"], status="waiting", due_at=due, error=why)
            return
        call_rows.change(connection, row["id"], status="uncertain", error=why)
        self._raise_alarm(connection, row, why, now)

    def _prepare(self, row: dict[str, Any]) -> PreparedCall:
        """Write the call again, with its words and secrets. Raises NotPreparedError."""
        with self._store.read() as connection:
            target = connection_rows.by_id(connection, row["connection_id"])
            event = outbox_rows.by_id(connection, row["workspace"], row["event_id"])
            if target is None or target.kind not in KINDS:
                raise NotPreparedError("the connection is gone", is_final=True)
            if event is None:
                raise NotPreparedError("the event is gone", is_final=True)
            if target.disabled_at is not None:
                raise NotPreparedError("the connection is off", is_final=False)
            kind = KINDS[target.kind]
            text = outbox_rows.words(event, Sealer.of(self._settings), says=True)
            command = command_of(event, target.id, kind, text=text)
            if command is None:
                raise NotPreparedError("nothing follows from the event any more", is_final=True)
            address = self._settings.address
            command = with_words(connection, row["workspace"], command, address, kind.asks)
            link = connection_rows.link(connection, row["workspace"], row["conversation_id"])
        try:
            config = kind.config.model_validate(target.config)
            secrets = {
                name: resolve_secret(self._settings, value)
                for name, value in unseal(self._settings, target.secrets).items()
                if name in kind.outbound
            }
        except (ValidationError, UnsealError, SecretReferenceError) as error:
            raise NotPreparedError(str(error)[:500], is_final=False) from error
        native, state = ("", {}) if link is None else (link.native_id, link.state)
        calls = kind.write(command, native, state, config)
        call = next((one for one in calls if one.name == row["call"]), None)
        if call is None:
            raise NotPreparedError("the configuration asks for it no more", is_final=True)
        headers = {
            "content-type": "application/json",
            "user-agent": "Baton-Connector",
            **kind.authorize(secrets, config),
        }
        url = config.base_url.rstrip("/") + call.path
        return PreparedCall(call, url, headers, kind.refusal)

    def _record(self, row: dict[str, Any], answer: HttpAnswer) -> dict[str, Any] | None:
        """Record what came of a call; gives the conversation's next delivery, where it is due."""
        with self._store.write() as connection:
            now = database_time(connection)
            stored = call_rows.delivery(connection, row["workspace"], row["id"])
            if stored is not None and stored.status == "sending":
                self._record_answer(connection, row, answer, now)
            following = call_rows.next_open(
                connection, row["connection_id"], row["conversation_id"]
            )
            if following is None or following.status != "waiting" or following.due_at > now:
                return None
            return self._claim(connection, dict(following._asdict()), now)

    def _record_answer(
        self, connection: Connection, row: dict[str, Any], answer: HttpAnswer, now: float
    ) -> None:
        why = answer.error or f"it answered {answer.status}"
        call_rows.change(connection, row["id"], http_status=answer.status)
        if answer.is_success:
            changes = {"status": "done", "done_at": now, "error": None}
            call_rows.change(connection, row["id"], **changes)
            connection_rows.mark_well(connection, row["connection_id"])
        elif answer.status in FINAL:
            call_rows.change(connection, row["id"], status="failed", error=why)
            self._raise_alarm(connection, row, why, now)
        elif answer.is_sent and answer.status != 429 and row["repeat"] != "natural":
            self._leave_unknown(connection, row, f"{why}: whether it came", now)
        else:
            self._try_again(connection, row, answer, why, now)

    def _try_again(
        self, connection: Connection, row: dict[str, Any], answer: HttpAnswer, why: str, now: float
    ) -> None:
        if row["attempts"] > len(RETRY_SECONDS):
            call_rows.change(connection, row["id"], status="failed", error=why)
            self._raise_alarm(connection, row, why, now)
            return
        pause = RETRY_SECONDS[row["attempts"] - 1]
        pause = max(pause * (1 + JITTER * (2 * self._chance.random() - 1)), answer.retry_after)
        due = now + min(pause, 2 * RETRY_SECONDS[-1])
        call_rows.change(connection, row["id"], status="waiting", due_at=due, error=why)
        if row["attempts"] >= ALARM_ATTEMPTS:
            self._raise_alarm(connection, row, why, now)

    def _raise_alarm(
        self, connection: Connection, row: dict[str, Any], why: str, now: float
    ) -> None:
        """Note the failure; tell of the first since all went well."""
        why = f"{row['call']}: {why}"
        target = connection_rows.by_id(connection, row["connection_id"])
        if target is None:
            return
        changes: dict[str, Any] = {"failure": why, "failed_at": now}
        if target.failing_since is None:
            changes["failing_since"] = now
            data = {"connection_id": target.id, "kind": target.kind, "name": target.name}
            data |= {"delivery_id": row["id"], "failure": why}
            outbox_rows.add(connection, target.workspace, "connection.failing", data)
        connection_rows.change(connection, target.workspace, target.id, **changes)
        _log.warning("call_failed", connection=target.id, delivery=row["id"], why=why)
