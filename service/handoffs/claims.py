"""Claims of handoffs: leases of agents, renewed by what they write, released when they expire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.handoffs.status import OPEN, handoff_over, require_handoff
from service.runtime.errors import Contradiction
from service.store.conversations.batch import Batch, OpenConversation
from service.store.handoffs import handoff_rows
from service.store.ledger import outbox_rows

COLLEAGUE = "a colleague"
"""Who holds a claim where it is not known which person speaks."""


def claim(
    batch: Batch, workspace: str, name: str, agent: str, seconds: float, *, forced: bool = False
) -> dict[str, Any]:
    """Claim a handoff for an agent, or renew the claim, which is a lease of `seconds`; `forced`: a
    lead may take it from who has it.

    Raises Contradiction when it is over, or claimed by another.
    """
    row = require_handoff(batch, workspace, name)
    if row["status"] == "unanswered":
        _reopen_unanswered(batch, row)
    elif row["status"] not in OPEN:
        raise handoff_over(row)
    if is_held_by_another(row, agent) and not is_expired(batch, row) and not forced:
        raise Contradiction(
            "already_claimed",
            f"handoff {name!r} is claimed by {row['claimed_by']}",
            hint="take another from GET /v1/handoffs?status=waiting; a lead may take_over",
        )
    is_own = row["status"] == "claimed" and row["claimed_by"] == agent
    changes = {
        "status": "claimed",
        "claimed_by": agent,
        "claimed_at": row["claimed_at"] if is_own else batch.now,
        "claim_expires_at": batch.now + seconds,
        "ended_at": None,
    }
    handoff_rows.change(batch.connection, workspace, name, **changes)
    if not is_own:
        outbox_rows.add_handoff_event(batch.connection, "handoff.claimed", row | changes)
    return row | changes


def assign(
    batch: Batch, workspace: str, name: str, to: str, by: str, seconds: float, *, forced: bool
) -> dict[str, Any]:
    """Give an open handoff to a colleague, whose claim begins; `forced`: a lead may take it from
    who has it. Idempotent. Raises Contradiction when it is over, or claimed by another.
    """
    row = require_handoff(batch, workspace, name)
    if row["status"] not in OPEN:
        raise handoff_over(row)
    if row["status"] == "claimed" and row["claimed_by"] == to:
        return row
    if is_held_by_another(row, by) and not is_expired(batch, row) and not forced:
        raise Contradiction(
            "claimed_by_another",
            f"handoff {name!r} is claimed by {row['claimed_by']}",
            hint="its agent or a lead assigns it",
        )
    changes = {
        "status": "claimed",
        "claimed_by": to,
        "claimed_at": batch.now,
        "claim_expires_at": batch.now + seconds,
    }
    handoff_rows.change(batch.connection, workspace, name, **changes)
    outbox_rows.add_handoff_event(batch.connection, "handoff.assigned", row | changes, by=by)
    return row | changes


def _reopen_unanswered(batch: Batch, row: dict[str, Any]) -> None:
    """Hand over again, late, what nobody had taken in time. Raises Contradiction where it stands
    no longer: the conversation has another handoff, or the customer no longer wants one.
    """
    batch.open(row["workspace"], {row["conversation_id"]: ()})
    conversation = batch.conversation(row["workspace"], row["conversation_id"])
    last = handoff_rows.of_conversation(batch.connection, row["workspace"], conversation.id)[-1]
    if not conversation.state.unanswered or last.id != row["id"]:
        raise handoff_over(row)
    batch.append_system_event(conversation, "handed_over", row["id"])
    conversation.handoff_id, conversation.offer_id = row["id"], None
    batch.change(conversation)


def extend_claim(batch: Batch, conversation: OpenConversation, seconds: float) -> None:
    """Renew the claim of a conversation's handoff: somebody wrote in it."""
    if conversation.handoff_id is None:
        return
    row = handoff_rows.handoff(batch.connection, conversation.workspace, conversation.handoff_id)
    if row is not None and row.status == "claimed":
        until = batch.now + seconds
        handoff_rows.change(
            batch.connection, conversation.workspace, row.id, claim_expires_at=until
        )


def release(batch: Batch, row: Mapping[str, Any]) -> None:
    """End a claim that has expired: the handoff waits again."""
    changes = {"status": "waiting", "claimed_by": None, "claimed_at": None}
    handoff_rows.change(
        batch.connection, row["workspace"], row["id"], **changes, claim_expires_at=None
    )


def is_expired(batch: Batch, row: Mapping[str, Any]) -> bool:
    return row["claim_expires_at"] is not None and row["claim_expires_at"] < batch.now


def is_held_by_another(row: Mapping[str, Any], agent: str) -> bool:
    return row["status"] == "claimed" and row["claimed_by"] not in (agent, COLLEAGUE)
