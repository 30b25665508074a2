"""What is known of conversations: who could tell if a person was needed, and what they said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from learning.estimation.off_policy import Case, Source, Way
from service.store.reports import decision_history


@dataclass(frozen=True, slots=True)
class Truth:
    """See `learning.estimation.off_policy.Case`."""

    source: Source
    needed: bool | None
    propensity: float = 1.0
    certain: bool = False

    def of(self, way: Way) -> Case:
        return Case(way, self.source, self.needed, self.propensity, self.certain)


UNKNOWN = Truth("audit", None)


def truths_of(
    connection: Connection, workspace: str, names: Sequence[str]
) -> dict[str, Truth | None]:
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
    found: dict[str, Truth | None] = {}
    for row in decision_history.conversations(connection, workspace, names):
        if row.escalated:
            found[row.id] = Truth("person", judged.get(row.id))
        elif row.status != "closed":
            found[row.id] = None
        elif row.id in caught:
            found[row.id] = Truth("audit", caught[row.id], certain=True)
        elif row.verdict in ("missed", "fine"):
            found[row.id] = Truth("audit", row.verdict == "missed", row.propensity)
        else:
            found[row.id] = UNKNOWN
    return found
