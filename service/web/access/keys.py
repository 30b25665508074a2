"""Authentication and authorisation by API key (bearer token): keys, users, roles, workspaces.

A key is 32 random bytes, so its SHA-256 is stored alone. For ten minutes its secret is kept
encrypted with that of whoever made it, so that a repeated request gets the same answer; nothing
yields it afterwards.
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

from service.runtime.errors import Contradiction, Forbidden, Invalid, Unauthenticated
from service.runtime.ids import new_id
from service.store import access
from service.store.database.transactions import Store
from service.web.access.security_events import SecurityRecorder

ROLES = ("bot", "agent", "lead", "engineer", "admin", "connector")
"""Each reaches what those before it do; a connector, whose key is another system's, what an agent
does.
"""
FIRST_ROLES = ("bot", "agent", "lead", "engineer", "admin")
"""Roles of the keys that a new workspace begins with."""

RESERVED = frozenset(
    ("baton", "jobs", "mlflow", "upgrade", "retention", "command line", "silence", "audit")
)
"""Actors that are no person: nobody may be named so, or the ledger would tell of another."""

SIGN_IN = "OpenID Connect"
"""The maker of users who came by a provider's groups, and of the keys that sign-ins hang on."""

_RANK = {"bot": 0, "agent": 1, "connector": 1, "lead": 2, "engineer": 3, "admin": 4}
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

    def reaches(self, role: str) -> bool:
        return _RANK[self.role] >= _RANK[role]

    def require(self, role: str) -> None:
        """Authorise: raises Forbidden unless this role reaches `role`."""
        if not self.reaches(role):
            raise Forbidden(
                "role_too_low",
                f"this needs the role {role}; the key {self.name!r} has {self.role}",
                hint=f"use a key with the role {role} or above",
            )

    def acting_for(self, agent: str | None) -> str:
        """The person by whose name something is done: a connector may say for which agent of its
        system it acts. Raises Forbidden, Invalid.
        """
        if agent is None or agent == self.name:
            return self.name
        if self.role != "connector":
            raise Forbidden(
                "not_a_connector",
                f"the key {self.name!r} acts for its own holder only",
                hint="leave agent out, or use a key of role connector",
            )
        require_not_reserved(agent, "agent")
        return agent


def require_not_reserved(name: str, field: str) -> None:
    """Raises Invalid for a name that is Baton's own."""
    if name in RESERVED:
        raise Invalid(
            "reserved_name",
            f"{name!r} is Baton's own name",
            field=field,
            hint="choose another",
        )


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    return "bk_" + secrets.token_urlsafe(32)


def seal(secret: str, maker_secret: str) -> str:
    """A secret under a one-time pad that its maker's secret and a nonce make."""
    nonce = secrets.token_bytes(16)
    return nonce.hex() + _pad(secret.encode(), maker_secret, nonce).hex()


def unseal(sealed: str, maker_secret: str) -> str | None:
    """The sealed secret; None where another's secret sealed it. The key's hash proves it."""
    raw = bytes.fromhex(sealed)
    try:
        return _pad(raw[16:], maker_secret, raw[:16]).decode("ascii")
    except UnicodeDecodeError:
        return None


def _pad(text: bytes, maker_secret: str, nonce: bytes) -> bytes:
    digest = hmac.new(maker_secret.encode(), b"baton seal" + nonce, hashlib.sha512).digest()
    return bytes(a ^ b for a, b in zip(text, digest, strict=False))


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made: whose it is, who makes it, and until when it is good."""

    workspace: str
    role: str
    name: str
    made_by: str = "command line"
    expires_at: float | None = None
    maker_secret: str = ""
    """With it, a repeated request within ten minutes gets the same key."""


def issue_key(connection: Connection, new: NewKey, secret: str) -> dict[str, Any]:
    """Make a key, and the user whose it is; returns it as JSON, with its secret.

    Raises Contradiction for a name that another's live key has (bots may share theirs), Invalid for
    a reserved one.
    """
    require_not_reserved(new.name, "name")
    namesake = access.live_key_named(connection, new.workspace, new.name, SIGN_IN)
    if namesake is not None and not namesake.role == new.role == "bot":
        raise Contradiction(
            "name_in_use",
            f"a key of workspace {new.workspace!r} is already named {new.name!r}",
            field="name",
            hint="give each person a name of their own, or revoke the older key first",
        )
    return add_key(connection, new.workspace, new.role, new.name, secret, new)


def add_key(
    connection: Connection,
    workspace: str,
    role: str,
    name: str,
    secret: str,
    new: NewKey | None = None,
    made_by: str = "command line",
) -> dict[str, Any]:
    """Store a key by its hash, once; returns it as JSON, with its secret."""
    row = access.key_by_hash(connection, hashed(secret))
    if row is not None:
        return key_json(row._asdict()) | {"key": secret}
    now, made_by = time.time(), made_by if new is None else new.made_by
    values = {
        "id": new_id("k"),
        "workspace": workspace,
        "role": role,
        "name": name,
        "hash": hashed(secret),
        "created_at": now,
        "revoked_at": None,
        "expires_at": None if new is None else new.expires_at,
        "last_used_at": None,
        "made_by": made_by,
        "sealed": seal(secret, new.maker_secret) if new is not None and new.maker_secret else None,
    }
    access.add_key(connection, values)
    if role != "bot":
        user = {"workspace": workspace, "id": name, "name": name, "teams": [], "role": role}
        if not access.add_user(connection, user | {"made_by": made_by, "created_at": now}):
            access.change_user(connection, workspace, name, removed_at=None)
    return key_json(values) | {"key": secret}


def key_json(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("hash", "sealed")}


def no_key() -> Unauthenticated:
    return Unauthenticated(
        "no_key",
        "the request carries no key",
        field="Authorization",
        hint="send the header Authorization: Bearer <key>",
    )


class KeyAuthenticator:
    """Authenticator: from the Authorization header to a principal, cached for a second (LRU)."""

    def __init__(self, store: Store, recorder: SecurityRecorder) -> None:
        self._store = store
        self._recorder = recorder
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
        ended = row is not None and row.expires_at is not None and row.expires_at < time.time()
        if row is None or row.revoked_at is not None or ended:
            self._cache.pop(digest, None)
            raise Unauthenticated(
                "unknown_key",
                "the key is unknown, was revoked, or has expired",
                field="Authorization",
                hint="`baton key create` or POST /v1/keys makes one",
            )
        self._recorder.use(row.id)
        return Principal(row.id, row.workspace, row.role, row.name, row.hash)
