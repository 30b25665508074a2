"""Authentication and authorisation by API key (bearer token): keys, roles, workspaces.

A key is 32 random bytes, so its SHA-256 is stored alone. Keys that a request makes are derived
(HMAC) from the maker's own key and the request's id: a repeated request gets the same key again,
and nothing secret is ever stored.
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

_CACHE_SECONDS = 1.0
_CACHE_MAX = 1024


@dataclass(frozen=True, slots=True)
class Principal:
    """Principal: the holder of a key. `name` is how outcomes and claims call them."""

    key_id: str
    workspace: str
    role: str
    name: str
    secret_hash: str

    def require(self, role: str) -> None:
        """Authorise: raises Forbidden unless this role reaches `role`."""
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
    """Key derivation: the same request by the same maker gets the same secret."""
    digest = hmac.new(maker_secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()
    return "bk_" + digest


def add_key(
    connection: Connection, workspace: str, role: str, name: str, secret: str
) -> dict[str, Any]:
    """Store a key by its hash, once; returns it as JSON, with its secret."""
    row = access.key_by_hash(connection, hashed(secret))
    if row is None:
        values = {
            "id": new_id("k"),
            "workspace": workspace,
            "role": role,
            "name": name,
            "hash": hashed(secret),
            "created_at": time.time(),
            "revoked_at": None,
        }
        access.add_key(connection, values)
        return key_json(values) | {"key": secret}
    return key_json(row._asdict()) | {"key": secret}


def key_json(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "hash"}


def no_key() -> Unauthenticated:
    return Unauthenticated(
        "no_key",
        "the request carries no key",
        field="Authorization",
        hint="send the header Authorization: Bearer <key>",
    )


class KeyAuthenticator:
    """Authenticator: from the Authorization header to a principal, cached for a second (LRU)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    def admit(self, authorization: str | None) -> Principal:
        """Raises Unauthenticated for a missing, unknown or revoked key."""
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise no_key()
        digest = hashed(secret.strip())
        now = time.monotonic()
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > now:
            return cached[1]
        principal = self._look_up(digest)
        self._cache[digest] = (now + _CACHE_SECONDS, principal)
        while len(self._cache) > _CACHE_MAX:
            self._cache.popitem(last=False)
        return principal

    def forget(self) -> None:
        """Clear the cache, after a revocation: this process asks the database again at once."""
        self._cache.clear()

    def _look_up(self, digest: str) -> Principal:
        with self._store.read() as connection:
            row = access.key_by_hash(connection, digest)
        if row is None or row.revoked_at is not None:
            self._cache.pop(digest, None)
            raise Unauthenticated(
                "unknown_key",
                "the key is unknown or was revoked",
                field="Authorization",
                hint="`baton key create` or POST /v1/keys makes one",
            )
        return Principal(row.id, row.workspace, row.role, row.name, row.hash)
