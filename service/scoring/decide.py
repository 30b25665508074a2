"""Deciding about one message: repeat, fold, score, decide, and what follows from it."""

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
    """A request to score: the message, and the turns since the last call. `at` 0 means now."""

    workspace: str
    conversation_id: str
    message: Message
    history: tuple[Message, ...] = ()

    @property
    def needs(self) -> dict[str, list[str]]:
        """The conversation, and the message ids whose presence matters."""
        return {self.conversation_id: [self.message.id, *(turn.id for turn in self.history)]}


def score(
    batch: Batch, standing: ModelState, live: bool, build: str, ask: ScoreCommand
) -> Mapping[str, Any]:
    """Answer an ask. Everything is checked before anything is changed."""
    working = batch.conversation(ask.workspace, ask.conversation_id)
    known = working.known.get(ask.message.id)
    fresh = fresh_turns(working, ask.history, ask.message.id)
    if known is not None:
        _require_same_message(known, ask.message)
        decided = _existing_decision(batch, working, known.seq)
        if decided is not None:
            return decision_response(decided)
        if known.seq != working.length or fresh:
            raise Contradiction(
                "message_passed",
                f"message {ask.message.id!r} came without scoring and others followed it",
                field="message.id",
                hint="score a message before the next one is appended",
            )
        if _has_outcome(batch, working, known.seq):
            raise Contradiction(
                "message_judged",
                f"message {ask.message.id!r} came without scoring and an outcome speaks about it",
                field="message.id",
                hint="score a message when it comes, before its conversation is judged",
            )
    batch.room_for(working, len(fresh) + 2)
    if working.status == "closed":
        _reopen(batch, working)
    for turn in fresh:
        batch.append(working, with_timestamp(turn, batch.now))
    person = working.handoff_id is not None
    if known is None:
        seq = batch.append(working, with_timestamp(ask.message, batch.now), scored=not person)
    else:
        seq = known.seq
        if not person:
            batch.score_later(working, known, ask.message.id)
    decision = {
        "id": new_id("d"),
        "workspace": ask.workspace,
        "conversation_id": ask.conversation_id,
        "seq": seq,
        "message_id": ask.message.id,
        "version": standing.version,
        "position": standing.position,
        "build": build,
        "answer": None,
        "at": batch.now,
    }
    if person:
        decision |= _silent(batch, working, standing)
    else:
        decision |= _decide(working, standing)
        if live and decision["action"] == "escalate":
            decision["handoff"] = lifecycle.open_for(batch, working, decision, standing.policy)
    batch.decide(working, decision)
    return decision_response(decision)


def _reopen(batch: Batch, working: OpenConversation) -> None:
    """Somebody came back; where no person ever had the conversation, `jobs` see why."""
    if not working.escalated:
        ended = {
            "workspace": working.workspace,
            "conversation_id": working.id,
            "length": working.length,
            "resolution": working.resolution,
            "closed_at": working.closed_at or batch.now,
            "at": batch.now,
        }
        reopening_rows.add(batch.connection, ended)
    working.status, working.resolution, working.closed_at = "open", None, None


def compute_decision(standing: ModelState, state: Any) -> dict[str, Any]:
    """The part of a decision that a replay must find again, to the bit."""
    found = standing.score(state)
    policy = standing.policy
    choice: PolicyDecision = decide(
        policy,
        state,
        found.probability,
        lambda: standing.router.suggest(state, policy.team_names),
    )
    handed = choice.action != "continue"
    return {
        "action": choice.action,
        "probability": found.probability,
        "uncertainty": found.uncertainty,
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
        "route": choice.route.body() if handed else None,
    }


def _decide(working: OpenConversation, standing: ModelState) -> dict[str, Any]:
    return compute_decision(standing, working.state) | {"handoff": None}


def _silent(batch: Batch, working: OpenConversation, standing: ModelState) -> dict[str, Any]:
    thresholds = standing.policy.thresholds
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
        "team": standing.policy.default_team,
        "priority": PRIORITY,
        "route": None,
        "handoff": lifecycle.summary(batch, working),
    }


def fresh_turns(
    working: OpenConversation, turns: Sequence[Message], scored: str | None = None
) -> list[Message]:
    """The turns that the conversation does not have yet; those it has must be the same."""
    fresh: dict[str, Message] = {}
    for turn in turns:
        known = working.known.get(turn.id)
        if turn.id in fresh or turn.id == scored:
            raise Contradiction(
                "duplicate_message_id",
                f"message id {turn.id!r} stands twice in this request",
                field="history" if scored else "messages",
                hint="give every turn an id of its own",
            )
        if known is not None:
            _require_same_message(known, turn)
        else:
            fresh[turn.id] = turn
    return list(fresh.values())


def _require_same_message(known: StoredMessage, message: Message) -> None:
    if (known.author, known.text) != (message.author, message.text):
        raise Contradiction(
            "message_differs",
            f"message {message.id!r} is already recorded with another author or text",
            field="message.id",
            hint="a corrected text is a new message with a new id",
        )


def _has_outcome(batch: Batch, working: OpenConversation, seq: int) -> bool:
    """Whether a ledger entry teaches about this place already: what it teaches must not change."""
    for row in outcome_rows.of_conversation(batch.connection, working.workspace, working.id):
        entry = entries.entry(batch.connection, working.workspace, row.position)
        if entry is not None and entry.kind == "retraction":
            entry = entries.entry(batch.connection, working.workspace, entry.body["replaces"])
        if entry is not None and entry.body["covers"] >= seq:
            return True
    return False


def _existing_decision(
    batch: Batch, working: OpenConversation, seq: int
) -> Mapping[str, Any] | None:
    if seq in working.decided:
        return working.decided[seq]
    row = conversation_rows.decision_at(batch.connection, working.workspace, working.id, seq)
    return None if row is None else row._asdict()


def with_timestamp(message: Message, now: float) -> Message:
    """A message that came without a time gets the moment it is stored."""
    return message if message.at else replace(message, at=now)
