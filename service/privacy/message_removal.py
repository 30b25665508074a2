"""Erasure of one message: the customer took it back, so its words go, and what was learned of them.

Its place stays, empty, and later turns are folded as if nothing had been said there. Outcomes about
it are void, as at the erasure of a conversation, and the ledger has an entry that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from service.privacy.erasure import checkpoint_past
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.conversations.message_versions import require_versions
from service.store.database.transactions import Store
from service.store.labels import outcome_rows
from service.store.ledger import entries

ATTEMPTS_MAX = 5
"""Attempts to save the model past the outcomes, each repeated because one came in between."""

REMOVED_REASON = "the customer removed the words that showed it"


@dataclass(frozen=True, slots=True)
class Removal:
    """A message of a conversation that its customer took back; `actor` is whose key said so."""

    workspace: str
    conversation_id: str
    message_id: str
    actor: str

    @property
    def needs(self) -> dict[str, list[str]]:
        """What it locks."""
        return {self.conversation_id: [self.message_id]}

    def prepare(self, store: Store) -> tuple[int, int]:
        """Save the serving model past the outcomes about the message; gives switch, position."""

        def positions(connection: Connection, workspace: str) -> Sequence[int]:
            versions = conversation_rows.versions(
                connection, workspace, self.conversation_id, self.message_id
            )
            return _void_outcomes(connection, self, versions) if versions else ()

        return checkpoint_past(store, self.workspace, positions)

    def remove(self, batch: Batch, saved: tuple[int, int]) -> Mapping[str, Any] | None:
        """Remove the message; idempotent. None where outcomes came that were not `saved` past.

        Raises NotFound, and Contradiction for a message that is not the customer's.
        """
        conversation = batch.conversation(self.workspace, self.conversation_id)
        batch.flush()
        versions = require_versions(
            batch.connection, self.workspace, self.conversation_id, self.message_id
        )
        answer = {"conversation_id": self.conversation_id, "message_id": self.message_id}
        if versions[-1].removed is not None:
            return answer | {"position": versions[-1].removed}
        entries.lock_head(batch.connection, self.workspace)
        positions = _void_outcomes(batch.connection, self, versions)
        line = entries.switches(batch.connection, self.workspace)[-1].position
        if positions and (line, positions[-1]) > saved:
            return None
        body = {
            "conversation_id": self.conversation_id,
            "message_id": self.message_id,
            "replaces_all": list(positions),
        }
        position = entries.append(batch.connection, self.workspace, "erasure", body, self.actor)
        batch.remove_words(conversation, self.message_id, [row.seq for row in versions], position)
        self._remove_quotations(batch.connection, versions[0].seq)
        return answer | {"position": position}

    def _remove_quotations(self, connection: Connection, first: int) -> None:
        """Let no decision from a place on quote words: later ones may quote several messages."""
        for row in conversation_rows.decisions(connection, self.workspace, self.conversation_id):
            if row.seq >= first:
                reasons = [_without_words(reason) for reason in row.reasons]
                conversation_rows.write_reasons(connection, self.workspace, row.id, reasons)


def _void_outcomes(
    connection: Connection, removal: Removal, versions: Sequence[Any]
) -> Sequence[int]:
    """The positions of outcomes that cover a message, also of those since corrected, in order."""
    first, positions = versions[0].seq, set[int]()
    read = partial(entries.entry, connection, removal.workspace)
    for row in outcome_rows.of_conversation(connection, removal.workspace, removal.conversation_id):
        entry = read(row.position)
        while entry is not None:
            if entry.kind == "outcome" and entry.body["covers"] >= first:
                positions.add(entry.position)
            replaced = entry.body.get("replaces")
            entry = None if replaced is None else read(replaced)
    return sorted(positions)


def _without_words(reason: Mapping[str, Any]) -> Mapping[str, Any]:
    """A reason without a quotation; one that quotes nothing stays."""
    params = reason.get("params", {})
    if "quote" not in params and "causes" not in params:
        return reason
    left = {name: value for name, value in params.items() if name not in ("quote", "causes")}
    return {**reason, "params": left, "text": REMOVED_REASON}
