"""Labels inferred from events of other systems: kept beside what people state, and learned from, as
far as those agree, by `jobs`.

Stated stands over observed, observed over rated, whatever came first.
"""

from __future__ import annotations

from typing import Any

from learning.estimation.inferred_labels import KINDS, share_needed
from learning.ledger.lessons import RATED
from service.outcomes import record_outcome
from service.outcomes.verdict import BATON, Verdict
from service.runtime.errors import RequestRefused
from service.runtime.ids import fingerprint
from service.store.conversations.batch import Batch, OpenConversation, StateCache
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.labels import inferred_rows, outcome_rows
from service.store.ledger import entries

AT_ONCE = 50
"""Labels that are learned in one transaction."""


def infer(
    batch: Batch,
    conversation: OpenConversation,
    kind: str,
    message_id: str,
    handoff_id: str | None = None,
) -> None:
    """Note what an event suggests of a message, once for each handoff or kept conversation."""
    name = fingerprint([conversation.workspace, conversation.id, handoff_id, kind])
    row = {
        "id": name,
        "workspace": conversation.workspace,
        "conversation_id": conversation.id,
        "handoff_id": handoff_id,
        "kind": kind,
        "message_id": message_id,
        "outcome_id": None,
        "at": batch.now,
    }
    inferred_rows.add(batch.connection, row)


class InferredLabels:
    """Learns from inferred labels where enough stated ones stand beside them, and takes back what
    a person has spoken of since.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def learn(self) -> None:
        with self._store.read() as connection:
            workspaces = list(entries.workspaces(connection))
        for workspace in workspaces:
            with isolate_errors(workspace):
                self._learn_in(workspace)

    def _learn_in(self, workspace: str) -> None:
        with self._store.read() as connection:
            counts = inferred_rows.counts(connection, workspace)
            shares = {name: share_needed(counts.get(name, {})) for name in KINDS}
            believed = [name for name, share in shares.items() if share is not None]
            due = list(inferred_rows.untaught(connection, workspace, believed, AT_ONCE))
            overruled = inferred_rows.overruled(connection, workspace, AT_ONCE)
        if not due and not overruled:
            return
        due.sort(key=lambda row: KINDS[row.kind].source)
        with self._store.write() as connection:
            batch = Batch(connection, StateCache())
            for row in overruled:
                record_outcome.retract(batch, workspace, row.outcome_id, BATON)
            for row in due:
                self._teach(batch, row, shares[row.kind] or 0.0)
            batch.flush()

    def _teach(self, batch: Batch, row: Any, share: float) -> None:
        """Record what a label teaches; nothing where a stronger one has taught already, or its
        message was not scored.
        """
        source, workspace = KINDS[row.kind].source, row.workspace
        current = outcome_rows.current(batch.connection, workspace, row.conversation_id, None)
        if current is not None and (source == RATED or current.source not in ("silence", RATED)):
            inferred_rows.change(batch.connection, row.id, outcome_id="")
            return
        labels = ((row.message_id, share, 1.0),)
        verdict = Verdict("labels", source, BATON, reason=row.kind, labels=labels)
        try:
            outcome = record_outcome.record_for_conversation(
                batch, workspace, row.conversation_id, verdict
            )
        except RequestRefused:
            inferred_rows.change(batch.connection, row.id, outcome_id="")
            return
        inferred_rows.change(batch.connection, row.id, outcome_id=outcome["id"])
