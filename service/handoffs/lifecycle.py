"""The life of a handoff: opened, claimed, given back or resolved; and what the bot hears of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import Policy
from service.runtime.errors import Contradiction, NotFound
from service.runtime.ids import new_id
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation, trigger_names
from service.store.handoffs import handoff_rows

OPEN = ("waiting", "claimed")
ENDED = ("resolved", "returned", "abandoned")
STATUSES = OPEN + ENDED


def lock_targets(workspace: str, name: str) -> Callable[[Connection], dict[str, list[str]]]:
    """What a request about a handoff needs locked: the conversation it belongs to.

    Without it, agents at two processes could both claim one handoff.
    """

    def find(connection: Connection) -> dict[str, list[str]]:
        row = handoff_rows.handoff(connection, workspace, name)
        return {} if row is None else {row.conversation_id: []}

    return find


def open_handoff(
    batch: Batch, working: OpenConversation, decision: Mapping[str, Any], policy: Policy
) -> dict[str, Any]:
    """Open a handoff at a decision; from here on the bot is silent.

    `promised_at` says when the team gets to it, if that is not at once.
    """
    row = {
        "id": new_id("h"),
        "workspace": working.workspace,
        "conversation_id": working.id,
        "decision_id": decision["id"],
        "begins": working.begins,
        "seq": decision["seq"],
        "by_rule": decision["by_rule"],
        "version": decision["version"],
        "fired": trigger_names(decision["triggers"]),
        "team": decision["team"],
        "priority": decision["priority"],
        "status": "waiting",
        "claimed_by": None,
        "opened_at": batch.now,
        "claimed_at": None,
        "claim_expires_at": None,
        "ended_at": None,
        "promised_at": estimated_start(
            batch.connection, working.workspace, decision["team"], policy, working.state.at
        ),
        "changed_at": batch.now,
    }
    handoff_rows.add(batch.connection, row)
    batch.happened(working, "handed_over", row["id"])
    working.handoff_id, working.escalated = row["id"], True
    working.version, working.team = decision["version"], decision["team"]
    batch.change(working)
    return _with_promise(
        {name: row[name] for name in ("id", "team", "priority")}, row["promised_at"]
    )


def estimated_start(
    connection: Connection, workspace: str, team: str, policy: Policy, at: float
) -> float | None:
    """When a team gets to one more handoff: by its hours, its pace and what waits for it."""
    known = policy.team(team)
    if known is None:
        return None
    return known.serves_at(
        at, handoff_rows.count_waiting(connection, workspace, team) if known.per_hour else 0
    )


def open_handoff_json(batch: Batch, working: OpenConversation) -> dict[str, Any] | None:
    """The open handoff of a conversation, as decisions show it."""
    if working.handoff_id is None:
        return None
    row = handoff_rows.handoff(batch.connection, working.workspace, working.handoff_id)
    return row and _handoff_json(row)


def _handoff_json(row: Any) -> dict[str, Any]:
    found = {"id": row.id, "team": row.team, "priority": row.priority}
    return _with_promise(found, row.promised_at)


def _with_promise(found: dict[str, Any], at: float | None) -> dict[str, Any]:
    """With the moment from which on the team is there, where it is not there now."""
    return (
        found
        if at is None
        else found | {"promised_at": datetime.fromtimestamp(at, UTC).isoformat()}
    )


def claim(batch: Batch, workspace: str, name: str, agent: str, seconds: float) -> dict[str, Any]:
    """Make a handoff one agent's own, or keep it so; a claim ends when its agent goes quiet."""
    row = _require_handoff(batch, workspace, name)
    if row["status"] not in OPEN:
        raise _handoff_over(row)
    expired = row["claim_expires_at"] is not None and row["claim_expires_at"] < batch.now
    if row["status"] == "claimed" and row["claimed_by"] != agent and not expired:
        raise Contradiction(
            "already_claimed",
            f"handoff {name!r} is claimed by {row['claimed_by']}",
            hint="take another from GET /v1/handoffs?status=waiting",
        )
    kept = row["status"] == "claimed" and row["claimed_by"] == agent
    changes = {
        "status": "claimed",
        "claimed_by": agent,
        "claimed_at": row["claimed_at"] if kept else batch.now,
        "claim_expires_at": batch.now + seconds,
    }
    handoff_rows.change(batch.connection, workspace, name, **changes)
    return row | changes


def extend_claim(batch: Batch, working: OpenConversation, seconds: float) -> None:
    """An agent wrote in the conversation: whoever claimed it has not gone quiet."""
    if working.handoff_id is None:
        return
    row = handoff_rows.handoff(batch.connection, working.workspace, working.handoff_id)
    if row is not None and row.status == "claimed":
        until = batch.now + seconds
        handoff_rows.change(batch.connection, working.workspace, row.id, claim_expires_at=until)


def end(batch: Batch, workspace: str, name: str, agent: str, status: str) -> dict[str, Any]:
    """Resolve a handoff, or return the conversation to the bot: either way the person leaves."""
    row = _require_handoff(batch, workspace, name)
    if row["status"] == status:
        return row
    if row["status"] not in OPEN:
        raise _handoff_over(row)
    if row["status"] == "claimed" and row["claimed_by"] != agent:
        raise Contradiction(
            "claimed_by_another",
            f"handoff {name!r} is claimed by {row['claimed_by']}",
            hint="its agent ends it, or claim it once the claim has expired",
        )
    return close(batch, row, status)


def close(batch: Batch, row: Mapping[str, Any], status: str) -> dict[str, Any]:
    """End an open handoff with any status: the conversation is the bot's again."""
    workspace, name = row["workspace"], row["conversation_id"]
    batch.open(workspace, {name: ()})
    working = batch.conversation(workspace, name)
    changes = {"status": status, "ended_at": batch.now, "claim_expires_at": None}
    handoff_rows.change(batch.connection, workspace, row["id"], **changes)
    if working.handoff_id == row["id"]:
        working.begins = batch.happened(working, "returned", row["id"]) + 1
        working.handoff_id = None
        batch.change(working)
    return dict(row) | changes


def expire(batch: Batch, workspace: str, waiting_seconds: float) -> None:
    """Claims of quiet agents wait again, and handoffs that nobody took in time are abandoned.

    Looked up first and then locked in order, so each is looked at again: its agent may have
    written meanwhile.
    """
    now, connection = batch.now, batch.connection
    late = (("claimed", "claim_expires_at", now), ("waiting", "opened_at", now - waiting_seconds))
    found = [row for one in late for row in handoff_rows.overdue(connection, *one, workspace)]
    batch.open(workspace, {row.conversation_id: () for row in found})
    for status, column, before in late:
        for row in found:
            again = handoff_rows.handoff(connection, workspace, row.id)
            if again is None or (row.status, again.status) != (status, status):
                continue
            if getattr(again, column) < before:
                if status == "claimed":
                    release(batch, again._asdict())
                else:
                    close(batch, again._asdict(), "abandoned")
    batch.flush()


def release(batch: Batch, row: Mapping[str, Any]) -> None:
    """A claim whose agent went quiet: the handoff waits again."""
    changes = {"status": "waiting", "claimed_by": None, "claimed_at": None}
    handoff_rows.change(
        batch.connection, row["workspace"], row["id"], **changes, claim_expires_at=None
    )


def answer_offer(
    batch: Batch,
    workspace: str,
    decision: Mapping[str, Any],
    accepted: bool,
    *,
    live: bool,
    policy: Policy,
) -> dict[str, Any]:
    """The customer's answer to an offer: a handoff if `live`, or a cool-down. No label either."""
    given = "accepted" if accepted else "declined"
    if decision["action"] != "offer":
        raise Contradiction(
            "not_an_offer",
            f"decision {decision['id']!r} was {decision['action']}, not an offer",
            hint="only decisions with action offer are answered",
        )
    if decision["answer"] not in (None, given):
        raise Contradiction(
            "answered_otherwise",
            f"decision {decision['id']!r} was {decision['answer']} before",
            field="accepted",
            hint="the first answer holds; score the customer's next message",
        )
    working = batch.conversation(workspace, decision["conversation_id"])
    if accepted and decision["answer"] is None and decision["seq"] < working.begins:
        raise Contradiction(
            "offer_passed",
            f"a person had the conversation since decision {decision['id']!r} offered one",
            field="accepted",
            hint="score the customer's next message",
        )
    if decision["answer"] is None:
        conversation_rows.record_answer(batch.connection, workspace, decision["id"], given)
        if not accepted:
            batch.happened(working, "declined", decision["id"])
        elif live and working.handoff_id is None:
            open_handoff(batch, working, decision, policy)
    opened = handoff_rows.of_decision(batch.connection, workspace, decision["id"])
    handoff = _handoff_json(opened) if opened is not None else open_handoff_json(batch, working)
    return {
        "decision_id": decision["id"],
        "answer": given,
        "handoff": handoff if accepted else None,
    }


def responsible_team(
    connection: Connection, said: str | None, verdict: str, handoff: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The team that a conversation belonged to, and how that is known; nothing where it is not.

    The agent's own word comes first, then where the handoff was moved to. One that stayed where it
    was routed says a little, if a person was needed there.
    """
    if said is not None:
        return {"team": said, "team_by": "agent"}
    if handoff is None:
        return {}
    decision = conversation_rows.decision(connection, handoff["workspace"], handoff["decision_id"])
    if decision is None or verdict == "unknowable":
        return {}
    if decision.team != handoff["team"]:
        return {"team": handoff["team"], "team_by": "transfer"}
    return {"team": handoff["team"], "team_by": "stayed"} if verdict == "needed" else {}


def _require_handoff(batch: Batch, workspace: str, name: str) -> dict[str, Any]:
    row = handoff_rows.handoff(batch.connection, workspace, name)
    if row is None:
        raise NotFound("no_handoff", f"there is no handoff {name!r} in this workspace")
    found: dict[str, Any] = row._asdict()
    return found


def _handoff_over(row: Mapping[str, Any]) -> Contradiction:
    return Contradiction(
        "handoff_over",
        f"handoff {row['id']!r} is already {row['status']}",
        hint="GET /v1/handoffs?status=waiting lists those that wait",
    )
