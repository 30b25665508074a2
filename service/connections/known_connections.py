"""Connections as this process knows them: their configuration read, their secrets unsealed, for a
moment, so that a change is known everywhere soon.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache
from sqlalchemy import Connection

from service.connections.connection_secrets import resolve_secret, unseal
from service.connections.kinds.catalogue import KINDS
from service.connections.kinds.contract import Kind
from service.runtime.settings import Settings
from service.store.database.clock import database_time
from service.store.database.transactions import Store
from service.store.ledger import connection_rows

_ID = re.compile(r"x[0-9a-f]{10,40}")
KNOWN_SECONDS = 2.0
KNOWN_MAX = 256


@dataclass(frozen=True, slots=True)
class KnownConnection:
    """A connection that is on; `inbound` are the secrets that verify now."""

    id: str
    workspace: str
    name: str
    kind: Kind
    config: Any
    inbound: tuple[str, ...]

    def conversation_id(self, native: str) -> str:
        return conversation_id(self.kind.name, self.id, native)


def conversation_id(kind: str, connection_id: str, native: str) -> str:
    """Baton's id of a conversation that another system has."""
    return f"{kind}:{connection_id}:{native}"


class KnownConnections:
    """Cache of connections by id, for KNOWN_SECONDS."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._known: TTLCache[str, KnownConnection] = TTLCache(KNOWN_MAX, KNOWN_SECONDS)

    async def get(self, name: str) -> KnownConnection | None:
        """The connection, where it is on. Raises UnsealError, SecretReferenceError."""
        known = self._known.get(name)
        if known is None and _ID.fullmatch(name):
            known = await asyncio.to_thread(self._load, name)
            if known is not None:
                self._known[name] = known
        return known

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    def _load(self, name: str) -> KnownConnection | None:
        with self._store.read() as connection:
            return load(connection, self._settings, name)


def load(connection: Connection, settings: Settings, name: str) -> KnownConnection | None:
    row = connection_rows.by_id(connection, name)
    if row is None or row.disabled_at is not None or row.kind not in KINDS:
        return None
    kind = KINDS[row.kind]
    given = [unseal(settings, row.secrets).get(kind.inbound)]
    if row.previous_secret is not None and row.previous_until > database_time(connection):
        given.append(unseal(settings, row.previous_secret).get(kind.inbound))
    inbound = tuple(resolve_secret(settings, one) for one in given if one)
    config = kind.config.model_validate(row.config)
    return KnownConnection(row.id, row.workspace, row.name, kind, config, inbound)
