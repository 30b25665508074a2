"""Event feed of whoever comes by key, from the outbox, in one order, dropping none: bots hear of
handoffs and what agents write, agents of all that webhooks hear.

A commit may come after a later one's, so each poll goes back OVERLAP_SECONDS and leaves out what
was sent; a subscriber that reconnects gets some of it twice, under the same `event_id`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import Connection

from service.runtime.sealing import Sealer
from service.runtime.settings import Settings
from service.store.database.clock import database_time
from service.store.ledger import outbox_rows
from service.web.event_stream import format as event_format

OVERLAP_SECONDS = 15.0
EVENTS_MAX = 2000
"""More than so many at once are not sent one by one: a `reset` asks subscribers to look anew."""

_ID_CHARS_MAX = 20
RecentlySent = Mapping[str, float]
"""Events within the overlap that were sent, by their time."""


@dataclass(frozen=True, slots=True)
class OutboxCursor:
    """Cursor of a subscriber: the time of the newest event that it got."""

    at: float

    def __str__(self) -> str:
        return str(round(self.at * 1e6))

    @classmethod
    def read(cls, text: str) -> OutboxCursor | None:
        """A cursor from an event's id; None if it is not one."""
        plain = text.isascii() and text.isdecimal() and len(text) <= _ID_CHARS_MAX
        return cls(int(text) / 1e6) if plain else None


@dataclass(frozen=True, slots=True)
class OutboxFeed:
    """The events of some types; with `settings`, agents' words are told as they were written."""

    types: Sequence[str]
    settings: Settings | None = None

    def start_cursor(
        self, connection: Connection, workspace: str
    ) -> tuple[OutboxCursor, RecentlySent]:
        """The cursor where polling begins, and what counts as sent already."""
        now = database_time(connection)
        rows = self._rows(connection, workspace, now)
        return OutboxCursor(now), {row.id: row.at for row in rows}

    def events_after_reconnect(
        self,
        connection: Connection,
        workspace: str,
        cursor: OutboxCursor | None,
        until: OutboxCursor,
    ) -> bytes:
        """What a subscriber that reconnects has missed; `reset` where that is too much."""
        if cursor is None:
            return event_format.hello(until)
        rows = self._rows(connection, workspace, cursor.at)
        if len(rows) >= EVENTS_MAX:
            return event_format.reset(until)
        return self._events(rows, cursor)[0] or event_format.hello(until)

    def poll(
        self,
        connection: Connection,
        workspace: str,
        cursor: OutboxCursor,
        recently_sent: RecentlySent,
    ) -> tuple[bytes, OutboxCursor, RecentlySent]:
        """What happened since the last poll, the new cursor, and what was sent lately."""
        rows = self._rows(connection, workspace, cursor.at)
        if len(rows) >= EVENTS_MAX:
            cursor, recently_sent = self.start_cursor(connection, workspace)
            return event_format.reset(cursor), cursor, recently_sent
        new = [row for row in rows if row.id not in recently_sent]
        chunk, cursor = self._events(new, cursor)
        return chunk, cursor, {row.id: row.at for row in rows}

    def _rows(self, connection: Connection, workspace: str, at: float) -> Sequence[Any]:
        after = at - OVERLAP_SECONDS
        return outbox_rows.since(connection, workspace, after, self.types, EVENTS_MAX)

    def _events(self, rows: Sequence[Any], cursor: OutboxCursor) -> tuple[bytes, OutboxCursor]:
        is_sealed = any(row.sealed is not None for row in rows)
        sealer = Sealer.of(self.settings) if is_sealed and self.settings else None
        parts = []
        for row in rows:
            cursor = OutboxCursor(max(cursor.at, row.at))
            parts.append(event_format.outbox_event(cursor, row, sealer))
        return b"".join(parts), cursor


AGENTS = OutboxFeed(get_args(outbox_rows.EventType))


def of_bots(settings: Settings) -> OutboxFeed:
    """What bots hear: handoffs, and what agents write to customers."""
    return OutboxFeed(
        [kind for kind in AGENTS.types if kind.startswith(("handoff.", "message."))], settings
    )
