"""What Baton refuses, and why: each error says what to do next.

`STATUS` is the one table from error to HTTP status.
"""

from __future__ import annotations


class Refusal(Exception):
    """A request that cannot be carried out; nothing of it was written."""

    def __init__(
        self, code: str, message: str, *, field: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.hint = code, message, field, hint


class Invalid(Refusal, ValueError):
    """The request's content is out of shape or bounds."""


class TooLarge(Refusal, ValueError):
    """The request is larger than a limit."""


class Unauthenticated(Refusal, PermissionError):
    """No key, or one that is unknown or revoked."""


class Forbidden(Refusal, PermissionError):
    """The key's role does not reach this."""


class Missing(Refusal, LookupError):
    """There is no such thing in this workspace."""


class Contradiction(Refusal, ValueError):
    """The request contradicts what is already recorded."""


class Slow(Refusal, TimeoutError):
    """The client did not send its request in time."""


class Busy(Refusal, TimeoutError):
    """Not now: try again after `retry_after` seconds."""

    retry_after = 1


class TooMany(Busy):
    """Too many tries by one sender: wait before the next."""

    retry_after = 60


def away() -> Busy:
    """The database is gone, locked, full or too slow; nothing of the request is known to stay."""
    return Busy("database", "the database does not answer", hint="send it again")


STATUS: dict[type[Refusal], int] = {
    Invalid: 422,
    TooLarge: 413,
    Unauthenticated: 401,
    Forbidden: 403,
    Missing: 404,
    Contradiction: 409,
    Slow: 408,
    Busy: 503,
    TooMany: 429,
}
