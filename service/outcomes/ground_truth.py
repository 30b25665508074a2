"""Ground truth per conversation: label, its source (agent, audit, complaint) and its propensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from learning.estimation.off_policy import Action, LoggedConversation, Source
from learning.ledger.lessons import WEAK_SOURCES
from service.store.reports import decision_history


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Label, source and propensity; see `learning.estimation.off_policy.LoggedConversation`."""

    source: Source
    needed: bool | None
    propensity: float = 1.0
    certain: bool = False

    def of(self, action: Action) -> LoggedConversation:
        return LoggedConversation(action, self.source, self.needed, self.propensity, self.certain)


UNKNOWN = GroundTruth("audit", None)


def ground_truth(
    connection: Connection, workspace: str, names: Sequence[str]
) -> dict[str, GroundTruth | None]:
    """The ground truth of each conversation by id; None while it is not over.

    `needed` is None where no label is known.
    """
    needed: dict[str, bool] = {}
    missed: dict[str, bool] = {}
    for row in decision_history.verdicts(connection, workspace, names):
        if row.handoff_id is not None:
            if row.verdict in ("needed", "not_needed"):
                needed_before = needed.get(row.conversation_id, False)
                needed[row.conversation_id] = needed_before or row.verdict == "needed"
        elif row.source not in ("audit", *WEAK_SOURCES) and row.verdict in ("missed", "fine"):
            missed[row.conversation_id] = row.verdict == "missed"
    truths: dict[str, GroundTruth | None] = {}
    for row in decision_history.conversations(connection, workspace, names):
        if row.escalated:
            truths[row.id] = GroundTruth("person", needed.get(row.id))
        elif row.status != "closed":
            truths[row.id] = None
        elif row.id in missed:
            truths[row.id] = GroundTruth("audit", missed[row.id], certain=True)
        elif row.verdict in ("missed", "fine"):
            truths[row.id] = GroundTruth("audit", row.verdict == "missed", row.propensity)
        else:
            truths[row.id] = UNKNOWN
    return truths
