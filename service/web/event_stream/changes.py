"""Change feed of the console's pages: what is otherwise since a cursor, as server-sent events.

Nothing is stored for it. The ledger's entries have gapless positions. Handoffs are found by when
they changed, and a commit may come after a later one's: each poll goes back OVERLAP_SECONDS and
leaves out what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from learning.ledger.model_state import Entry
from service.handoffs import queue
from service.store.database.clock import database_time
from service.store.handoffs import handoff_rows
from service.store.ledger import entries as ledger
from service.web.event_stream import format as event_format

OVERLAP_SECONDS = 15.0
"""The longest transaction (10 s) and some more: changes are stamped by the database's clock."""

CHANGES_MAX = 2000
"""More than so many at once are not sent one by one: a `reset` asks subscribers to look anew."""

_ID_CHARS_MAX = 40
RecentlySent = Mapping[str, float]
"""Handoffs that changed within the overlap and were sent, by when they changed."""


@dataclass(frozen=True, slots=True)
class EventCursor:
    """Cursor of a subscriber: handoffs by the time of their change, the ledger by its position."""

    changed_at: float
    position: int

    def __str__(self) -> str:
        return f"{round(self.changed_at * 1e6)}-{self.position}"

    @classmethod
    def read(cls, text: str) -> EventCursor | None:
        """A cursor from an event's id; None if it is not one."""
        at, _, position = text.partition("-")
        plain = text.isascii() and at.isdecimal() and position.isdecimal()
        if not plain or len(text) > _ID_CHARS_MAX:
            return None
        return cls(int(at) / 1e6, min(int(position), ledger.EVER))


def now_of(connection: Connection, workspace: str) -> EventCursor:
    """The cursor of now: where a page that is read now begins to subscribe."""
    return EventCursor(
        database_time(connection), ledger.heads(connection, [workspace])[workspace][0]
    )


def start_cursor(connection: Connection, workspace: str) -> tuple[EventCursor, RecentlySent]:
    """The cursor where polling begins, and what counts as sent already."""
    now = database_time(connection)
    recently_sent = dict(
        handoff_rows.changes(connection, workspace, now - OVERLAP_SECONDS, CHANGES_MAX)
    )
    return now_of(connection, workspace), recently_sent


def events_after_reconnect(
    connection: Connection, workspace: str, cursor: EventCursor | None, until: EventCursor
) -> bytes:
    """What a subscriber that reconnects has missed; `reset` where that is too much."""
    if cursor is None:
        return event_format.hello(until, until.position)
    after = cursor.changed_at - OVERLAP_SECONDS
    changed = handoff_rows.changes(connection, workspace, after, CHANGES_MAX)
    entries = ledger.tail(connection, workspace, cursor.position, CHANGES_MAX)
    if len(changed) + len(entries) >= CHANGES_MAX:
        return event_format.reset(until)
    since = dict.fromkeys((name for name, _ in changed), after)
    chunk, _ = _events(connection, workspace, cursor, since, entries)
    return chunk or event_format.hello(until, until.position)


def poll(
    connection: Connection, workspace: str, cursor: EventCursor, recently_sent: RecentlySent
) -> tuple[bytes, EventCursor, RecentlySent]:
    """What happened since the last poll, the new cursor, and the changes that were sent lately."""
    after = cursor.changed_at - OVERLAP_SECONDS
    changed = handoff_rows.changes(connection, workspace, after, CHANGES_MAX)
    entries = ledger.tail(connection, workspace, cursor.position, CHANGES_MAX)
    if len(changed) >= CHANGES_MAX or len(entries) >= CHANGES_MAX:
        cursor, recently_sent = start_cursor(connection, workspace)
        return event_format.reset(cursor), cursor, recently_sent
    fresh = {
        name: recently_sent.get(name, after)
        for name, at in changed
        if recently_sent.get(name) != at
    }
    chunk, cursor = _events(connection, workspace, cursor, fresh, entries)
    return chunk, cursor, dict(changed)


def _events(
    connection: Connection,
    workspace: str,
    cursor: EventCursor,
    changed: Mapping[str, float],
    entries: Sequence[Entry],
) -> tuple[bytes, EventCursor]:
    """Events in order, and the cursor after the last of them. `changed` are handoffs, and since
    when what happened to each has not been sent.
    """
    parts = []
    for row in handoff_rows.by_ids(connection, workspace, changed) if changed else ():
        cursor = EventCursor(max(cursor.changed_at, row.changed_at), cursor.position)
        parts.append(event_format.handoff_event(cursor, "handoff", row))
        if row.raised_at is not None and row.raised_at > changed[row.id]:
            parts.append(event_format.handoff_event(cursor, "handoff.raised", row))
    if changed:
        parts.append(event_format.queue_event(cursor, queue.team_queues(connection, workspace)))
    for entry in entries:
        cursor = EventCursor(cursor.changed_at, entry.position)
        parts.append(event_format.entry_event(cursor, entry))
    return b"".join(parts), cursor
