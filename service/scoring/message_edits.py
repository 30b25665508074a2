"""Versions of an edited message: each is a message of its own at the end of the conversation."""

from __future__ import annotations

from dataclasses import replace

from learning.conversation.state import Message
from service.runtime.errors import Contradiction
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation, StoredMessage
from service.store.conversations.message_versions import require_versions


def as_version(batch: Batch, conversation: OpenConversation, message: Message) -> Message:
    """An edited message under the id of its version: the newest, where that says the same and was
    decided, or a new one.

    Raises NotFound for a message that is not there, Contradiction for one that is not the
    customer's, or was removed.
    """
    batch.flush()
    name = str(message.edits)
    versions = require_versions(batch.connection, conversation.workspace, conversation.id, name)
    newest = versions[-1]
    if newest.removed is not None:
        raise Contradiction(
            "message_removed",
            f"message {name!r} was removed",
            hint="what the customer writes now is a new message with an id of its own",
        )
    message = replace(message, language=message.language or newest.language)
    said = (message.text, message.attachments)
    before = conversation_rows.message_of(newest)
    if said == (before.text, before.attachments) and _is_decided(batch, conversation, newest.seq):
        conversation.messages[newest.id] = StoredMessage(
            newest.seq, newest.author, newest.text, newest.scored
        )
        return replace(message, id=newest.id)
    return replace(message, id=_free_id(batch, conversation, name, len(versions) + 1))


def _is_decided(batch: Batch, conversation: OpenConversation, seq: int) -> bool:
    row = conversation_rows.decision_at(
        batch.connection, conversation.workspace, conversation.id, seq
    )
    return row is not None


def _free_id(batch: Batch, conversation: OpenConversation, name: str, number: int) -> str:
    """An id that the conversation does not have: `m-3#2` for the second version of `m-3`."""
    while conversation_rows.versions(
        batch.connection, conversation.workspace, conversation.id, f"{name}#{number}"
    ):
        number += 1
    return f"{name}#{number}"
