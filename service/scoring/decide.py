"""Decision for one message: idempotency, state update, prediction, policy, handoff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from learning.conversation.state import Message
from learning.decision.policy import PolicyDecision, decide
from learning.decision.routing import PRIORITY
from learning.ledger.model_state import ModelState
from service.handoffs import lifecycle
from service.runtime.errors import Contradiction
from service.runtime.ids import new_id
from service.scoring.decision_response import decision_response
from service.store.conversations import conversation_rows, reopening_rows
from service.store.conversations.batch import Batch, OpenConversation, StoredMessage
from service.store.labels import outcome_rows
from service.store.ledger import entries


@dataclass(frozen=True, slots=True)
class ScoreCommand:
    """A request to score: the message and the turns since the last call; `at` 0 means now."""

    workspace: str
    conversation_id: str
    message: Message
    history: tuple[Message, ...] = ()

    @property
    def lock_targets(self) -> dict[str, list[str]]:
        """The conversation to lock, and the message ids to look up in it."""
        return {self.conversation_id: [self.message.id, *(turn.id for turn in self.history)]}


def score(
    batch: Batch, model_state: ModelState, live: bool, build: str, command: ScoreCommand
) -> Mapping[str, Any]:
    """Score a message and decide. A repeated request gets the first decision (idempotency).

    Everything is checked before anything is changed. Raises Contradiction, Invalid.
    """
    conversation = batch.conversation(command.workspace, command.conversation_id)
    stored_message = conversation.messages.get(command.message.id)
    turns = new_turns(conversation, command.history, command.message.id)
    if stored_message is not None:
        _require_same_message(stored_message, command.message)
        existing = _existing_decision(batch, conversation, stored_message.seq)
        if existing is not None:
            return decision_response(existing)
        if stored_message.seq != conversation.length or turns:
            raise Contradiction(
                "message_passed",
                f"message {command.message.id!r} came without scoring and others followed it",
                field="message.id",
                hint="score a message before the next one is appended",
            )
        if _has_outcome(batch, conversation, stored_message.seq):
            raise Contradiction(
                "message_judged",
                f"message {command.message.id!r} came without scoring and an outcome speaks about "
                "it",
                field="message.id",
                hint="score a message when it comes, before its conversation is judged",
            )
    batch.require_room(conversation, len(turns) + 2)
    if conversation.status == "closed":
        _reopen(batch, conversation)
    for turn in turns:
        batch.append(conversation, with_timestamp(turn, batch.now))
    human_active = conversation.handoff_id is not None
    if stored_message is None:
        seq = batch.append(
            conversation, with_timestamp(command.message, batch.now), scored=not human_active
        )
    else:
        seq = stored_message.seq
        if not human_active:
            batch.mark_scored(conversation, stored_message, command.message.id)
    decision = {
        "id": new_id("d"),
        "workspace": command.workspace,
        "conversation_id": command.conversation_id,
        "seq": seq,
        "message_id": command.message.id,
        "version": model_state.version,
        "position": model_state.position,
        "build": build,
        "answer": None,
        "at": batch.now,
    }
    if human_active:
        decision |= _human_active_decision(batch, conversation, model_state)
    else:
        decision |= _scored_decision(conversation, model_state)
        if live and decision["action"] == "escalate":
            decision["handoff"] = lifecycle.open_handoff(
                batch, conversation, decision, model_state.policy
            )
    batch.add_decision(conversation, decision)
    return decision_response(decision)


def _reopen(batch: Batch, conversation: OpenConversation) -> None:
    """Reopen a closed conversation; where no person ever had it, record it for `jobs` to judge."""
    if not conversation.escalated:
        row = {
            "workspace": conversation.workspace,
            "conversation_id": conversation.id,
            "length": conversation.length,
            "resolution": conversation.resolution,
            "closed_at": conversation.closed_at or batch.now,
            "at": batch.now,
        }
        reopening_rows.add(batch.connection, row)
    conversation.status, conversation.resolution, conversation.closed_at = "open", None, None


def compute_decision(model_state: ModelState, state: Any) -> dict[str, Any]:
    """Prediction and policy: the part of a decision that a replay must reproduce bit for bit."""
    prediction = model_state.score(state)
    policy = model_state.policy
    choice: PolicyDecision = decide(
        policy,
        state,
        prediction.probability,
        lambda: model_state.router.suggest(state, policy.team_names),
    )
    routed = choice.action != "continue"
    return {
        "action": choice.action,
        "probability": prediction.probability,
        "uncertainty": prediction.uncertainty,
        "offer_threshold": choice.thresholds.offer,
        "escalate_threshold": choice.thresholds.escalate,
        "triggers": [
            {"kind": t.kind, "name": t.name, "message_ids": list(t.message_ids)}
            for t in choice.triggers
        ],
        "reasons": [{"text": r.text, "weight": r.weight} for r in choice.reasons],
        "by_rule": any(t.kind != "model" for t in choice.triggers),
        "team": choice.route.team,
        "priority": choice.route.priority,
        "route": choice.route.body() if routed else None,
    }


def _scored_decision(conversation: OpenConversation, model_state: ModelState) -> dict[str, Any]:
    return compute_decision(model_state, conversation.state) | {"handoff": None}


def _human_active_decision(
    batch: Batch, conversation: OpenConversation, model_state: ModelState
) -> dict[str, Any]:
    thresholds = model_state.policy.thresholds
    return {
        "action": "human_active",
        "probability": None,
        "uncertainty": None,
        "offer_threshold": thresholds.offer,
        "escalate_threshold": thresholds.escalate,
        "triggers": [],
        "reasons": [
            {"text": "a person has this conversation; the bot stays silent", "weight": 1.0}
        ],
        "by_rule": False,
        "team": model_state.policy.default_team,
        "priority": PRIORITY,
        "route": None,
        "handoff": lifecycle.open_handoff_json(batch, conversation),
    }


def new_turns(
    conversation: OpenConversation, turns: Sequence[Message], scored: str | None = None
) -> list[Message]:
    """The turns that the conversation does not have yet.

    Raises Contradiction for a known id with another text or author, or an id that is given twice.
    """
    new: dict[str, Message] = {}
    for turn in turns:
        stored_message = conversation.messages.get(turn.id)
        if turn.id in new or turn.id == scored:
            raise Contradiction(
                "duplicate_message_id",
                f"message id {turn.id!r} stands twice in this request",
                field="history" if scored else "messages",
                hint="give every turn an id of its own",
            )
        if stored_message is not None:
            _require_same_message(stored_message, turn)
        else:
            new[turn.id] = turn
    return list(new.values())


def _require_same_message(stored_message: StoredMessage, message: Message) -> None:
    if (stored_message.author, stored_message.text) != (message.author, message.text):
        raise Contradiction(
            "message_differs",
            f"message {message.id!r} is already recorded with another author or text",
            field="message.id",
            hint="a corrected text is a new message with a new id",
        )


def _has_outcome(batch: Batch, conversation: OpenConversation, seq: int) -> bool:
    """Whether a ledger entry already covers this place: what it teaches must not change."""
    for row in outcome_rows.of_conversation(
        batch.connection, conversation.workspace, conversation.id
    ):
        entry = entries.entry(batch.connection, conversation.workspace, row.position)
        if entry is not None and entry.kind == "retraction":
            entry = entries.entry(batch.connection, conversation.workspace, entry.body["replaces"])
        if entry is not None and entry.body["covers"] >= seq:
            return True
    return False


def _existing_decision(
    batch: Batch, conversation: OpenConversation, seq: int
) -> Mapping[str, Any] | None:
    if seq in conversation.decisions:
        return conversation.decisions[seq]
    row = conversation_rows.decision_at(
        batch.connection, conversation.workspace, conversation.id, seq
    )
    return None if row is None else row._asdict()


def with_timestamp(message: Message, now: float) -> Message:
    """The message, with the time it is stored if it came without one."""
    return message if message.at else replace(message, at=now)
