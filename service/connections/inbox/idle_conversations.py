"""Idle conversations of connections are closed by Baton's clock: many systems never say the end."""

from __future__ import annotations

import time

from pydantic import ValidationError

from service.connections.kinds.catalogue import KINDS
from service.handoffs import lifecycle
from service.store.conversations.batch import Batch, StateCache
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.ledger import connection_rows

HOUR_SECONDS = 3600.0
REMEMBERED_SECONDS = 7 * 86_400.0
AT_ONCE = 50
"""Conversations that are closed in one transaction."""


class IdleConversations:
    """Closes, as `unknown`, what nobody has written in for a connection's `idle_hours`, where no
    person has it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._closed_until: dict[str, float] = {}

    def close(self) -> None:
        with self._store.read() as connection:
            rows = connection_rows.enabled(connection)
        for row in rows:
            with isolate_errors(row.workspace):
                try:
                    config = KINDS[row.kind].config.model_validate(row.config)
                except (KeyError, ValidationError):
                    continue
                self._close_of(row.workspace, row.id, HOUR_SECONDS * config.idle_hours)

    def _close_of(self, workspace: str, connection_id: str, idle: float) -> None:
        until = time.time() - idle
        noted = until - connection_rows.HEARD_SECONDS
        after = self._closed_until.get(connection_id, noted - REMEMBERED_SECONDS)
        while True:
            with self._store.read() as connection:
                links = connection_rows.quiet_links(
                    connection, connection_id, after, noted, AT_ONCE
                )
            if not links:
                break
            with self._store.write() as connection:
                batch = Batch(connection, StateCache())
                names = [link.conversation_id for link in links]
                batch.open(workspace, dict.fromkeys(names, ()))
                for name in names:
                    conversation = batch.conversation(workspace, name)
                    is_quiet = conversation.length and conversation.last_at <= until
                    if is_quiet and conversation.handoff_id is None:
                        lifecycle.close_conversation(batch, conversation, "unknown")
                batch.flush()
                batch.remove_unused_conversations()
            after = self._closed_until[connection_id] = links[-1].heard_at
