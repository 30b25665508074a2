"""Model provenance: the switch in force at a ledger position, and the history of switches and of
refused alias moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from learning.ledger.model_state import Entry
from service.store.ledger import entries, mlflow_rows

MOVES_MAX = 100
"""Newest moves in the history."""

UNDO = "undo"
"""The kind of a switch that only forgets an outcome: no promotion, and nobody's predecessor."""


def without_undos(switches: Sequence[Entry]) -> list[Entry]:
    """The switches that changed what serves."""
    return [switch for switch in switches if switch.body["kind"] != UNDO]


def undone_positions(switches: Sequence[Entry]) -> frozenset[int]:
    """The outcomes that undos have left out: every line beside the champion leaves them out."""
    undos = (switch for switch in switches if switch.body["kind"] == UNDO)
    return frozenset(position for undo in undos for position in undo.body["evidence"]["undone"])


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

    `what` is promotion, rollback, undo (of some that follow each other the last), or refused: a
    move of an alias in MLflow that was put back.
    """
    switches = entries.switches(connection, workspace)
    following = [*switches[1:], None]
    last = [
        switch
        for switch, after in zip(switches, following, strict=True)
        if after is None or {switch.body["kind"], after.body["kind"]} != {UNDO}
    ]
    rows = [
        {
            "at": entry.at,
            "what": entry.body["kind"],
            "version": entry.body["version"],
            "actor": entry.actor,
            "reason": entry.body["reason"],
            "switch": entry.position,
        }
        for entry in last[-MOVES_MAX:]
    ]
    for alias in mlflow_rows.aliases(connection, workspace):
        put_back = {"what": "refused", "switch": None, "alias": alias.name}
        rows.extend(put_back | refusal for refusal in alias.refused)
    return sorted(rows, key=lambda move: float(move["at"]), reverse=True)[:MOVES_MAX]
