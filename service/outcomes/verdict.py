"""A verdict (label) on a conversation: its validation, fingerprint (idempotency), and the body of
the ledger entry that teaches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from learning.ledger.lessons import WEAK_SOURCES
from service.handoffs import lifecycle
from service.runtime.errors import Invalid
from service.runtime.ids import fingerprint
from service.store.conversations.batch import OpenConversation

BATON = "baton"
"""The agent of outcomes that Baton inferred itself."""

REOPENED = "returned"
"""The source of misses inferred from reopenings."""

OWN_SOURCES = ("audit", REOPENED, *WEAK_SOURCES)
"""The sources that only Baton writes; a person's verdict replaces them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict as it was posted; `labels` are (message id, label 0 or 1, weight)."""

    verdict: str
    source: str
    agent: str
    first_needed_message_id: str | None = None
    team: str | None = None
    reason: str | None = None
    note: str | None = None
    labels: tuple[tuple[str, float, float], ...] = ()

    @property
    def fingerprint(self) -> str:
        fields = (self.verdict, self.first_needed_message_id, self.team, self.reason, self.note)
        return fingerprint([*fields, [list(label) for label in self.labels]])


def verdict_body(
    connection: Connection,
    conversation: OpenConversation,
    verdict: Verdict,
    handoff: Mapping[str, Any] | None,
    name: str,
) -> dict[str, Any]:
    """The ledger entry's body (see `learning.ledger.model_state.Entry`).

    Raises Invalid for a message that is unknown, came too late or was not scored.
    """
    since = verdict.first_needed_message_id
    last = handoff["seq"] if handoff is not None else conversation.length
    return {
        "outcome_id": name,
        "conversation_id": conversation.id,
        "handoff_id": handoff["id"] if handoff is not None else None,
        "verdict": verdict.verdict,
        "begins": handoff["begins"] if handoff is not None else 1,
        "covers": last,
        "escalated": handoff["seq"] if handoff is not None else None,
        "since": None
        if since is None
        else _message_place(conversation, since, last, "first_needed_message_id"),
        "labels": [
            (_scored_message_place(conversation, message), label, weight)
            for message, label, weight in verdict.labels
        ],
        "source": verdict.source,
        "agent": verdict.agent,
        "propensity": 1.0,
        "requested": bool(handoff is not None and "request" in (handoff["fired"] or "").split()),
        "by_rule": bool(handoff is not None and handoff["by_rule"]),
    } | lifecycle.responsible_team(connection, verdict.team, verdict.verdict, handoff)


def _message_place(conversation: OpenConversation, message: str, last: int, field: str) -> int:
    stored_message = conversation.messages.get(message)
    if stored_message is None:
        raise Invalid(
            "unknown_message",
            f"conversation {conversation.id!r} has no message {message!r}",
            field=field,
            hint=f"GET /v1/conversations/{conversation.id} lists its messages",
        )
    if stored_message.seq > last:
        raise Invalid(
            "message_after_handoff",
            f"message {message!r} came after the handoff this outcome is about",
            field=field,
            hint="name the message that first needed a person, up to the escalating one",
        )
    return int(stored_message.seq)


def _scored_message_place(conversation: OpenConversation, message: str) -> int:
    place = _message_place(conversation, message, conversation.length, "labels")
    if not conversation.messages[message].scored:
        raise Invalid(
            "message_not_scored",
            f"message {message!r} was not scored, so a label teaches nothing",
            field="labels",
            hint="label only messages that went through POST /v1/score",
        )
    return place


def referenced_messages(verdict: Verdict) -> Sequence[str]:
    first = [verdict.first_needed_message_id] if verdict.first_needed_message_id else []
    return first + [message for message, _, _ in verdict.labels]
