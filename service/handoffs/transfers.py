"""Transfer of a handoff to another team, where it waits by its age.

The labels do not change by it: the decision keeps the team it suggested, the handoff has the new
one, and the outcome says to which it belonged.
"""

from __future__ import annotations

from typing import Any

from learning.decision.policy import Policy
from service.handoffs import notes
from service.handoffs.lifecycle import estimated_start
from service.handoffs.status import OPEN
from service.runtime.errors import Contradiction, Invalid, NotFound
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows


def transfer(
    batch: Batch,
    policy: Policy,
    workspace: str,
    name: str,
    agent: str,
    team: str,
    note: str | None = None,
) -> dict[str, Any]:
    """Transfer a handoff to a team, where it waits by its age. Idempotent.

    Raises Contradiction when it is over or claimed by another, Invalid for an unknown team.
    """
    handoff = handoff_rows.handoff(batch.connection, workspace, name)
    if handoff is None:
        raise NotFound("no_handoff", f"there is no handoff {name!r} in this workspace")
    row: dict[str, Any] = handoff._asdict()
    if row["status"] not in OPEN:
        raise Contradiction(
            "handoff_over",
            f"handoff {name!r} is already {row['status']}",
            hint="GET /v1/handoffs?status=waiting lists those that wait",
        )
    if row["status"] == "claimed" and row["claimed_by"] != agent:
        raise Contradiction(
            "claimed_by_another",
            f"handoff {name!r} is claimed by {row['claimed_by']}",
            hint="its agent transfers it, or claim it once the claim has expired",
        )
    if team not in policy.team_names:
        raise Invalid(
            "unknown_team",
            f"there is no team {team!r}",
            field="team",
            hint=f"the policy speaks of {', '.join(policy.team_names)}",
        )
    if (row["status"], row["team"]) == ("waiting", team):
        return row
    notes.append_note(batch, row, agent, text=note or None, team=team)
    changes = {
        "team": team,
        "status": "waiting",
        "claimed_by": None,
        "claimed_at": None,
        "claim_expires_at": None,
        "promised_at": estimated_start(batch.connection, workspace, team, policy, batch.now),
    }
    handoff_rows.change(batch.connection, workspace, name, **changes)
    conversation = batch.conversation(workspace, row["conversation_id"])
    conversation.team = team
    batch.change(conversation)
    return row | changes
