"""Decision for one message: idempotency, state update, prediction, policy, handoff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from learning.conversation.redaction import is_same_text
from learning.conversation.state import Message, State, step
from learning.decision.policy import (
    Policy,
    PolicyDecision,
    Trigger,
    decide,
    is_protected,
    urgent_case,
)
from learning.decision.rules import Reason
from learning.decision.teams.routing import PRIORITY
from learning.decision.unread_turns import with_unread
from learning.decision.words.own_phrases import with_own_phrases
from learning.estimation.audit_sampling import uniform_variate
from learning.ledger.model_state import ModelState
from learning.text.language import language_json
from service.handoffs import lifecycle
from service.handoffs.takeover import Standing, take_over
from service.runtime.errors import Contradiction, Invalid
from service.runtime.ids import new_id
from service.scoring.decision_response import bot_words, decision_response
from service.scoring.message_edits import as_version
from service.store.conversations import conversation_rows, reopening_rows
from service.store.conversations.batch import (
    TURNS_RESERVED,
    Batch,
    OpenConversation,
    StoredMessage,
)
from service.store.labels import outcome_rows
from service.store.ledger import entries, outbox_rows


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
    message = with_timestamp(command.message, batch.now)
    if message.edits is not None:
        message = as_version(batch, conversation, message)
    stored_message = conversation.messages.get(message.id)
    turns = new_turns(conversation, command.history, message.id)
    if stored_message is not None:
        _require_same_message(stored_message, message)
        existing = _existing_decision(batch, conversation, stored_message.seq)
        if existing is not None:
            return decision_response(existing)
        _require_newest(batch, conversation, stored_message, message, turns)
    appended = [with_timestamp(turn, batch.now) for turn in turns]
    _require_room(batch, conversation, model_state.policy, appended, message)
    reopened = conversation.status == "closed"
    if reopened:
        _reopen(batch, conversation)
    if live:
        _draw_holdout(batch, conversation, model_state.policy)
    unread = _append_turns(batch, conversation, model_state.policy, appended)
    take_over(
        batch, conversation, appended, Standing(model_state.policy, model_state.version, live)
    )
    seq = _place(batch, conversation, message, model_state.policy if live else None)
    decision = {
        "id": new_id("d"),
        "workspace": command.workspace,
        "conversation_id": command.conversation_id,
        "seq": seq,
        "message_id": message.id,
        "version": model_state.version,
        "position": model_state.position,
        "build": build,
        "answer": None,
        "at": batch.now,
        "say": None,
        "language": None,
        "held_out": conversation.held_out,
        "reopened": reopened,
    }
    if conversation.handoff_id is not None:
        decision |= _human_active_decision(batch, conversation, model_state, message, unread)
    else:
        decision |= compute_decision(
            model_state, conversation.state, message, unread, held_out=conversation.held_out
        )
        decision["handoff"] = None
        if live:
            _act(batch, conversation, decision, model_state.policy)
    state = conversation.state
    decision["language"] = language_json(
        state.language, " ".join(state.user.words), conversation.spoken
    )
    decision["say"] = bot_words(batch, conversation, decision, model_state.policy)
    batch.add_decision(conversation, decision)
    return decision_response(decision)


def _draw_holdout(batch: Batch, conversation: OpenConversation, policy: Policy) -> None:
    """Draw whether rules alone decide in a conversation, before its first decision. What was drawn
    holds to its end, whatever becomes of the policy.
    """
    if not policy.holdout or conversation.version is not None or conversation.escalated:
        return
    variate = uniform_variate(conversation.workspace, "holdout", conversation.id)
    conversation.holdout, conversation.held_out = policy.holdout, variate < policy.holdout
    batch.change(conversation)


def _append_turns(
    batch: Batch, conversation: OpenConversation, policy: Policy, turns: Sequence[Message]
) -> list[State]:
    """Append turns that are not decided about; gives what the customer's last ones show, by the
    states after each, where nobody has answered them.
    """
    unread: list[State] = []
    for turn in turns:
        batch.append(conversation, turn)
        if turn.author == "user":
            unread.append(with_own_phrases(policy.phrases, conversation.state, turn))
        else:
            unread.clear()
    return unread


def _place(
    batch: Batch, conversation: OpenConversation, message: Message, policy: Policy | None
) -> int:
    """The place of the message to decide about, appended where it is new; it is scored unless a
    person has the conversation. Under a `policy` in force it ends an offer that waits.
    """
    human_active = conversation.handoff_id is not None
    stored_message = conversation.messages.get(message.id)
    if stored_message is None:
        if policy is not None and not human_active:
            _end_offer(batch, conversation, message, policy)
        return batch.append(conversation, message, scored=not human_active)
    if not human_active:
        batch.mark_scored(conversation, stored_message, message.id)
    return int(stored_message.seq)


def _act(
    batch: Batch, conversation: OpenConversation, decision: dict[str, Any], policy: Policy
) -> None:
    """Open the handoff that a decision asks for, or note that its offer waits for an answer."""
    if decision["action"] == "escalate":
        decision["handoff"] = lifecycle.open_handoff(batch, conversation, decision, policy)
        _announce(batch, "decision.escalated", decision)
    elif decision["action"] == "offer":
        conversation.offer_id = decision["id"]
        _announce(batch, "decision.offered", decision)


def _announce(batch: Batch, kind: outbox_rows.EventType, decision: Mapping[str, Any]) -> None:
    told = ("message_id", "probability", "team", "priority", "by_rule")
    data = {"decision_id": decision["id"]} | {name: decision[name] for name in told}
    workspace, conversation = decision["workspace"], decision["conversation_id"]
    outbox_rows.add(batch.connection, workspace, kind, data, conversation=conversation)


def _require_newest(
    batch: Batch,
    conversation: OpenConversation,
    stored_message: StoredMessage,
    message: Message,
    turns: Sequence[Message],
) -> None:
    """A message that came without scoring can be scored only while nothing followed it. Raises
    Contradiction.
    """
    if stored_message.seq != conversation.length or turns:
        raise Contradiction(
            "message_passed",
            f"message {message.id!r} came without scoring and others followed it",
            field="message.id",
            hint="score a message before the next one is appended",
        )
    if _has_outcome(batch, conversation, stored_message.seq):
        raise Contradiction(
            "message_judged",
            f"message {message.id!r} came without scoring and an outcome speaks about it",
            field="message.id",
            hint="score a message when it comes, before its conversation is judged",
        )


def _require_room(
    batch: Batch,
    conversation: OpenConversation,
    policy: Policy,
    turns: Sequence[Message],
    message: Message,
) -> None:
    """Room for these turns, the message, and what Baton may note of them. Raises Invalid at the
    limit, unless a protected rule fires: for that some room is reserved.
    """
    room = len(turns) + 3
    try:
        batch.require_room(conversation, room)
    except Invalid:
        state = conversation.state
        protected = False
        for turn in (*turns, message):
            state = step(state, turn)
            read = with_own_phrases(policy.phrases, state, turn)
            protected = protected or (turn.author == "user" and is_protected(policy, read))
        if not protected:
            raise
        batch.require_room(conversation, room, reserved=TURNS_RESERVED)


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
        reopening_rows.draw_at_next_end(batch.connection, conversation.workspace, conversation.id)
    conversation.status, conversation.resolution, conversation.closed_at = "open", None, None


def compute_decision(
    model_state: ModelState,
    state: State,
    message: Message,
    unread: Sequence[State] = (),
    *,
    held_out: bool = False,
) -> dict[str, Any]:
    """Prediction and policy: the part of a decision that a replay must reproduce bit for bit.

    `message` is the newest of the state: the policy's own phrases are looked for in it. `unread`
    are the customer's turns before it that nobody has answered. `held_out`: rules alone decide.
    """
    prediction = model_state.score(state)
    policy = model_state.policy
    choice: PolicyDecision = decide(
        policy,
        with_unread(with_own_phrases(policy.phrases, state, message), unread),
        prediction.probability,
        lambda: model_state.router.suggest(state, policy.team_names),
        lambda: model_state.causes(state),
        held_out=held_out,
    )
    routed = choice.action != "continue"
    return {
        "action": choice.action,
        "probability": prediction.probability,
        "uncertainty": prediction.uncertainty,
        "offer_threshold": choice.thresholds.offer,
        "escalate_threshold": choice.thresholds.escalate,
        "triggers": _triggers_json(choice.triggers),
        "reasons": _reasons_json(choice.reasons),
        "by_rule": any(t.kind != "model" for t in choice.triggers),
        "team": choice.route.team,
        "priority": choice.route.priority,
        "route": choice.route.body() if routed else None,
    }


def _human_active_decision(
    batch: Batch,
    conversation: OpenConversation,
    model_state: ModelState,
    message: Message,
    unread: Sequence[State],
) -> dict[str, Any]:
    policy = model_state.policy
    state = with_own_phrases(policy.phrases, conversation.state, message)
    state = with_unread(state, unread)
    thresholds = policy.thresholds
    urgent = urgent_case(policy, state) if state.author == "user" else None
    handoff = (
        lifecycle.open_handoff_json(batch, conversation)
        if urgent is None
        else lifecycle.raise_priority(batch, conversation, policy, urgent.route)
    )
    silent = Reason("a person has this conversation; the bot stays silent", 1.0, "human_active")
    return {
        "action": "human_active",
        "probability": None,
        "uncertainty": None,
        "offer_threshold": thresholds.offer,
        "escalate_threshold": thresholds.escalate,
        "triggers": _triggers_json(() if urgent is None else urgent.triggers),
        "reasons": _reasons_json((*(() if urgent is None else urgent.reasons), silent)),
        "by_rule": urgent is not None,
        "team": policy.default_team if handoff is None else handoff["team"],
        "priority": PRIORITY if handoff is None else handoff["priority"],
        "route": None if urgent is None else urgent.route.body(),
        "handoff": handoff,
    }


def _triggers_json(triggers: Sequence[Trigger]) -> list[dict[str, Any]]:
    return [{"kind": t.kind, "name": t.name, "message_ids": list(t.message_ids)} for t in triggers]


def _reasons_json(reasons: Sequence[Reason]) -> list[dict[str, Any]]:
    return [reason.body() for reason in reasons]


def _end_offer(
    batch: Batch, conversation: OpenConversation, message: Message, policy: Policy
) -> None:
    """The customer wrote instead of answering an offer: unless this asks for the person, the offer
    was ignored, which begins a cool-down.
    """
    if conversation.offer_id is None or message.author != "user":
        return
    state = with_own_phrases(policy.phrases, step(conversation.state, message), message)
    if state.signals.request is None:
        batch.append_system_event(conversation, "ignored", conversation.offer_id)
    conversation.offer_id = None


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
    if stored_message.removed:
        raise Contradiction(
            "message_removed",
            f"message {message.id!r} was removed by the customer",
            field="message.id",
            hint="a new message needs an id of its own",
        )
    is_same = is_same_text(stored_message.text, message.text, message.language)
    if stored_message.author != message.author or not is_same:
        raise Contradiction(
            "message_differs",
            f"message {message.id!r} is already recorded with another author or text",
            field="message.id",
            hint="an edit goes to PUT /v1/conversations/{id}/messages/{mid}; else take a new id",
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
