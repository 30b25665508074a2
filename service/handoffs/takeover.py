"""Takeover: a person speaks in a conversation, or another system says that one has it, without
Baton having asked; and handing over without a decision.

What comes of it is a claimed handoff like any other, so the bot is silent until it is given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from learning.conversation.presence import Presence, presence
from learning.conversation.state import Message
from learning.decision.policy import Policy
from learning.decision.teams.routing import PRIORITY
from learning.ledger.model_state import ModelState
from service.handoffs import claims, lifecycle, replies
from service.runtime.errors import Contradiction, Invalid
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation
from service.store.handoffs import handoff_rows
from service.store.ledger import entries, outbox_rows

Reason = Literal["requested", "stuck", "policy", "risk", "other"]
OpenedBy = Literal["bot", "person"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What of a workspace a takeover depends on: its policy, serving version, and mode."""

    policy: Policy
    version: int
    live: bool


@dataclass(frozen=True, slots=True)
class HandoffRequest:
    """A handoff that is opened without a decision; with `taken_by` it is claimed at once."""

    opened_by: OpenedBy
    reason: str
    summary: str | None = None
    team: str | None = None
    priority: int | None = None
    taken_by: str | None = None


def standing(batch: Batch, workspace: str, model_state: ModelState) -> Standing:
    """What a takeover depends on, as it is in this batch."""
    row = entries.workspace(batch.connection, workspace)
    live = row is not None and row.mode == "live"
    return Standing(model_state.policy, model_state.version, live)


def take_over(
    batch: Batch, conversation: OpenConversation, turns: Sequence[Message], standing: Standing
) -> None:
    """Let a person who is seen in these new turns have the conversation; never in shadow mode.

    A handoff that waits becomes theirs where their name is known; a claim stays, and is renewed.
    One that was taken over ends when another system says that it was given back.
    """
    if not standing.live:
        return
    seen = presence(turns, batch.now, standing.policy.claim_seconds)
    if seen is not None:
        _follow(batch, conversation, seen, standing)
    for turn in turns:
        if turn.author == "agent":
            replies.announce(batch, conversation, turn.id, turn.agent, deliver=False)


def _follow(
    batch: Batch, conversation: OpenConversation, seen: Presence, standing: Standing
) -> None:
    seconds = standing.policy.claim_seconds
    if conversation.handoff_id is None:
        if seen.kind == "here":
            taken_by = seen.agent or claims.COLLEAGUE
            request = HandoffRequest("person", "other", taken_by=taken_by)
            open_without_decision(batch, conversation, request, standing)
        return
    row = handoff_rows.handoff(batch.connection, conversation.workspace, conversation.handoff_id)
    if row is None:
        return
    if seen.kind == "gone":
        if row.opened_by == "person":
            lifecycle.close(batch, row._asdict(), "returned")
    elif row.status == "waiting" and seen.agent is not None:
        claims.claim(batch, conversation.workspace, row.id, seen.agent, seconds)
    else:
        claims.extend_claim(batch, conversation, seconds)


def hand_over(
    batch: Batch, conversation: OpenConversation, request: HandoffRequest, standing: Standing
) -> dict[str, Any]:
    """The open handoff of a conversation as it is, or a new one.

    Raises Contradiction in a shadow workspace, Invalid for an unknown team.
    """
    if conversation.handoff_id is not None:
        row = handoff_rows.handoff(
            batch.connection, conversation.workspace, conversation.handoff_id
        )
        if row is not None:
            existing: dict[str, Any] = row._asdict()
            return existing
    if not standing.live:
        raise Contradiction(
            "workspace_in_shadow",
            f"workspace {conversation.workspace!r} is in shadow mode: it opens no handoff",
            hint=f"PUT /v1/workspaces/{conversation.workspace}/mode makes it live",
        )
    if request.team is not None and request.team not in standing.policy.team_names:
        raise Invalid(
            "unknown_team",
            f"there is no team {request.team!r}",
            field="team",
            hint=f"the policy speaks of {', '.join(standing.policy.team_names)}",
        )
    return open_without_decision(batch, conversation, request, standing)


def open_without_decision(
    batch: Batch, conversation: OpenConversation, request: HandoffRequest, standing: Standing
) -> dict[str, Any]:
    """Open a handoff that no decision led to: it counts for no rule and for no model.

    A verdict on it speaks of the customer's newest message as the one that led to it.
    """
    batch.flush()
    workspace, policy = conversation.workspace, standing.policy
    place = conversation_rows.newest_customer_place(batch.connection, workspace, conversation.id)
    team = request.team or policy.default_team
    known = policy.team(team)
    claimed: dict[str, Any] = {}
    if request.taken_by is not None:
        claimed = {
            "status": "claimed",
            "claimed_by": request.taken_by,
            "claimed_at": batch.now,
            "claim_expires_at": batch.now + policy.claim_seconds,
        }
    else:
        claimed["promised_at"] = lifecycle.estimated_start(
            batch.connection, workspace, team, policy, batch.now
        )
    row = lifecycle.add_handoff(
        batch,
        conversation,
        seq=place or conversation.length,
        by_rule=True,
        version=standing.version,
        team=team,
        priority=request.priority or (known.priority if known is not None else None) or PRIORITY,
        opened_by=request.opened_by,
        reason=request.reason,
        opening_note=request.summary,
        **claimed,
    )
    if request.taken_by is not None:
        outbox_rows.add_handoff_event(batch.connection, "handoff.claimed", row)
    return row
