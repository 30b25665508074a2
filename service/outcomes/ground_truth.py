"""What is known of conversations: who could tell if a person was needed, and what they said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from learning.estimation.off_policy import Action, LoggedConversation, Source
from service.store.reports import decision_history


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """See `learning.estimation.off_policy.LoggedConversation`."""

    source: Source
    needed: bool | None
    propensity: float = 1.0
    certain: bool = False

    def of(self, way: Action) -> LoggedConversation:
        return LoggedConversation(way, self.source, self.needed, self.propensity, self.certain)


UNKNOWN = GroundTruth("audit", None)


def ground_truth(
    connection: Connection, workspace: str, names: Sequence[str]
) -> dict[str, GroundTruth | None]:
    """Of each conversation what is known of its truth; None while it is not over."""
    judged: dict[str, bool] = {}
    caught: dict[str, bool] = {}
    for row in decision_history.verdicts(connection, workspace, names):
        if row.handoff_id is not None:
            if row.verdict in ("needed", "not_needed"):
                known = judged.get(row.conversation_id, False)
                judged[row.conversation_id] = known or row.verdict == "needed"
        elif row.source not in ("audit", "silence") and row.verdict in ("missed", "fine"):
            caught[row.conversation_id] = row.verdict == "missed"
    found: dict[str, GroundTruth | None] = {}
    for row in decision_history.conversations(connection, workspace, names):
        if row.escalated:
            found[row.id] = GroundTruth("person", judged.get(row.id))
        elif row.status != "closed":
            found[row.id] = None
        elif row.id in caught:
            found[row.id] = GroundTruth("audit", caught[row.id], certain=True)
        elif row.verdict in ("missed", "fine"):
            found[row.id] = GroundTruth("audit", row.verdict == "missed", row.propensity)
        else:
            found[row.id] = UNKNOWN
    return found
