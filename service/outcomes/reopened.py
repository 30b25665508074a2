"""Misses that Baton catches by itself: customers who come back to a conversation after its end.

A conversation that the bot kept and closed was missed if its customer comes back within the waiting
time (the policy's `silence.after_seconds`) and is not settled (`learning.conversation.reopening`).
It is looked at once, when it has ended again or gone to a person, or when the waiting time is over,
and becomes an outcome about what had been said until the end; what follows is judged for itself.
Nobody's word is overruled by it: see `service.outcomes.record_outcome.record_reopening`.
"""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import Connection

from learning.conversation.reopening import Why, unsettled
from learning.conversation.state import fold, step
from learning.decision.policy import Policy
from service.outcomes import record_outcome
from service.store.conversations import conversation_rows, reopening_rows
from service.store.conversations.batch import Batch, StateCache
from service.store.database.transactions import Store
from service.store.ledger import entries

REOPENINGS_PER_PASS = 200
MESSAGES_MAX = 10
"""So many messages of a customer who came back are looked at."""

_log = structlog.get_logger("baton.returns")


def detect_missed(store: Store, workspace: str, now: float) -> int:
    """One pass over a workspace, each conversation in a transaction of its own; gives how many
    showed a miss.
    """
    with store.read() as connection:
        policy = Policy.model_validate(entries.newest_policy(connection, workspace))
        waiting = policy.silence.after_seconds
        found = reopening_rows.due(connection, workspace, now - waiting, REOPENINGS_PER_PASS)
    caught = 0
    for row in found:
        with store.write() as connection:
            caught += _judge_reopening(connection, row, waiting)
    if caught:
        _log.info("misses_caught", workspace=workspace, conversations=caught)
    return caught


def _judge_reopening(connection: Connection, row: Any, waiting: float) -> bool:
    """Look at one, under its conversation's lock; whether it showed a miss."""
    conversation_rows.lock(connection, row.workspace, [row.conversation_id])
    why = _unsettled_reason(connection, row, waiting)
    if not reopening_rows.set_status(connection, row, "missed" if why else "passed") or why is None:
        return False
    batch = Batch(connection, StateCache())
    record_outcome.record_reopening(batch, row.workspace, row.conversation_id, why, row.length)
    batch.flush()
    return True


def _unsettled_reason(connection: Connection, row: Any, waiting: float) -> Why | None:
    """What the customer's messages since the end show, up to the next end and the waiting time's.

    Nothing where Baton had decided to escalate before the end, as it may in the shadow: then it
    missed nothing.
    """
    decided = reopening_rows.decisions(connection, row.workspace, row.conversation_id)
    if any(one.action == "escalate" for one in decided if one.seq <= row.length):
        return None
    in_time = {one.seq for one in decided if one.at <= row.closed_at + waiting}
    turns = conversation_rows.messages(
        connection, row.workspace, row.conversation_id, until=row.until
    )
    state = ended = fold(conversation_rows.message_of(turn) for turn in turns[: row.length])
    looked = 0
    for turn in turns[row.length :]:
        state = step(state, conversation_rows.message_of(turn))
        if turn.author != "user" or turn.seq not in in_time:
            continue
        why = unsettled(ended, state, resolved=row.resolution == "resolved")
        looked += 1
        if why is not None or looked == MESSAGES_MAX:
            return why
    return None
