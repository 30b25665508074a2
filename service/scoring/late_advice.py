"""Late advice: an event of the fold, that counts from the conversation's next message on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from learning.conversation.state import Message
from service.runtime.errors import Contradiction
from service.store.conversations.batch import Batch


def record(
    batch: Batch, workspace: str, decision: Any, advice: Mapping[str, float]
) -> dict[str, Any]:
    """Append advice about a decision's message, idempotently. Contradiction where the same advisers
    said something else of it.
    """
    said = tuple(sorted(advice.items()))
    name = f"baton:advice:{decision.id}:{','.join(adviser for adviser, _ in said)}"
    text = "Advice came late: " + ", ".join(f"{adviser} {p!r}" for adviser, p in said)
    batch.open(workspace, {decision.conversation_id: [name]})
    conversation = batch.conversation(workspace, decision.conversation_id)
    stored = conversation.messages.get(name)
    if stored is None:
        batch.require_room(conversation, 1)
        message = Message(name, "system", text, batch.now, event="advice", advice=said)
        batch.append(conversation, message)
    elif stored.text != text:
        raise Contradiction(
            "advice_differs",
            f"the same advisers said something else of decision {decision.id!r} before",
            field="advice",
            hint="what they say of a later message goes with that message",
        )
    return {"decision_id": decision.id, "advice": dict(said)}
