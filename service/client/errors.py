"""Exceptions of the client: a request that was refused, and one that nobody answered."""

from __future__ import annotations

from typing import Any


class BatonError(Exception):
    """Whatever Baton did not do as it was asked."""


class NotAnsweredError(BatonError):
    """No answer within the deadline, or none but "later": the request may be sent again."""


class RefusedError(BatonError):
    """Baton refused the request, and wrote nothing: `code` is for programs, `hint` for people."""

    def __init__(self, status: int, error: dict[str, Any], request: str) -> None:
        self.status = status
        self.code = str(error.get("code", ""))
        self.message = str(error.get("message", ""))
        self.field: str | None = error.get("field")
        self.hint: str | None = error.get("hint")
        hint = f"; {self.hint}" if self.hint else ""
        super().__init__(f"{request}: {status} {self.code}: {self.message}{hint}")


class ConflictError(RefusedError):
    """409: it contradicts what was recorded before; to send it again is in vain."""
