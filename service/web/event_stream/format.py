"""Format of the event stream: each kind of event and its fields, as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from learning.ledger.model_state import Entry
from service.handoffs.queue import TeamQueue, queue_json
from service.runtime.sealing import Sealer
from service.store.ledger import outbox_rows
from service.web.schemas import moment, timed

ENTRY_FIELDS = {
    "outcome": ("outcome_id", "conversation_id", "handoff_id", "verdict", "source", "replaces"),
    "retraction": ("outcome_id", "conversation_id", "replaces"),
    "switch": ("version", "kind", "reason"),
}
"""What an event tells of a ledger entry of each kind; other kinds are not sent."""


def hello(cursor: object, position: int | None = None) -> bytes:
    """The first event of a subscriber; for pages the ledger's position."""
    return _event("hello", cursor, {} if position is None else {"position": position})


def reset(cursor: object) -> bytes:
    """Too much happened to send: subscribers look anew."""
    return _event("reset", cursor, {})


def handoff_event(cursor: object, kind: str, row: Any) -> bytes:
    """A handoff as it is now; `kind` is `handoff` or `handoff.raised`."""
    return _event(kind, cursor, timed(queue_json(row)))


def queue_event(cursor: object, teams: Iterable[TeamQueue]) -> bytes:
    """How many handoffs wait for each team."""
    return _event("queue", cursor, {"waiting": {team.name: team.waiting for team in teams}})


def entry_event(cursor: object, entry: Entry) -> bytes:
    """A ledger entry as `outcome` or `switch`; nothing for kinds that are not sent."""
    if entry.kind not in ENTRY_FIELDS:
        return b""
    facts = {name: entry.body[name] for name in ENTRY_FIELDS[entry.kind] if name in entry.body}
    if entry.kind == "retraction":
        facts["verdict"] = None
    facts |= {"position": entry.position, "actor": entry.actor, "at": moment(entry.at)}
    return _event("switch" if entry.kind == "switch" else "outcome", cursor, facts)


def outbox_event(cursor: object, row: Any, sealer: Sealer | None) -> bytes:
    """An event of the outbox, with the text of its message."""
    return _event(row.type, cursor, outbox_rows.event_data(row, sealer, with_text=True))


def presence_event(places: Mapping[str, Sequence[str]]) -> bytes:
    """Who is in the console, by place; for consoles. It is no event to be heard again later."""
    return f"event: presence\ndata: {json.dumps(places)}\n\n".encode()


def _event(kind: str, cursor: object, facts: Mapping[str, Any]) -> bytes:
    return f"id: {cursor}\nevent: {kind}\ndata: {json.dumps(facts)}\n\n".encode()
