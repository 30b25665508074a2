"""Sessions of the console: cookies, CSRF tokens of forms, and a limit of failed sign-ins.

An agent's key is exchanged for a cookie of 32 random bytes; its SHA-256 is stored alone, so every
replica knows it. A session ends when it is signed out, after a working day, or with its key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from service.runtime.errors import TooManyAttempts
from service.store import access
from service.web.access.keys import Principal, hashed

SESSION_SECONDS = 12 * 3600
"""A long shift; then the key is asked for again."""

SESSIONS_MAX = 20
"""Sessions of one key; signing in once more ends the oldest."""

FAILURES_MAX, FAILURES_SECONDS = 10, 60.0
"""Keys that an address may get wrong before it has to wait."""

_ADDRESSES_MAX = 4096
_COOKIE_CHARS_MAX = 100


def cookie_name(*, is_secure: bool) -> str:
    """Over https, a name that browsers accept from this very host only, and only encrypted."""
    return "__Host-baton" if is_secure else "baton"


def cookie_of(cookies: Mapping[str, str], *, is_secure: bool) -> str:
    """The session's cookie among those of a request; empty if there is none."""
    return cookies.get(cookie_name(is_secure=is_secure), "")


def new_cookie() -> str:
    return secrets.token_urlsafe(32)


def begin(connection: Connection, principal: Principal, cookie: str, now: float) -> None:
    """Start a session of a key, known by its cookie from here on."""
    row: dict[str, Any] = {
        "hash": hashed(cookie),
        "key_id": principal.key_id,
        "created_at": now,
        "expires_at": now + SESSION_SECONDS,
    }
    access.add_session(connection, row, SESSIONS_MAX)


def session_holder(connection: Connection, cookie: str) -> Principal | None:
    """Who signed in with this cookie; None if it is unknown, over, or its key was revoked."""
    if not cookie or len(cookie) > _COOKIE_CHARS_MAX:
        return None
    row = access.key_of_session(connection, hashed(cookie), time.time())
    return row and Principal(row.id, row.workspace, row.role, row.name, row.hash)


def form_token(cookie: str) -> str:
    """CSRF token: what a form must carry so that only this session's pages can send it."""
    return hmac.new(cookie.encode(), b"form", hashlib.sha256).hexdigest()


def is_token_of(token: str, cookie: str) -> bool:
    return hmac.compare_digest(token.encode(), form_token(cookie).encode())


class SignInFailures:
    """Rate limit of failed sign-ins by address, in this process; the memory of it is bounded."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str, now: float) -> None:
        """Raises TooMany for an address that has tried too many wrong keys of late."""
        recent = [at for at in self._times.get(address, ()) if at > now - FAILURES_SECONDS]
        if len(recent) >= FAILURES_MAX:
            raise TooManyAttempts(
                "too_many_attempts",
                f"{FAILURES_MAX} wrong keys came from this address",
                hint=f"wait {FAILURES_SECONDS:.0f} seconds, then try again",
            )

    def count(self, address: str, now: float) -> None:
        """A wrong key came from this address."""
        recent = [at for at in self._times.pop(address, ()) if at > now - FAILURES_SECONDS]
        self._times[address] = [*recent, now][-FAILURES_MAX:]
        while len(self._times) > _ADDRESSES_MAX:
            self._times.popitem(last=False)
