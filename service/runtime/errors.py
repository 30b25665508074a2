"""Error types of requests that are refused, with code, message, field and hint (what to do next).

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
    """422: the request's content does not validate."""


class TooLarge(RequestRefused, ValueError):
    """413: the request is larger than a limit."""


class HeadTooLarge(RequestRefused, ValueError):
    """431: the request's line and headers are larger than a limit."""


class Unauthenticated(RequestRefused, PermissionError):
    """401: no key, or one that is unknown or revoked."""


class Forbidden(RequestRefused, PermissionError):
    """403: the key's role does not permit this."""


class NotFound(RequestRefused, LookupError):
    """404: there is no such thing in this workspace."""


class Contradiction(RequestRefused, ValueError):
    """409 Conflict: the request contradicts what is already recorded."""


class BodyTimeout(RequestRefused, TimeoutError):
    """408: the client did not send its request in time."""


class Unavailable(RequestRefused, TimeoutError):
    """503: try again after `retry_after` seconds."""

    retry_after = 1


class TooManyAttempts(Unavailable):
    """429: too many attempts by one sender (rate limit)."""

    retry_after = 60


class RateLimited(Unavailable):
    """429: a key asks for more than its share (token bucket, concurrency); `limit` is which one, as
    RateLimit-* tell it: the limit, what is left, and the seconds until all is there again.
    """

    limit: tuple[int, int, int] | None = None


def database_unavailable() -> Unavailable:
    """The refusal for a database that is gone, locked, full or too slow; it is not known that
    anything of the request was written.
    """
    return Unavailable("database", "the database does not answer", hint="send it again")


def disk_full() -> Unavailable:
    """The refusal while the database cannot be written for want of room."""
    return Unavailable("disk_full", "the disk of the database is full", hint="send it again later")


DOCTOR_HINT = "`baton doctor` on the server says what is wrong and how to mend it"


class SchemaMismatch(RequestRefused, RuntimeError):
    """The database's tables are not this build's: sent again it fails again."""


def schema_mismatch() -> SchemaMismatch:
    return SchemaMismatch("schema", "the database's tables are not this build's", hint=DOCTOR_HINT)


class WorkspaceBroken(Unavailable):
    """A workspace cannot be stood in; all others are served."""

    retry_after = 5


def workspace_broken(workspace: str) -> WorkspaceBroken:
    what = f"workspace {workspace!r} is broken and not served; nothing was recorded"
    return WorkspaceBroken("workspace_broken", what, hint=DOCTOR_HINT)


HTTP_STATUS: dict[type[RequestRefused], int] = {
    Invalid: 422,
    TooLarge: 413,
    HeadTooLarge: 431,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Contradiction: 409,
    BodyTimeout: 408,
    Unavailable: 503,
    TooManyAttempts: 429,
    RateLimited: 429,
    WorkspaceBroken: 503,
    SchemaMismatch: 500,
}
