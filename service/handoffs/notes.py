"""Internal notes on a handoff: written by agents for each other, never seen by customer or bot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.handoffs import claims
from service.runtime.errors import Invalid, NotFound
from service.runtime.ids import new_id
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows, note_rows

NOTES_MAX = 500
"""Most notes on the handoffs of one conversation."""


def add_note(
    batch: Batch, workspace: str, name: str, agent: str, text: str, seconds: float
) -> dict[str, Any]:
    """Add a note, idempotently: the same text by the same agent is the same note. Renews the claim
    of the agent who wrote it.
    """
    row = handoff_rows.handoff(batch.connection, workspace, name)
    if row is None:
        raise NotFound("no_handoff", f"there is no handoff {name!r} in this workspace")
    handoff = row._asdict()
    for earlier in note_rows.of_handoff(batch.connection, workspace, handoff):
        if (earlier.agent, earlier.text, earlier.team) == (agent, text, None):
            return note_json(earlier._asdict())
    new_row = append_note(batch, handoff, agent, text=text)
    if handoff["claimed_by"] == agent:
        batch.open(workspace, {handoff["conversation_id"]: ()})
        conversation = batch.conversation(workspace, handoff["conversation_id"])
        claims.extend_claim(batch, conversation, seconds)
    return note_json(new_row)


def append_note(
    batch: Batch,
    handoff: Mapping[str, Any],
    agent: str,
    *,
    text: str | None = None,
    team: str | None = None,
) -> dict[str, Any]:
    """Append a note to a handoff. Raises Invalid when its conversation has too many."""
    workspace, conversation = handoff["workspace"], handoff["conversation_id"]
    if note_rows.count(batch.connection, workspace, conversation) >= NOTES_MAX:
        raise Invalid(
            "too_many_remarks",
            f"the handoffs of conversation {conversation!r} have {NOTES_MAX} notes already",
            hint="resolve it, or say the rest in the conversation",
        )
    row = {
        "id": new_id("n"),
        "workspace": workspace,
        "conversation_id": conversation,
        "handoff_id": handoff["id"],
        "agent": agent,
        "team": team,
        "text": text,
        "at": batch.now,
    }
    note_rows.add(batch.connection, row)
    return row


def note_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A note as the API shows it."""
    return {name: value for name, value in row.items() if name != "workspace"}
