"""Erasure of a conversation (right to be forgotten): its text goes at once.

A model state learns outcomes from their text, so the serving line is checkpointed past the
conversation's outcomes first: every process starts behind them. A rebuild from an older version
excludes those outcomes, as if they had been corrected; the lessons leave the serving model itself
with the next exact rebuild, which `jobs` schedules for corrections and erasures alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from learning.ledger.model_state import TextRemovedError
from service.runtime.errors import DOCTOR_HINT, Contradiction, NotFound
from service.store.conversations import conversation_rows, person_rows, removal
from service.store.database.transactions import Store
from service.store.ledger import entries, mlflow_rows
from service.versions import switches
from service.versions.restore import BrokenEntryError, NoModelError, restore

ATTEMPTS_MAX = 5
"""Attempts to checkpoint the line, each repeated because an outcome came in between."""

_log = structlog.get_logger("baton.erasure")


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """Ledger position of an erasure, and the positions of the outcomes it made void."""

    position: int
    outcomes: tuple[int, ...]


def erase(
    store: Store, workspace: str, conversation: str, *, actor: str, person: str | None = None
) -> ErasureResult:
    """Erase a conversation's text, decisions and notes; idempotent. NotFound, Contradiction.

    Its id, its verdict and that it was there stay: they are in the ledger, with the fingerprint of
    the `person` it was erased for. MLflow's figures that name it are replaced by `jobs`.
    """
    for _ in range(ATTEMPTS_MAX):
        checkpoint = checkpoint_past(
            store, workspace, partial(removal.outcome_positions, conversation=conversation)
        )
        result = _erase(store, workspace, conversation, checkpoint, actor, person)
        if result is not None:
            store.truncate_log()
            _log.warning("erased", workspace=workspace, outcomes=len(result.outcomes), actor=actor)
            return result
    raise Contradiction(
        "busy_conversation",
        f"outcomes of conversation {conversation!r} keep coming",
        hint="try again when nobody works on it",
    )


def checkpoint_past(
    store: Store, workspace: str, find_positions: Callable[[Connection, str], Sequence[int]]
) -> tuple[int, int]:
    """Checkpoint the serving line past these outcomes, if need be; gives its switch, position."""
    with store.read() as connection:
        positions = find_positions(connection, workspace)
        switch = entries.switches(connection, workspace)[-1]
        line = removal.newest_checkpoint_position(connection, workspace, switch.position)
    if not positions or (line is not None and line >= positions[-1]):
        return switch.position, line or 0
    try:
        model_state = restore(store, workspace)
    except (BrokenEntryError, NoModelError, TextRemovedError) as error:
        # Nobody can start here, erased or not: whoever mends it starts past this head.
        _log.error("line_not_saved", workspace=workspace, why=str(error), mend=DOCTOR_HINT)
        return switch.position, positions[-1]
    serialized = switches.SerializedState.of(model_state)
    with store.write() as connection:
        switches.save_version(
            connection, workspace, serialized, line=model_state.switch, reason="before an erasure"
        )
    return model_state.switch, model_state.position


def _erase(
    store: Store,
    workspace: str,
    conversation: str,
    checkpoint: tuple[int, int],
    actor: str,
    person: str | None,
) -> ErasureResult | None:
    with store.write() as connection:
        row = conversation_rows.lock(connection, workspace, [conversation]).get(conversation)
        if row is None:
            raise NotFound(
                "unknown_conversation",
                f"there is no conversation {conversation!r} in {workspace!r}",
                field="conversation",
            )
        if row.handoff_id is not None:
            raise Contradiction(
                "handoff_open",
                f"a person is at conversation {conversation!r}",
                hint="resolve or return its handoff first",
            )
        entries.lock_head(connection, workspace)
        positions = removal.outcome_positions(connection, workspace, conversation)
        previous = removal.erasure_position(connection, workspace, conversation)
        if previous is not None:
            return ErasureResult(previous, tuple(positions))
        line = entries.switches(connection, workspace)[-1].position
        if positions and (line, positions[-1]) > checkpoint:
            return None
        removal.close_audit(connection, workspace, conversation, time.time())
        removal.remove_text(connection, workspace, [conversation])
        person_rows.forget_answers(connection, workspace, [conversation])
        mlflow_rows.remove_mistakes(connection, workspace, conversation)
        body: dict[str, Any] = {"conversation_id": conversation, "replaces_all": positions}
        if person is not None:
            body["person"] = person
        position = entries.append(connection, workspace, "erasure", body, actor)
        return ErasureResult(position, tuple(positions))
