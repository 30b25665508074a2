"""Missed escalations detected from reopenings: customers who come back after the end (implicit
labels).

A conversation that the bot kept and closed was missed if its customer comes back within the waiting
time (the policy's `silence.after_seconds`) unsettled (`learning.conversation.reopening`). It is
judged once, when it has ended again, went to a person, or the waiting time is over, and becomes an
outcome about the messages until its end; what follows is judged for itself. A person's verdict is
never overruled: see `service.outcomes.record_outcome.record_reopening`.
"""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import Connection

from learning.conversation.reopening import ReopeningReason, reopening_reason
from learning.conversation.state import fold, step
from learning.decision.policy import Policy
from service.outcomes import record_outcome
from service.store.conversations import conversation_rows, reopening_rows
from service.store.conversations.batch import Batch, StateCache
from service.store.database.transactions import Store
from service.store.ledger import entries

REOPENINGS_PER_PASS = 200
MESSAGES_MAX = 10
"""Most messages of a customer who came back that are judged."""

_log = structlog.get_logger("baton.returns")


def detect_missed(store: Store, workspace: str, now: float) -> int:
    """One pass over a workspace, each reopening in a transaction of its own; gives the number of
    misses detected.
    """
    with store.read() as connection:
        policy = Policy.from_ledger(entries.newest_policy(connection, workspace))
        waiting_seconds = policy.silence.after_seconds
        rows = reopening_rows.due(connection, workspace, now - waiting_seconds, REOPENINGS_PER_PASS)
    missed = 0
    for row in rows:
        with store.write() as connection:
            missed += _judge_reopening(connection, row, waiting_seconds)
    if missed:
        _log.info("misses_caught", workspace=workspace, conversations=missed)
    return missed


def _judge_reopening(connection: Connection, row: Any, waiting_seconds: float) -> bool:
    """Judge one reopening, under its conversation's lock; whether it was a miss."""
    conversation_rows.lock(connection, row.workspace, [row.conversation_id])
    why = _unsettled_reason(connection, row, waiting_seconds)
    if not reopening_rows.set_status(connection, row, "missed" if why else "passed") or why is None:
        return False
    batch = Batch(connection, StateCache())
    record_outcome.record_reopening(batch, row.workspace, row.conversation_id, why, row.length)
    batch.flush()
    return True


def _unsettled_reason(
    connection: Connection, row: Any, waiting_seconds: float
) -> ReopeningReason | None:
    """Why the customer was unsettled, by their messages from the end up to the next end, within the
    waiting time; None if they were not.

    None, too, where Baton had decided to escalate before the end, as it may in shadow mode.
    """
    if not row.length:  # it was closed before it had a message, by a build that let it
        return None
    decisions = reopening_rows.decisions(connection, row.workspace, row.conversation_id)
    if any(decision.action == "escalate" for decision in decisions if decision.seq <= row.length):
        return None
    in_time = {
        decision.seq for decision in decisions if decision.at <= row.closed_at + waiting_seconds
    }
    turns = conversation_rows.messages(
        connection, row.workspace, row.conversation_id, until=row.until
    )
    state = state_at_end = fold(conversation_rows.message_of(turn) for turn in turns[: row.length])
    checked = 0
    for turn in turns[row.length :]:
        state = step(state, conversation_rows.message_of(turn))
        if turn.author != "user" or turn.seq not in in_time:
            continue
        why = reopening_reason(state_at_end, state, resolved=row.resolution == "resolved")
        checked += 1
        if why is not None or checked == MESSAGES_MAX:
            return why
    return None
