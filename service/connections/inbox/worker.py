"""Worker of the inbox: entries of a conversation one after the other, each with its decision and
its mark in one transaction of the engine.

Whoever received an entry does it at once. What a crash left over is found again after LEFT_SECONDS,
by any process: the conversation's lock and the entry's mark let it have one effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from learning.conversation.state import Message, unread_chars
from learning.ledger.model_state import ModelState
from service.connections.inbox.apply_events import (
    EntryContext,
    OutcomesCameError,
    apply,
    removal_of,
    to_message,
)
from service.connections.kinds.contract import (
    DomainEvent,
    MessageAdded,
    MessageEdited,
    MessageRemoved,
    VerdictGiven,
)
from service.connections.known_connections import KnownConnection, KnownConnections
from service.handoffs import takeover
from service.runtime.errors import RequestRefused, Unavailable
from service.scoring.engine import Engine
from service.store.conversations.batch import Batch
from service.store.database.clock import database_time
from service.store.database.transactions import DatabaseError, Store
from service.store.ledger import connection_rows, inbox_rows
from service.store.ledger.connection_rows import HEARD_SECONDS

POLL_SECONDS, LEFT_SECONDS = 1.0, 2.0
PENDING_MAX, PENDING_EACH, LEFT_MAX = 4096, 256, 1000
"""Conversations with entries in memory, entries of one of them, and entries found again at once;
more are found in the database.
"""

AT_ONCE = 64
"""Entries of different conversations that are done at once."""

ATTEMPTS_MAX = 5
"""Attempts at an entry that breaks; then it is set aside, and the next ones go on."""

_TEACHING = (VerdictGiven, MessageRemoved)

Entry = Mapping[str, Any]
Key = tuple[str, str]
_log = structlog.get_logger("baton.inbox")


class InboxWorker:
    """Does what waits in the inbox while this process serves."""

    def __init__(self, engine: Engine, store: Store, connections: KnownConnections) -> None:
        self._engine = engine
        self._store = store
        self._connections = connections
        self._pending: dict[Key, dict[str, Entry]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: dict[str, int] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._poller: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inbox")

    def start(self) -> None:
        self._poller = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Leave what waits: whoever comes next finds it."""
        tasks = [*self._tasks, *([self._poller] if self._poller is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    def push(self, entries: Sequence[Entry]) -> None:
        """Entries that are committed: do them soon."""
        for entry in entries:
            key = entry["workspace"], entry["conversation_id"]
            pending = self._pending.get(key)
            if pending is not None:
                if len(pending) < PENDING_EACH:
                    pending[entry["id"]] = entry
            elif len(self._pending) < PENDING_MAX:
                self._pending[key] = {entry["id"]: entry}
                task = asyncio.create_task(self._work(key))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _poll(self) -> None:
        """Find what was left over, in a thread that no request waits for."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                rows = await loop.run_in_executor(self._thread, self._left_over)
            except DatabaseError as error:
                _log.warning("inbox_not_read", why=str(error.orig))
            else:
                self.push(rows)

    def _left_over(self) -> list[Entry]:
        with self._store.read() as connection:
            before = database_time(connection) - LEFT_SECONDS
            rows = inbox_rows.waiting_before(connection, before, LEFT_MAX)
            return [row._asdict() for row in rows]

    async def _work(self, key: Key) -> None:
        """One conversation's entries, in the order in which they happened."""
        pending = self._pending[key]
        first: str | None = None
        try:
            while pending:
                entry = pending.get(first or "") or min(
                    pending.values(), key=lambda one: (one["occurred_at"], one["id"])
                )
                async with self._room:
                    first = await self._do(entry)
                if first is None:
                    pending.pop(entry["id"], None)
                elif first not in pending:
                    await self._fetch(pending, first)
        except Unavailable:
            pass  # the poll finds it again
        except DatabaseError as error:
            _log.warning("inbox_put_off", why=str(error.orig))
        except Exception:
            _log.exception("inbox_broke", conversation=key[1])
        finally:
            del self._pending[key]

    async def _fetch(self, pending: dict[str, Entry], name: str) -> None:
        """An entry whose turn it is, and that another process received."""

        def read() -> Entry | None:
            with self._store.read() as connection:
                row = inbox_rows.entry(connection, name)
                return None if row is None else row._asdict()

        if (row := await asyncio.to_thread(read)) is not None and row["status"] == "waiting":
            pending[name] = row

    async def _do(self, entry: Entry) -> str | None:
        """Do an entry, if it is its turn; gives the id of the one whose turn it is instead."""
        known = await self._connections.get(entry["connection_id"])
        if known is None:
            return await self._set_aside(entry, "the connection is gone, or off")
        try:
            return await self._apply(known, entry)
        except (Unavailable, DatabaseError, OutcomesCameError):
            raise
        except RequestRefused as refusal:
            return await self._set_aside(entry, f"{refusal.code}: {refusal.message}"[:500])
        except Exception:
            times = self._broken[entry["id"]] = self._broken.get(entry["id"], 0) + 1
            _log.exception("entry_broke", entry=entry["id"], times=times)
            if times < ATTEMPTS_MAX:
                raise Unavailable("broken", "an entry broke; it is tried again") from None
            return await self._set_aside(entry, "it broke: the log has it")

    async def _apply(self, known: KnownConnection, entry: Entry) -> str | None:
        workspace, conversation = known.workspace, entry["conversation_id"]
        event = entry["event"]["event"]
        events = known.kind.read(event, {}, known.config).events
        prepared = await self._prepare(workspace, conversation, events)
        saved = {
            one.id: await asyncio.to_thread(
                removal_of(known, conversation, one).prepare, self._store
            )
            for one in events
            if isinstance(one, MessageRemoved)
        }
        model_state = await self._engine.model_state(workspace)

        def do(batch: Batch) -> str | None:
            return self._transact(batch, known, entry, model_state, prepared, saved)

        return await self._engine.run(
            workspace,
            do,
            needs={conversation: [*prepared]},
            appends=any(isinstance(one, _TEACHING) for one in events),
            chars=unread_chars(prepared.values()),
        )

    async def _prepare(
        self, workspace: str, conversation: str, events: Sequence[DomainEvent]
    ) -> dict[str, Message]:
        """The turns of an entry as they may be stored, with long texts read."""
        turns = [to_message(one) for one in events if isinstance(one, MessageAdded)]
        turns += [
            to_message(one.message, one.message.id)
            for one in events
            if isinstance(one, MessageEdited)
        ]
        read = await self._engine.read_texts(workspace, conversation, turns) if turns else ()
        return {message.id: message for message in read}

    def _transact(
        self,
        batch: Batch,
        known: KnownConnection,
        entry: Entry,
        model_state: ModelState,
        prepared: Mapping[str, Message],
        saved: Mapping[str, tuple[int, int]],
    ) -> str | None:
        """Apply an entry's events and mark it done, if it is its turn."""
        workspace, name = known.workspace, entry["conversation_id"]
        connection = batch.connection
        first = inbox_rows.first_waiting(connection, workspace, name)
        if first != entry["id"]:
            return first
        conversation = batch.conversation(workspace, name)
        is_linked = known.kind.scope == "conversation"
        link = connection_rows.link(connection, workspace, name) if is_linked else None
        before = {} if link is None else link.state
        reading = known.kind.read(entry["event"]["event"], before, known.config)
        context = EntryContext(
            batch,
            known,
            conversation,
            entry["id"],
            entry["occurred_at"],
            takeover.standing(batch, workspace, model_state),
            self._engine.decide_in,
            prepared,
            saved,
        )
        if is_linked and link is None:
            self._save_link(batch, known, entry, dict(reading.link))
        refused = [why for one in reading.events if (why := apply(context, one)) is not None]
        if link is not None and (
            reading.link != before or batch.now - link.heard_at > HEARD_SECONDS
        ):
            self._save_link(batch, known, entry, dict(reading.link))
        inbox_rows.finish(connection, entry, batch.now, "; ".join(refused) or None)
        return None

    def _save_link(
        self, batch: Batch, known: KnownConnection, entry: Entry, state: dict[str, Any]
    ) -> None:
        row = {
            "workspace": known.workspace,
            "conversation_id": entry["conversation_id"],
            "connection_id": known.id,
            "native_id": entry["event"]["native"],
            "state": state,
            "heard_at": batch.now,
        }
        connection_rows.save_link(batch.connection, row)

    async def _set_aside(self, entry: Entry, why: str) -> str | None:
        """Mark an entry as one that cannot be done, so that it holds up nothing."""
        workspace, name = entry["workspace"], entry["conversation_id"]
        self._broken.pop(entry["id"], None)

        def do(batch: Batch) -> str | None:
            inbox_rows.finish(batch.connection, entry, batch.now, why)
            return None

        return await self._engine.run(workspace, do, needs={name: []}, appends=False)
