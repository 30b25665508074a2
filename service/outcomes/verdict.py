"""What somebody found true of a conversation, and the ledger entry that teaches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from service.handoffs import lifecycle
from service.runtime.errors import Invalid
from service.runtime.ids import fingerprint
from service.store.conversations.batch import OpenConversation

BATON = "baton"
"""The agent of outcomes that nobody told."""

REOPENED = "returned"
"""The source of misses that Baton caught as customers came back."""

OWN_SOURCES = ("audit", "silence", REOPENED)
"""The sources that only Baton gives; whoever knows better may overrule them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict as it was posted. `labels` are (message id, label, weight)."""

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
        said = (self.verdict, self.first_needed_message_id, self.team, self.reason, self.note)
        return fingerprint([*said, [list(label) for label in self.labels]])


def verdict_body(
    connection: Connection,
    working: OpenConversation,
    found: Verdict,
    handoff: Mapping[str, Any] | None,
    name: str,
) -> dict[str, Any]:
    """The ledger entry's body (see `learning.ledger.model_state.Entry`)."""
    since = found.first_needed_message_id
    last = handoff["seq"] if handoff is not None else working.length
    return {
        "outcome_id": name,
        "conversation_id": working.id,
        "handoff_id": handoff["id"] if handoff is not None else None,
        "verdict": found.verdict,
        "begins": handoff["begins"] if handoff is not None else 1,
        "covers": last,
        "escalated": handoff["seq"] if handoff is not None else None,
        "since": None
        if since is None
        else _message_place(working, since, last, "first_needed_message_id"),
        "labels": [
            (_scored_message_place(working, message), label, weight)
            for message, label, weight in found.labels
        ],
        "source": found.source,
        "agent": found.agent,
        "propensity": 1.0,
        "by_rule": bool(handoff is not None and handoff["by_rule"]),
    } | lifecycle.responsible_team(connection, found.team, found.verdict, handoff)


def _message_place(working: OpenConversation, message: str, last: int, field: str) -> int:
    known = working.known.get(message)
    if known is None:
        raise Invalid(
            "unknown_message",
            f"conversation {working.id!r} has no message {message!r}",
            field=field,
            hint=f"GET /v1/conversations/{working.id} lists its messages",
        )
    if known.seq > last:
        raise Invalid(
            "message_after_handoff",
            f"message {message!r} came after the handoff this outcome is about",
            field=field,
            hint="name the message that first needed a person, up to the escalating one",
        )
    return int(known.seq)


def _scored_message_place(working: OpenConversation, message: str) -> int:
    place = _message_place(working, message, working.length, "labels")
    if not working.known[message].scored:
        raise Invalid(
            "message_not_scored",
            f"message {message!r} was not scored, so a label teaches nothing",
            field="labels",
            hint="label only messages that went through POST /v1/score",
        )
    return place


def referenced_messages(found: Verdict) -> Sequence[str]:
    first = [found.first_needed_message_id] if found.first_needed_message_id else []
    return first + [message for message, _, _ in found.labels]
