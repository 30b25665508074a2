"""What Baton refuses, and why: each error says what to do next.

`HTTP_STATUS` is the one table from error to HTTP status.
"""

from __future__ import annotations


class RequestRefused(Exception):
    """A request that cannot be carried out; nothing of it was written."""

    def __init__(
        self, code: str, message: str, *, field: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.hint = code, message, field, hint


class Invalid(RequestRefused, ValueError):
    """The request's content is out of shape or bounds."""


class TooLarge(RequestRefused, ValueError):
    """The request is larger than a limit."""


class Unauthenticated(RequestRefused, PermissionError):
    """No key, or one that is unknown or revoked."""


class Forbidden(RequestRefused, PermissionError):
    """The key's role does not reach this."""


class NotFound(RequestRefused, LookupError):
    """There is no such thing in this workspace."""


class Contradiction(RequestRefused, ValueError):
    """The request contradicts what is already recorded."""


class BodyTimeout(RequestRefused, TimeoutError):
    """The client did not send its request in time."""


class Unavailable(RequestRefused, TimeoutError):
    """Not now: try again after `retry_after` seconds."""

    retry_after = 1


class TooManyAttempts(Unavailable):
    """Too many tries by one sender: wait before the next."""

    retry_after = 60


def database_unavailable() -> Unavailable:
    """The database is gone, locked, full or too slow; nothing of the request is known to stay."""
    return Unavailable("database", "the database does not answer", hint="send it again")


HTTP_STATUS: dict[type[RequestRefused], int] = {
    Invalid: 422,
    TooLarge: 413,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Contradiction: 409,
    BodyTimeout: 408,
    Unavailable: 503,
    TooManyAttempts: 429,
}
