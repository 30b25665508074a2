"""What happened in a workspace since a moment, written as server-sent events.

Nothing is stored for it. The ledger's entries are known by their gapless positions. Handoffs are
known by when they changed, and a commit may come after a later one's: each look goes back
OVERLAP_SECONDS and leaves out what was told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from learning.ledger.model_state import Entry
from service.handoffs import queue
from service.store.handoffs import handoff_rows
from service.store.ledger import entries as ledger
from service.web.schemas import moment, timed

OVERLAP_SECONDS = 15.0
"""The longest transaction (10 s), and as much as the clocks of two processes may differ."""

CHANGES_MAX = 2000
"""More than so many at once are not told one by one: followers look for themselves."""

_ID_CHARS_MAX = 40
Late = Mapping[str, float]
"""Handoffs that changed within the overlap and were told, by when they changed."""


@dataclass(frozen=True, slots=True)
class EventCursor:
    """How far a follower has heard: handoffs by their change, and the ledger by its position."""

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
    """Where a page that is read now begins to follow."""
    return EventCursor(time.time(), ledger.heads(connection, [workspace])[workspace][0])


def start_cursor(connection: Connection, workspace: str) -> tuple[EventCursor, Late]:
    """Where following begins, and what was told already, as it were."""
    now = time.time()
    late = dict(handoff_rows.changes(connection, workspace, now - OVERLAP_SECONDS, CHANGES_MAX))
    return now_of(connection, workspace), late


def events_after_reconnect(
    connection: Connection, workspace: str, heard: EventCursor | None, until: EventCursor
) -> bytes:
    """What a follower that comes again has not heard; where that is too much, that it is."""
    if heard is None:
        return _event("hello", until, {"position": until.position})
    after = heard.changed_at - OVERLAP_SECONDS
    changed = handoff_rows.changes(connection, workspace, after, CHANGES_MAX)
    entries = ledger.tail(connection, workspace, heard.position, CHANGES_MAX)
    if len(changed) + len(entries) >= CHANGES_MAX:
        return _event("reset", until, {})
    chunk, _ = _written(connection, workspace, heard, [name for name, _ in changed], entries)
    return chunk or _event("hello", until, {"position": until.position})


def poll(
    connection: Connection, workspace: str, cursor: EventCursor, late: Late
) -> tuple[bytes, EventCursor, Late]:
    """What happened since the last look, the new cursor, and the changes that were told of late."""
    after = cursor.changed_at - OVERLAP_SECONDS
    changed = handoff_rows.changes(connection, workspace, after, CHANGES_MAX)
    entries = ledger.tail(connection, workspace, cursor.position, CHANGES_MAX)
    if len(changed) >= CHANGES_MAX or len(entries) >= CHANGES_MAX:
        cursor, late = start_cursor(connection, workspace)
        return _event("reset", cursor, {}), cursor, late
    fresh = [name for name, at in changed if late.get(name) != at]
    chunk, cursor = _written(connection, workspace, cursor, fresh, entries)
    return chunk, cursor, dict(changed)


def _written(
    connection: Connection,
    workspace: str,
    cursor: EventCursor,
    changed: Collection[str],
    entries: Sequence[Entry],
) -> tuple[bytes, EventCursor]:
    """Events in order, and how far a follower has heard with the last of them."""
    parts = []
    for row in handoff_rows.some(connection, workspace, changed) if changed else ():
        cursor = EventCursor(max(cursor.changed_at, row.changed_at), cursor.position)
        parts.append(_event("handoff", cursor, timed(queue.queue_json(row))))
    if changed:
        waiting = {one.name: one.waiting for one in queue.teams(connection, workspace)}
        parts.append(_event("queue", cursor, {"waiting": waiting}))
    for entry in entries:
        cursor = EventCursor(cursor.changed_at, entry.position)
        if (told := _of(entry)) is not None:
            parts.append(_event(told[0], cursor, told[1]))
    return b"".join(parts), cursor


_KEPT = {
    "outcome": ("outcome_id", "conversation_id", "handoff_id", "verdict", "source", "replaces"),
    "retraction": ("outcome_id", "conversation_id", "replaces"),
    "switch": ("version", "kind", "reason"),
}


def _of(entry: Entry) -> tuple[str, dict[str, Any]] | None:
    """A ledger entry as an event; None for those that nobody is told of."""
    if entry.kind not in _KEPT:
        return None
    found = {name: entry.body[name] for name in _KEPT[entry.kind] if name in entry.body}
    if entry.kind == "retraction":
        found["verdict"] = None
    found |= {"position": entry.position, "actor": entry.actor, "at": moment(entry.at)}
    return ("switch" if entry.kind == "switch" else "outcome"), found


def _event(kind: str, cursor: EventCursor, facts: dict[str, Any]) -> bytes:
    """One event as server-sent events are written."""
    return f"id: {cursor}\nevent: {kind}\ndata: {json.dumps(facts)}\n\n".encode()
