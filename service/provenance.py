"""Which version served at a position, and how it came to: the story of its switch."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from learning.ledger import Entry
from service.store import ledger


def of(connection: Connection, workspace: str, position: int) -> dict[str, Any] | None:
    """The switch in force at a ledger position, as the API shows it."""
    found = ledger.switches(connection, workspace, position)
    return shown(found[-1]) if found else None


def shown(entry: Entry) -> dict[str, Any]:
    """A switch: what serves since, who or what decided, why, and on what evidence."""
    body = entry.body
    return {
        "switch": entry.position,
        "version": body["version"],
        "kind": body["kind"],
        "reason": body["reason"],
        "actor": entry.actor,
        "learn_from": body["learn_from"],
        "without": body["without"],
        "evidence": body["evidence"],
        "at": entry.at,
    }
