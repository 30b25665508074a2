"""What events suggest of whether a person was needed: noted, and stated by nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.outcomes.inferred_labels import infer
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation
from service.store.handoffs import handoff_rows

LOW, HIGH = (1, 2), (4, 5)


def given_back(batch: Batch, conversation: OpenConversation, handoff: Mapping[str, Any]) -> None:
    """A handoff is given back: if no person has said a word, none was needed."""
    turns = _messages(batch, conversation)
    if any(turn.author == "agent" for turn in turns[handoff["seq"] :]):
        return
    name = _scored_id(turns[: handoff["seq"]])
    if name is not None and handoff["opened_by"] != "person":
        infer(batch, conversation, "returned", name, handoff["id"])


def customer_wrote(batch: Batch, conversation: OpenConversation) -> None:
    """The customer answers a person who stepped in: one was needed before."""
    if conversation.handoff_id is None:
        return
    row = handoff_rows.handoff(batch.connection, conversation.workspace, conversation.handoff_id)
    if row is None or row.opened_by != "person":
        return
    turns = _messages(batch, conversation)
    name = _scored_id(turns[: row.seq])
    if name is not None and any(turn.author == "agent" for turn in turns[row.seq :]):
        infer(batch, conversation, "stepped_in", name, row.id)


def rated(batch: Batch, conversation: OpenConversation, rating: int, about: str) -> None:
    """The customer rated a kept conversation; of one that a person had it rates their service."""
    if conversation.escalated or about == "person" or not conversation.length:
        return
    name = _scored_id(_messages(batch, conversation))
    kind = "rated_low" if rating in LOW else "rated_high" if rating in HIGH else None
    if name is not None and kind is not None:
        infer(batch, conversation, kind, name)


def _messages(batch: Batch, conversation: OpenConversation) -> Sequence[Any]:
    batch.flush()
    return conversation_rows.messages(batch.connection, conversation.workspace, conversation.id)


def _scored_id(turns: Sequence[Any]) -> str | None:
    """The customer's newest message that was scored."""
    found = [turn.id for turn in turns if turn.author == "user" and turn.scored]
    return str(found[-1]) if found else None
