"""Unit of work: one transaction's conversations, locked and changed, and the rows it will write.

Conversations are read and locked once, folded forward in memory and written once, however many
requests of the batch concern them. A conversation state is a fold over the stored messages (event
sourcing) and is never stored itself: `StateCache` caches it, and what it lacks is folded again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from learning.conversation.state import EMPTY, Message, State, size_of, step
from service.runtime.errors import Contradiction, Invalid, NotFound
from service.store.conversations import conversation_rows, original_rows
from service.store.database.clock import database_time

TURNS_MAX = 2000
"""Most messages a conversation may have."""

TURNS_RESERVED = 1000
"""And so many more for messages that a protected rule answers."""

SYSTEM_EVENTS: Mapping[str, str] = {
    "handed_over": "Handed over to a person.",
    "returned": "Given back to the bot.",
    "resolved": "Settled by a person.",
    "unanswered": "No person came in time.",
    "abandoned": "Closed before a person came.",
    "declined": "The customer declined a person.",
    "ignored": "The customer did not answer the offer of a person.",
    "removed": "The customer removed a message.",
}
"""What Baton's own system messages say."""

STATES_BYTES_MAX = 128 * 2**20
"""Bytes of the states that are cached; others are folded again when a message comes."""

FOLD_TURNS = 2
"""So many messages that a cached state lacks are folded without asking how long they are."""


class NotFoldedError(Exception):
    """A conversation is too long to be folded within a transaction: fold it before."""

    def __init__(self, workspace: str, conversation: str, chars: int) -> None:
        super().__init__(f"conversation {conversation!r} lacks {chars} characters of its state")
        self.workspace, self.conversation, self.chars = workspace, conversation, chars


class StateCache:
    """LRU cache of the newest folded state by conversation, bounded in bytes."""

    def __init__(self, capacity: int = STATES_BYTES_MAX) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[tuple[str, str], tuple[int, State, int]] = OrderedDict()
        self.size = 0
        """Bytes, about."""

    def get(self, workspace: str, conversation: str) -> tuple[int, State]:
        length, state, _ = self._entries.get((workspace, conversation), (0, EMPTY, 0))
        return length, state

    def forget(self, workspace: str, conversation: str) -> None:
        """Drop a state that was folded from words which are gone since."""
        _, _, size = self._entries.pop((workspace, conversation), (0, EMPTY, 0))
        self.size -= size

    def keep(self, workspace: str, conversation: str, length: int, state: State) -> None:
        key, size = (workspace, conversation), size_of(state)
        before = self._entries.pop(key, None)
        self.size += size - (0 if before is None else before[2])
        self._entries[key] = (length, state, size)
        while self.size > self._capacity and len(self._entries) > 1:
            self.size -= self._entries.popitem(last=False)[1][2]


@dataclass(slots=True)
class OpenConversation:
    """A conversation's row in a batch, with its state and the messages and decisions looked up."""

    workspace: str
    id: str
    length: int
    begins: int
    status: str
    resolution: str | None
    handoff_id: str | None
    escalated: bool
    opened_at: float
    last_at: float
    closed_at: float | None
    language: str | None
    version: int | None
    team: str | None
    fired: str | None
    offer_id: str | None
    tossed: bool
    spoken: str | None
    holdout: float | None
    held_out: bool
    state: State = EMPTY
    unfolded_chars: int = 0
    """Where these are too many for this transaction, `state` is not to be used."""
    messages: dict[str, Any] = field(default_factory=dict)
    decisions: dict[int, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message that the conversation already has."""

    seq: int
    author: str
    text: str
    scored: bool
    removed: bool = False


class Batch:
    """The unit of work of one writing transaction.

    A conversation that lacks more than `fold_chars_max` characters of its state cannot be used in
    it (NotFoldedError); without that bound it is folded, however long that takes.
    """

    def __init__(
        self, connection: Connection, states: StateCache, fold_chars_max: int | None = None
    ) -> None:
        self._fold_chars_max = fold_chars_max
        self.connection = connection
        self.now = database_time(connection, time.time)
        self._states = states
        self._open: dict[tuple[str, str], OpenConversation] = {}
        self._added: set[tuple[str, str]] = set()
        self._changed: set[tuple[str, str]] = set()
        self._messages: list[dict[str, Any]] = []
        self._originals: list[dict[str, Any]] = []
        self._decisions: list[dict[str, Any]] = []

    def open(self, workspace: str, targets: Mapping[str, Iterable[str]]) -> None:
        """Read and lock conversations, added where missing, and look up the named message
        ids in them.
        """
        ids = [name for name in targets if (workspace, name) not in self._open]
        if ids:
            rows = conversation_rows.lock(self.connection, workspace, ids)
            missing = [name for name in ids if name not in rows]
            if missing:
                self._add(workspace, missing)
                rows |= conversation_rows.lock(self.connection, workspace, missing)
            for name, row in rows.items():
                self._open[workspace, name] = OpenConversation(**row._asdict())
        message_ids = {message for messages in targets.values() for message in messages}
        nonempty = [name for name in targets if self._open[workspace, name].length]
        if nonempty and message_ids:
            for row in conversation_rows.stored_messages(
                self.connection, workspace, nonempty, message_ids
            ):
                conversation = self._open[workspace, row.conversation_id]
                conversation.messages[row.id] = StoredMessage(
                    row.seq, row.author, row.text, row.scored, row.removed is not None
                )
        for name in ids:
            self._fold(self._open[workspace, name])

    def _add(self, workspace: str, names: list[str]) -> None:
        row = {"workspace": workspace, "length": 0, "begins": 1, "status": "open"}
        row |= {"resolution": None, "handoff_id": None, "escalated": False, "closed_at": None}
        row |= {"opened_at": self.now, "last_at": self.now}
        row |= {"language": None, "version": None, "team": None, "fired": None, "offer_id": None}
        row |= {"tossed": False, "spoken": None, "holdout": None, "held_out": False}
        conversation_rows.add(self.connection, [row | {"id": name} for name in sorted(names)])
        self._added.update((workspace, name) for name in names)

    def _fold(self, conversation: OpenConversation) -> None:
        length, state = self._states.get(conversation.workspace, conversation.id)
        if length > conversation.length:
            length, state = 0, EMPTY
        if 0 < length < conversation.length and conversation_rows.count_removals(
            self.connection, conversation.workspace, conversation.id, length
        ):
            self._states.forget(conversation.workspace, conversation.id)
            length, state = 0, EMPTY
        if self._fold_chars_max is not None and conversation.length - length > FOLD_TURNS:
            chars = conversation_rows.text_chars(
                self.connection, conversation.workspace, conversation.id, length
            )
            if chars > self._fold_chars_max:
                conversation.unfolded_chars = chars
                return
        if length < conversation.length:
            rows = conversation_rows.messages(
                self.connection,
                conversation.workspace,
                conversation.id,
                after=length,
                until=conversation.length,
            )
            for row in rows:
                state = step(state, conversation_rows.message_of(row))
        conversation.state = state

    def remove_words(
        self, conversation: OpenConversation, message: str, seqs: Sequence[int], position: int
    ) -> None:
        """Remove a message's words at these places, and what is known of them here."""
        self.append_system_event(conversation, "removed", message)
        self.flush()
        conversation_rows.remove_words(
            self.connection, conversation.workspace, conversation.id, seqs, position
        )
        original_rows.remove(self.connection, conversation.workspace, [conversation.id], seqs)
        for name, stored in list(conversation.messages.items()):
            if stored.seq in seqs:
                conversation.messages[name] = StoredMessage(
                    stored.seq, stored.author, "", False, removed=True
                )
        for seq in [seq for seq in conversation.decisions if seq >= min(seqs)]:
            del conversation.decisions[seq]
        self._states.forget(conversation.workspace, conversation.id)
        self._fold(conversation)

    def conversation(self, workspace: str, name: str) -> OpenConversation:
        """The open conversation. Raises Contradiction where its text was removed: it has no
        state; NotFoldedError.
        """
        conversation = self._open[workspace, name]
        if conversation.unfolded_chars:
            raise NotFoldedError(workspace, name, conversation.unfolded_chars)
        if conversation.status == "removed":
            raise Contradiction(
                "conversation_removed",
                f"the text of conversation {name!r} was removed after its time",
                field="conversation_id",
                hint="go on under a new conversation_id",
            )
        return conversation

    def require_started(self, workspace: str, name: str) -> OpenConversation:
        """A conversation that has a message. Raises NotFound where there is none: it may be open
        only because another request of this batch is about to begin it, or was refused.
        """
        if (workspace, name) not in self._open:
            if conversation_rows.conversation(self.connection, workspace, name) is None:
                raise no_conversation(name)
            self.open(workspace, {name: ()})
        conversation = self.conversation(workspace, name)
        if not conversation.length:
            raise no_conversation(name)
        return conversation

    def require_room(
        self, conversation: OpenConversation, turns: int, *, reserved: int = 0
    ) -> None:
        """Raises Contradiction for an imported history, which has ended, Invalid for a turn
        too many.
        """
        if conversation.status == conversation_rows.HISTORY:
            raise Contradiction(
                "conversation_is_history",
                f"conversation {conversation.id!r} came with a warm start: it has ended",
                field="conversation_id",
                hint="go on under a new conversation_id",
            )
        if conversation.length + turns > TURNS_MAX + reserved:
            raise Invalid(
                "conversation_too_long",
                f"conversation {conversation.id!r} would have more than {TURNS_MAX} messages",
                field="conversation_id",
                hint="go on under a new conversation_id",
            )

    def append(
        self, conversation: OpenConversation, message: Message, *, scored: bool = False
    ) -> int:
        """Fold one more message into its conversation; gives its place `seq`."""
        conversation.length += 1
        conversation.state = step(conversation.state, message)
        conversation.last_at = max(conversation.last_at, self.now)
        seq = conversation.length
        if seq == 1:
            conversation.language = message.language
        conversation.messages[message.id] = StoredMessage(seq, message.author, message.text, scored)
        self._messages.append(
            conversation_rows.message_row(
                conversation.workspace, conversation.id, seq, message, scored
            )
        )
        if message.sealed is not None:
            self._originals.append(
                original_rows.row(conversation.workspace, conversation.id, seq, message.sealed)
            )
        self.change(conversation)
        return seq

    def append_system_event(self, conversation: OpenConversation, event: str, subject: str) -> int:
        """Append a system message of Baton's own, in the words of SYSTEM_EVENTS.

        A handoff that is taken up late is handed over, and may end, more than once.
        """
        name = f"baton:{event}:{subject}"
        if conversation.state.unanswered or event == "unanswered":
            name += f":{conversation.length + 1}"
        return self.append(
            conversation, Message(name, "system", SYSTEM_EVENTS[event], self.now, event=event)
        )

    def mark_scored(
        self, conversation: OpenConversation, stored_message: StoredMessage, message_id: str
    ) -> None:
        """Mark a stored message, the conversation's newest, as scored after all."""
        self.flush()
        conversation_rows.mark_scored(
            self.connection, conversation.workspace, conversation.id, stored_message.seq
        )
        conversation.messages[message_id] = StoredMessage(
            stored_message.seq, stored_message.author, stored_message.text, True
        )

    def add_decision(self, conversation: OpenConversation, row: dict[str, Any]) -> None:
        conversation.decisions[row["seq"]] = row
        self._decisions.append(row)
        code = row["language"]["code"]
        if code is not None and code != conversation.spoken:
            conversation.spoken = code
            self.change(conversation)
        if row["probability"] is not None:
            conversation.fired = trigger_names(row["triggers"], conversation.fired or "")
            if not conversation.escalated:
                conversation.version, conversation.team = row["version"], row["team"]
            self.change(conversation)

    def change(self, conversation: OpenConversation) -> None:
        self._changed.add((conversation.workspace, conversation.id))

    def flush(self) -> None:
        """Write all rows so far; later statements of the transaction see them."""
        changed = []
        for key in sorted(self._changed):
            conversation = self._open[key]
            changed.append(
                {name: getattr(conversation, name) for name in conversation_rows.COLUMNS}
            )
        conversation_rows.write_batch(self.connection, changed, self._messages, self._decisions)
        if self._originals:
            original_rows.ADD.run(self.connection, self._originals)
        self._changed, self._messages, self._decisions = set(), [], []
        self._originals = []

    def remove_unused_conversations(self) -> None:
        """Remove the conversations that were added for requests that were all refused."""
        unused = sorted(key for key in self._added if not self._open[key].length)
        for workspace, name in unused:
            del self._open[workspace, name]
            conversation_rows.remove_empty(self.connection, workspace, name)
        self._added.clear()

    def cache_states(self) -> None:
        """Cache the folded states; only once the transaction has committed."""
        for (workspace, name), conversation in self._open.items():
            if conversation.unfolded_chars:
                continue
            self._states.keep(workspace, name, conversation.length, conversation.state)


def no_conversation(name: str) -> NotFound:
    return NotFound(
        "no_conversation",
        f"there is no conversation {name!r} in this workspace",
        hint="its first message goes to POST /v1/score",
    )


def trigger_names(triggers: Iterable[Mapping[str, Any]], before: str = "") -> str:
    """The sorted names of these triggers and those before, separated by spaces (`fired`)."""
    return " ".join(sorted({*before.split(), *(trigger["name"] for trigger in triggers)}))
