"""Replies of agents to the customer: a turn of the conversation, and the event that carries it to
whoever speaks to the customer, in one transaction.

Where the policy redacts, the turn is redacted like any other; what is said to the customer is what
was written, which is kept encrypted as long as the event.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from learning.conversation.redaction import is_same_text
from learning.conversation.state import Message
from service.handoffs import claims
from service.handoffs.status import require_handoff
from service.runtime.errors import Contradiction
from service.runtime.ids import new_id
from service.store.conversations.batch import Batch, OpenConversation
from service.store.ledger import connection_rows, outbox_rows


def reply(
    batch: Batch,
    workspace: str,
    name: str,
    agent: str,
    turn: Message,
    seconds: float,
) -> dict[str, Any]:
    """Append an agent's reply, which claims the handoff or renews the claim; idempotent by its id,
    which it is given where it has none.

    Raises Contradiction when the handoff is over or another's, or the id has another text.
    """
    row = require_handoff(batch, workspace, name)
    message_id = turn.id or new_id("m")
    batch.open(workspace, {row["conversation_id"]: [message_id]})
    conversation = batch.conversation(workspace, row["conversation_id"])
    stored = conversation.messages.get(message_id)
    if stored is not None:
        if stored.author != "agent" or not is_same_text(stored.text, turn.text):
            raise Contradiction(
                "message_differs",
                f"message {message_id!r} is already recorded with another author or text",
                field="id",
                hint="a corrected text is a new message with a new id",
            )
        return _reply_json(row, message_id, stored.seq, agent)
    batch.require_room(conversation, 1)
    claims.claim(batch, workspace, name, agent, seconds)
    turn = replace(turn, id=message_id, at=batch.now, agent=agent)
    seq = batch.append(conversation, turn)
    announce(batch, conversation, message_id, agent, deliver=True)
    return _reply_json(row, message_id, seq, agent)


def _reply_json(row: dict[str, Any], message_id: str, seq: int, agent: str) -> dict[str, Any]:
    return {
        "handoff_id": row["id"],
        "conversation_id": row["conversation_id"],
        "message_id": message_id,
        "seq": seq,
        "agent": agent,
    }


def announce(
    batch: Batch,
    conversation: OpenConversation,
    message_id: str,
    agent: str | None,
    *,
    deliver: bool,
) -> None:
    """Tell of an agent's turn; `deliver`: nobody has said it to the customer yet. Where the
    conversation came by a connection, that one says it, and nobody else.
    """
    speaker = None
    if deliver:
        row = connection_rows.link(batch.connection, conversation.workspace, conversation.id)
        speaker = None if row is None else row.connection_id
    data = {
        "handoff_id": conversation.handoff_id,
        "message_id": message_id,
        "agent": agent,
        "deliver": deliver and speaker is None,
    } | ({} if speaker is None else {"connection_id": speaker})
    outbox_rows.add(
        batch.connection,
        conversation.workspace,
        "message.agent",
        data,
        conversation=conversation.id,
        seq=conversation.messages[message_id].seq,
    )
