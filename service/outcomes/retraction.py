"""Retraction of an outcome, with exact unlearning where it is young enough."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from learning.ledger.lessons import WEAK_SOURCES
from learning.ledger.model_state import Entry
from service.outcomes import record_outcome
from service.store.conversations.batch import Batch
from service.store.ledger import entries
from service.versions.undo import Effect, plan_undo


def retract_and_unlearn(batch: Batch, workspace: str, name: str, agent: str) -> dict[str, Any]:
    """Retract an outcome, idempotently, and let the serving model forget it; `effect` says whether
    it is gone, or leaves at the next rebuild. NotFound.
    """
    connection = batch.connection
    row = record_outcome.require_outcome(batch, workspace, name)
    if row["retracted_at"] is not None:
        return record_outcome.outcome_json(row) | {"effect": effect_of(connection, workspace, row)}
    entries.lock_head(connection, workspace)
    taught = _what_it_taught(connection, workspace, row["position"])
    reason = f"outcome {name} was taken back"
    undo = plan_undo(connection, workspace, taught, agent, reason)
    outcome = record_outcome.retract(batch, workspace, name, agent, undo.effect)
    undo.apply(connection, workspace)
    return outcome | {"effect": undo.effect}


def effect_of(connection: Connection, workspace: str, row: dict[str, Any]) -> Effect | None:
    """What a retraction came to; None for an outcome that stands."""
    if row["retracted_at"] is None:
        return None
    entry = entries.entry(connection, workspace, row["position"])
    effect: Effect = "at_rebuild" if entry is None else entry.body.get("effect", "at_rebuild")
    return effect


def _what_it_taught(connection: Connection, workspace: str, position: int) -> list[Entry]:
    """The entries of an outcome and of those that it corrected, but for Baton's own weak labels,
    which somebody's word replaced.
    """
    taught: list[Entry] = []
    while position:
        entry = entries.entry(connection, workspace, position)
        if entry is None:
            break
        if not taught or entry.body.get("source") not in WEAK_SOURCES:
            taught.append(entry)
        position = entry.body.get("replaces") or 0
    return taught
