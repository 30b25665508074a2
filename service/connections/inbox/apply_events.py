"""Domain events through the engine: each does within a batch what the API would do for it.

What cannot be done leaves the rest of its entry standing: it is noted, and nobody is told 409.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from learning.conversation.state import Message
from service.connections.inbox import spoken_words, stated_verdicts, suggestions
from service.connections.kinds.contract import (
    AgentJoined,
    AgentLeft,
    ConversationEnded,
    ConversationRated,
    DeliveryEchoed,
    DomainEvent,
    MessageAdded,
    MessageEdited,
    MessageRemoved,
    VerdictGiven,
)
from service.connections.known_connections import KnownConnection
from service.handoffs import lifecycle, takeover
from service.privacy.message_removal import Removal
from service.runtime.errors import RequestRefused, Unavailable
from service.scoring.decide import ScoreCommand, new_turns, with_timestamp
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation, StoredMessage
from service.store.handoffs import handoff_rows
from service.store.ledger import call_rows, outbox_rows
from service.store.ledger.outbox_rows import WORDS

ECHO_SECONDS = 60.0
"""A change of status is our own where a call of ours asked for it so shortly before."""

_OPENING, _GIVING_BACK = ("handoff.opened", "handoff.raised"), ("handoff.returned",)


class OutcomesCameError(Exception):
    """Outcomes about a removed message came in between: begin again."""


@dataclass(frozen=True, slots=True)
class EntryContext:
    """What the events of one entry are applied to."""

    batch: Batch
    known: KnownConnection
    conversation: OpenConversation
    entry_id: str
    occurred_at: float
    standing: takeover.Standing
    decide: Callable[[Batch, ScoreCommand], Any]
    prepared: Mapping[str, Message]
    saved: Mapping[str, tuple[int, int]]

    @property
    def workspace(self) -> str:
        return self.known.workspace


def apply(context: EntryContext, event: DomainEvent) -> str | None:
    """Apply an event; gives what refused it. Raises Unavailable, OutcomesCameError."""
    try:
        _APPLY[type(event)](context, event)
    except Unavailable:
        raise
    except RequestRefused as refusal:
        return f"{refusal.code}: {refusal.message}"[:500]
    return None


def to_message(event: MessageAdded, edits: str | None = None) -> Message:
    """A domain event's turn."""
    return Message(
        event.id,
        event.author,
        event.text,
        event.at or 0.0,
        language=event.language,
        format=event.format,
        agent=event.agent,
        attachments=event.attachments,
        bot=event.bot,
        edits=edits,
    )


def _message_added(context: EntryContext, event: MessageAdded) -> None:
    message = context.prepared[event.id]
    if event.author == "user":
        suggestions.customer_wrote(context.batch, context.conversation)
        _decide(context, message)
        return
    if not _is_own_word(context, message):
        _append(context, message)


def _is_own_word(context: EntryContext, message: Message) -> bool:
    """Whether it is Baton's own words that come back without our mark; they are heard of now."""
    if not context.known.config.says_words:
        return False
    connection, since = context.batch.connection, context.occurred_at - ECHO_SECONDS
    row = call_rows.without_echo(
        connection, context.known.id, context.conversation.id, (WORDS,), None, since
    )
    if row is None:
        return False
    event = outbox_rows.by_id(connection, context.workspace, row.event_id)
    if event is None or event.text != message.text:
        return False
    call_rows.change(connection, row.id, echoed_at=context.batch.now)
    return True


def _decide(context: EntryContext, message: Message) -> None:
    """Decide about a customer's message; where the connection speaks, its answer to an offer is
    read before, and Baton's words are said after.
    """
    batch, conversation, standing = context.batch, context.conversation, context.standing
    speaks = context.known.config.says_words and standing.live
    if speaks and message.edits is None:
        spoken_words.answer_offer(batch, conversation, message.text, standing.policy, live=True)
    decision = context.decide(batch, ScoreCommand(context.workspace, conversation.id, message))
    if speaks:
        spoken_words.say(batch, conversation, decision, context.known.id)


def _append(context: EntryContext, message: Message) -> None:
    """Append a turn that is not scored; an agent's takes the conversation over."""
    batch, conversation = context.batch, context.conversation
    fresh = new_turns(conversation, [message])
    batch.require_room(conversation, len(fresh))
    turns = [with_timestamp(turn, batch.now) for turn in fresh]
    for turn in turns:
        batch.append(conversation, turn)
    takeover.take_over(batch, conversation, turns, context.standing)


def _message_edited(context: EntryContext, event: MessageEdited) -> None:
    name, batch = event.message.id, context.batch
    batch.flush()
    workspace, conversation = context.workspace, context.conversation
    rows = conversation_rows.versions(batch.connection, workspace, conversation.id, name)
    message = context.prepared[name]
    if rows:
        newest = rows[-1]
        conversation.messages[newest.id] = StoredMessage(
            newest.seq, newest.author, newest.text, newest.scored, newest.removed is not None
        )
        if (newest.author, newest.text) == (message.author, message.text):
            return
    else:
        message = replace(message, edits=None)
    _decide(context, message)


def _message_removed(context: EntryContext, event: MessageRemoved) -> None:
    saved = context.saved.get(event.id, (0, 0))
    removal = removal_of(context.known, context.conversation.id, event)
    if removal.remove(context.batch, saved) is None:
        raise OutcomesCameError


def removal_of(known: KnownConnection, conversation: str, event: MessageRemoved) -> Removal:
    return Removal(known.workspace, conversation, event.id, known.name)


def _agent_joined(context: EntryContext, event: AgentJoined) -> None:
    conversation = context.conversation
    if event.how == "opened" and _is_echo(context, _OPENING):
        return
    if not conversation.length:
        return
    if event.how == "assigned":
        text = f"Assigned to {event.agent}." if event.agent else "Assigned to a person."
        name = f"assigned:{context.entry_id}"
        turn = Message(name, "system", text, 0.0, event="assigned", agent=event.agent)
        _append(context, turn)
    elif conversation.handoff_id is None and context.standing.live:
        request = takeover.HandoffRequest("bot", "other")
        takeover.hand_over(context.batch, conversation, request, context.standing)


def _agent_left(context: EntryContext, event: AgentLeft) -> None:
    if event.to != "bot" or _is_echo(context, _GIVING_BACK):
        return
    row = _open_handoff(context)
    if row is not None:
        suggestions.given_back(context.batch, context.conversation, row)
        lifecycle.close(context.batch, row, "returned", context.known.id)


def _conversation_ended(context: EntryContext, event: ConversationEnded) -> None:
    conversation = context.conversation
    if not conversation.length:
        return
    row = _open_handoff(context)
    if row is not None and row["status"] == "claimed":
        lifecycle.close(context.batch, row, "resolved", context.known.id)
    settled = event.by in ("agent", "bot")
    lifecycle.close_conversation(context.batch, conversation, "resolved" if settled else "unknown")


def _open_handoff(context: EntryContext) -> dict[str, Any] | None:
    name = context.conversation.handoff_id
    if name is None:
        return None
    row = handoff_rows.handoff(context.batch.connection, context.workspace, name)
    return None if row is None else dict(row._asdict())


def _conversation_rated(context: EntryContext, event: ConversationRated) -> None:
    suggestions.rated(context.batch, context.conversation, event.rating, event.about)


def _verdict_given(context: EntryContext, event: VerdictGiven) -> None:
    context.batch.flush()
    stated_verdicts.record(context.batch, context.known, context.conversation, event)


def _delivery_echoed(context: EntryContext, event: DeliveryEchoed) -> None:
    connection, now = context.batch.connection, context.batch.now
    row = call_rows.delivery(connection, context.workspace, event.delivery)
    if row is None or row.connection_id != context.known.id:
        return
    changes: dict[str, Any] = {"echoed_at": now}
    if row.status != "done":
        changes |= {"status": "done", "done_at": now, "error": None}
    call_rows.change(connection, row.id, **changes)


def _is_echo(context: EntryContext, types: tuple[str, ...]) -> bool:
    """Whether a change of status is what a call of ours asked for; then it is heard of now."""
    connection, since = context.batch.connection, context.occurred_at - ECHO_SECONDS
    row = call_rows.without_echo(
        connection, context.known.id, context.conversation.id, types, "status", since
    )
    if row is None:
        return False
    call_rows.change(connection, row.id, echoed_at=context.batch.now)
    return True


_APPLY: Mapping[type[Any], Callable[[EntryContext, Any], None]] = {
    MessageAdded: _message_added,
    MessageEdited: _message_edited,
    MessageRemoved: _message_removed,
    AgentJoined: _agent_joined,
    AgentLeft: _agent_left,
    ConversationEnded: _conversation_ended,
    ConversationRated: _conversation_rated,
    VerdictGiven: _verdict_given,
    DeliveryEchoed: _delivery_echoed,
}
