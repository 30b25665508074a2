"""State machine of a handoff: opened, raised, claimed, released, and resolved, returned to the bot,
unanswered or abandoned; and the answer to an offer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.decision.teams.routing import Route
from service.handoffs import claims
from service.handoffs.status import OPEN, handoff_over, require_handoff
from service.runtime.errors import Contradiction
from service.runtime.ids import new_id
from service.store import access
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation, trigger_names
from service.store.database.clock import database_time
from service.store.handoffs import handoff_rows
from service.store.ledger import outbox_rows

Ended = Literal["resolved", "returned", "unanswered", "abandoned"]
_ENDED: Mapping[Ended, outbox_rows.EventType] = {
    "resolved": "handoff.resolved",
    "returned": "handoff.returned",
    "unanswered": "handoff.unanswered",
    "abandoned": "handoff.abandoned",
}


def lock_targets(workspace: str, name: str) -> Callable[[Connection], dict[str, list[str]]]:
    """What a request about a handoff locks: the conversation it belongs to.

    Without it, agents at two processes could both claim one handoff.
    """

    def find(connection: Connection) -> dict[str, list[str]]:
        row = handoff_rows.handoff(connection, workspace, name)
        return {} if row is None else {row.conversation_id: []}

    return find


def open_handoff(
    batch: Batch, conversation: OpenConversation, decision: Mapping[str, Any], policy: Policy
) -> dict[str, Any]:
    """Open a handoff at a decision; from here on the bot is silent.

    `promised_at` says when the team gets to it, if that is not at once.
    """
    on_call = (decision.get("route") or {}).get("by") == "on_call"
    row = add_handoff(
        batch,
        conversation,
        decision_id=decision["id"],
        seq=decision["seq"],
        by_rule=decision["by_rule"],
        version=decision["version"],
        fired=trigger_names(decision["triggers"]),
        team=decision["team"],
        priority=decision["priority"],
        promised_at=None
        if on_call
        else estimated_start(
            batch.connection,
            conversation.workspace,
            decision["team"],
            policy,
            conversation.state.at,
        ),
    )
    return handoff_summary(row)


def add_handoff(batch: Batch, conversation: OpenConversation, **values: Any) -> dict[str, Any]:
    """Add a handoff of a conversation, which is a person's from here on."""
    row = {
        "id": new_id("h"),
        "workspace": conversation.workspace,
        "conversation_id": conversation.id,
        "decision_id": None,
        "begins": conversation.begins,
        "fired": "",
        "status": "waiting",
        "claimed_by": None,
        "opened_at": batch.now,
        "claimed_at": None,
        "claim_expires_at": None,
        "ended_at": None,
        "promised_at": None,
        "changed_at": batch.now,
        "opened_by": "decision",
        "reason": None,
        "opening_note": None,
        "raised_at": None,
    } | values
    handoff_rows.add(batch.connection, row)
    batch.append_system_event(conversation, "handed_over", row["id"])
    conversation.handoff_id, conversation.escalated = row["id"], True
    conversation.version, conversation.team = row["version"], row["team"]
    conversation.offer_id = None
    batch.change(conversation)
    outbox_rows.add_handoff_event(
        batch.connection, "handoff.opened", row, decision_id=row["decision_id"]
    )
    return row


def estimated_start(
    connection: Connection, workspace: str, team: str, policy: Policy, at: float
) -> float | None:
    """When a team will get to one more handoff (seconds, UTC), from its hours, its pace and its
    queue; None for at once, or where the policy does not know the team.
    """
    policy_team = policy.team(team)
    if policy_team is None:
        return None
    return policy_team.serves_at(
        at, handoff_rows.count_waiting(connection, workspace, team) if policy_team.per_hour else 0
    )


def open_handoff_json(batch: Batch, conversation: OpenConversation) -> dict[str, Any] | None:
    """The open handoff of a conversation, as decisions show it."""
    if conversation.handoff_id is None:
        return None
    row = handoff_rows.handoff(batch.connection, conversation.workspace, conversation.handoff_id)
    return row and _handoff_json(row)


def _handoff_json(row: Any) -> dict[str, Any]:
    return handoff_summary(row._asdict())


def handoff_summary(row: Mapping[str, Any], *, raised: bool = False) -> dict[str, Any]:
    """A handoff as decisions show it; `promised_at` in ISO 8601 where its team is not there at
    once, `raised` where the message decided about raised it.
    """
    summary = {name: row[name] for name in ("id", "team", "priority")} | {"raised": raised}
    at = row["promised_at"]
    if at is not None:
        summary["promised_at"] = datetime.fromtimestamp(at, UTC).isoformat()
    return summary


def raise_priority(
    batch: Batch, conversation: OpenConversation, policy: Policy, target: Route
) -> dict[str, Any] | None:
    """Raise the open handoff of a conversation, in which something urgent was said: its priority,
    and while it waits its team. A claim stays; its agent hears of it by `raised_at`.
    """
    workspace, name = conversation.workspace, conversation.handoff_id
    stored = None if name is None else handoff_rows.handoff(batch.connection, workspace, name)
    if name is None or stored is None:
        return None
    row: dict[str, Any] = stored._asdict()
    changes: dict[str, Any] = {"priority": min(row["priority"], target.priority)}
    if row["status"] == "claimed" and claims.is_expired(batch, row):
        claims.release(batch, row)
        row["status"] = "waiting"
    if row["status"] == "waiting":
        changes["team"] = conversation.team = target.team
        changes["promised_at"] = (
            None
            if target.by == "on_call"
            else estimated_start(
                batch.connection, workspace, target.team, policy, conversation.state.at
            )
        )
        batch.change(conversation)
    handoff_rows.change(
        batch.connection, workspace, name, raised_at=database_time(batch.connection), **changes
    )
    outbox_rows.add_handoff_event(batch.connection, "handoff.raised", row | changes)
    return handoff_summary(row | changes, raised=True)


def end(batch: Batch, workspace: str, name: str, agent: str, status: Ended) -> dict[str, Any]:
    """Resolve a handoff, or return the conversation to the bot. Idempotent.

    A claim of somebody who has no key here (seen in another system) anybody may end.

    Raises Contradiction when it is over otherwise, or claimed by another.
    """
    row = require_handoff(batch, workspace, name)
    if row["status"] == status:
        return row
    if row["status"] not in OPEN:
        raise handoff_over(row)
    if claims.is_held_by_another(row, agent) and access.has_agent(
        batch.connection, workspace, row["claimed_by"]
    ):
        raise Contradiction(
            "claimed_by_another",
            f"handoff {name!r} is claimed by {row['claimed_by']}",
            hint="its agent ends it, or claim it once the claim has expired",
        )
    return close(batch, row, status)


def close(
    batch: Batch, row: Mapping[str, Any], status: Ended, told_by: str | None = None
) -> dict[str, Any]:
    """End an open handoff with any status, which the fold hears: the conversation is the bot's
    again. What was `unanswered` leaves the episode open, for its request stands. `told_by` is the
    connection that said so, and need not hear it.
    """
    workspace, name = row["workspace"], row["conversation_id"]
    batch.open(workspace, {name: ()})
    conversation = batch.conversation(workspace, name)
    changes = {"status": status, "ended_at": batch.now, "claim_expires_at": None}
    handoff_rows.change(batch.connection, workspace, row["id"], **changes)
    if conversation.handoff_id == row["id"]:
        seq = batch.append_system_event(conversation, status, row["id"])
        conversation.handoff_id = None
        if status != "unanswered":
            conversation.begins = seq + 1
        batch.change(conversation)
    teller = {} if told_by is None else {"connection_id": told_by}
    outbox_rows.add_handoff_event(batch.connection, _ENDED[status], dict(row) | changes, **teller)
    return dict(row) | changes


def close_conversation(batch: Batch, conversation: OpenConversation, resolution: str) -> None:
    """Close an open conversation; a handoff that still waits is abandoned."""
    if conversation.status != "open":
        return
    if conversation.handoff_id is not None:
        workspace = conversation.workspace
        row = handoff_rows.handoff(batch.connection, workspace, conversation.handoff_id)
        if row is not None and row.status == "waiting":
            close(batch, row._asdict(), "abandoned")
    conversation.status, conversation.resolution = "closed", resolution
    conversation.closed_at = batch.now
    batch.change(conversation)


def expire(batch: Batch, workspace: str, waiting_seconds: float) -> None:
    """Release expired claims, and end as unanswered the handoffs that nobody claimed in time.

    Rows are looked up first and locked afterwards, in order, so each is read again under its lock:
    its agent may have written meanwhile.
    """
    now, connection = batch.now, batch.connection
    overdue = (
        ("claimed", "claim_expires_at", now),
        ("waiting", "opened_at", now - waiting_seconds),
    )
    rows = [
        row
        for criteria in overdue
        for row in handoff_rows.overdue(connection, *criteria, workspace)
    ]
    batch.open(workspace, {row.conversation_id: () for row in rows})
    for status, column, before in overdue:
        for row in rows:
            current = handoff_rows.handoff(connection, workspace, row.id)
            if current is None or (row.status, current.status) != (status, status):
                continue
            if getattr(current, column) < before:
                if status == "claimed":
                    claims.release(batch, current._asdict())
                else:
                    close(batch, current._asdict(), "unanswered")
    batch.flush()


def answer_offer(
    batch: Batch,
    workspace: str,
    decision: Mapping[str, Any],
    accepted: bool,
    *,
    live: bool,
    policy: Policy,
) -> dict[str, Any]:
    """Record the customer's answer to an offer: it opens a handoff if `live`, or begins a
    cool-down. While a person has the conversation, or is waited for, any answer gives that handoff.

    Neither answer is a label. Raises Contradiction for a decision that was no offer, was answered
    otherwise, or is passed.
    """
    answer = "accepted" if accepted else "declined"
    _require_offer(decision, answer)
    conversation = batch.conversation(workspace, decision["conversation_id"])
    if conversation.handoff_id is not None:
        if decision["answer"] is None:
            conversation_rows.record_answer(batch.connection, workspace, decision["id"], answer)
        return {
            "decision_id": decision["id"],
            "answer": answer,
            "handoff": open_handoff_json(batch, conversation),
        }
    if accepted and decision["answer"] is None and decision["seq"] < conversation.begins:
        raise Contradiction(
            "offer_passed",
            f"a person had the conversation since decision {decision['id']!r} offered one",
            field="accepted",
            hint="score the customer's next message",
        )
    if decision["answer"] is None:
        conversation_rows.record_answer(batch.connection, workspace, decision["id"], answer)
        conversation.offer_id = None
        batch.change(conversation)
        if not accepted:
            batch.append_system_event(conversation, "declined", decision["id"])
        elif live:
            open_handoff(batch, conversation, decision, policy)
    opened = handoff_rows.of_decision(batch.connection, workspace, decision["id"])
    handoff = (
        _handoff_json(opened) if opened is not None else open_handoff_json(batch, conversation)
    )
    return {
        "decision_id": decision["id"],
        "answer": answer,
        "handoff": handoff if accepted else None,
    }


def _require_offer(decision: Mapping[str, Any], answer: str) -> None:
    if decision["action"] != "offer":
        raise Contradiction(
            "not_an_offer",
            f"decision {decision['id']!r} was {decision['action']}, not an offer",
            hint="only decisions with action offer are answered",
        )
    if decision["answer"] not in (None, answer):
        raise Contradiction(
            "answered_otherwise",
            f"decision {decision['id']!r} was {decision['answer']} before",
            field="accepted",
            hint="the first answer holds; score the customer's next message",
        )


def responsible_team(
    connection: Connection, team: str | None, verdict: str, handoff: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The routing label: the team that a conversation belonged to and its source, or nothing.

    The agent's statement comes first, then the team a handoff was transferred to. A handoff that
    stayed where it was routed is weak evidence, if a person was needed.
    """
    if team is not None:
        return {"team": team, "team_by": "agent"}
    if handoff is None:
        return {}
    decision = (
        None
        if handoff["decision_id"] is None
        else conversation_rows.decision(connection, handoff["workspace"], handoff["decision_id"])
    )
    if decision is None or verdict == "unknowable":
        return {}
    if decision.team != handoff["team"]:
        return {"team": handoff["team"], "team_by": "transfer"}
    return {"team": handoff["team"], "team_by": "stayed"} if verdict == "needed" else {}
