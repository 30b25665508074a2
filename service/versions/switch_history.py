"""Model provenance: the switch in force at a ledger position, and the history of switches and of
refused alias moves.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from learning.ledger.model_state import Entry
from service.store.ledger import entries, mlflow_rows

MOVES_MAX = 100
"""Newest moves in the history."""


def switch_at(connection: Connection, workspace: str, position: int) -> dict[str, Any] | None:
    """The switch in force at a ledger position, as JSON; None before the first."""
    switches = entries.switches(connection, workspace, position)
    return switch_json(switches[-1]) if switches else None


def switch_json(entry: Entry) -> dict[str, Any]:
    """A switch as JSON: version, kind, reason, actor, evidence, time."""
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


def moves(connection: Connection, workspace: str) -> list[dict[str, Any]]:
    """History of what serves, the newest first: time, kind, version, actor, reason.

    `what` is promotion, rollback, or refused: a move of an alias in MLflow that was put back.
    """
    rows = [
        {
            "at": entry.at,
            "what": entry.body["kind"],
            "version": entry.body["version"],
            "actor": entry.actor,
            "reason": entry.body["reason"],
            "switch": entry.position,
        }
        for entry in entries.switches(connection, workspace)[-MOVES_MAX:]
    ]
    for alias in mlflow_rows.aliases(connection, workspace):
        put_back = {"what": "refused", "switch": None, "alias": alias.name}
        rows.extend(put_back | refusal for refusal in alias.refused)
    return sorted(rows, key=lambda move: float(move["at"]), reverse=True)[:MOVES_MAX]
