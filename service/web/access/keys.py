"""Who asks: keys, roles and workspaces.

A key is 32 random bytes, so its SHA-256 is enough to keep. Keys that a request makes are derived
from the maker's own key and the request's id: a repeated request gets the same key again, and
nothing secret is ever stored.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from service.runtime.errors import Forbidden, Unauthenticated
from service.runtime.ids import new_id
from service.store import access
from service.store.database.transactions import Store

ROLES = ("bot", "agent", "engineer", "admin")

_REMEMBERED_SECONDS = 1.0
_REMEMBERED_MAX = 1024


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a key. `name` is how outcomes and claims call them."""

    key_id: str
    workspace: str
    role: str
    name: str
    secret_hash: str

    def require(self, role: str) -> None:
        """Raises Forbidden unless this role reaches `role`."""
        if ROLES.index(self.role) < ROLES.index(role):
            raise Forbidden(
                "role_too_low",
                f"this needs the role {role}; the key {self.name!r} has {self.role}",
                hint=f"use a key with the role {role} or above",
            )


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    return "bk_" + secrets.token_urlsafe(32)


def derived_secret(maker_secret: str, purpose: str) -> str:
    """The secret of a key made by a request: the same request by the same maker, the same key."""
    found = hmac.new(maker_secret.encode(), purpose.encode(), hashlib.sha256).digest()
    return "bk_" + found.hex()


def add_key(
    connection: Connection, workspace: str, role: str, name: str, secret: str
) -> dict[str, Any]:
    """Store a key by its hash, once; gives it as the API shows it."""
    row = access.key_by_hash(connection, hashed(secret))
    if row is None:
        made = {
            "id": new_id("k"),
            "workspace": workspace,
            "role": role,
            "name": name,
            "hash": hashed(secret),
            "created_at": time.time(),
            "revoked_at": None,
        }
        access.add_key(connection, made)
        return key_json(made) | {"key": secret}
    return key_json(row._asdict()) | {"key": secret}


def key_json(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "hash"}


class KeyAuthenticator:
    """From the Authorization header to a principal; remembers the answer for a second."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    def admit(self, authorization: str | None) -> Principal:
        """Raises Unauthenticated for a missing, unknown or revoked key."""
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthenticated(
                "no_key",
                "the request carries no key",
                field="Authorization",
                hint="send the header Authorization: Bearer <key>",
            )
        found = hashed(secret.strip())
        now = time.monotonic()
        known = self._known.get(found)
        if known is not None and known[0] > now:
            return known[1]
        principal = self._look_up(found)
        self._known[found] = (now + _REMEMBERED_SECONDS, principal)
        while len(self._known) > _REMEMBERED_MAX:
            self._known.popitem(last=False)
        return principal

    def forget(self) -> None:
        """After a revocation: this process asks the database again at once."""
        self._known.clear()

    def _look_up(self, found: str) -> Principal:
        with self._store.read() as connection:
            row = access.key_by_hash(connection, found)
        if row is None or row.revoked_at is not None:
            self._known.pop(found, None)
            raise Unauthenticated(
                "unknown_key",
                "the key is unknown or was revoked",
                field="Authorization",
                hint="`baton key create` or POST /v1/keys makes one",
            )
        return Principal(row.id, row.workspace, row.role, row.name, row.hash)
