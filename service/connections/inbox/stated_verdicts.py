"""Verdicts that people state in another system: recorded as if they were given here.

A later one is a correction of the earlier.
"""

from __future__ import annotations

from service.connections.kinds.contract import VerdictGiven
from service.connections.known_connections import KnownConnection
from service.outcomes import record_outcome
from service.outcomes.verdict import OWN_SOURCES, Verdict
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation
from service.store.handoffs import handoff_rows
from service.store.labels import outcome_rows

_OF_KEPT = {"needed": "missed", "not_needed": "fine"}


def record(
    batch: Batch, known: KnownConnection, conversation: OpenConversation, event: VerdictGiven
) -> None:
    """Record a verdict on the newest handoff, or on a conversation that was kept; nothing where
    nothing was said yet.
    """
    if not conversation.length:
        return
    workspace, connection = known.workspace, batch.connection
    handoffs = handoff_rows.of_conversation(connection, workspace, conversation.id)
    handoff = handoffs[-1] if handoffs else None
    last = conversation.length if handoff is None else handoff.seq
    verdict = Verdict(
        event.verdict if handoff is not None else _OF_KEPT.get(event.verdict, event.verdict),
        "agent",
        event.agent or known.name,
        _message_id(batch, conversation, event.since, last),
        reason=f"{known.kind.name} {event.how}",
    )
    current = outcome_rows.current(
        connection, workspace, conversation.id, None if handoff is None else handoff.id
    )
    if current is not None and current.source not in OWN_SOURCES:
        said = (current.verdict, current.first_needed_message_id)
        if said != (verdict.verdict, verdict.first_needed_message_id):
            record_outcome.correct(batch, workspace, current.id, verdict)
    elif handoff is not None:
        record_outcome.record_for_handoff(batch, workspace, handoff.id, verdict)
    else:
        record_outcome.record_for_conversation(batch, workspace, conversation.id, verdict)


def _message_id(
    batch: Batch, conversation: OpenConversation, place: int | None, last: int
) -> str | None:
    """The message at a place, as the packet numbers them; None where it came too late."""
    if place is None or not 1 <= place <= last:
        return None
    rows = conversation_rows.messages(
        batch.connection, conversation.workspace, conversation.id, after=place - 1, until=place
    )
    return str(rows[0].id) if rows else None
