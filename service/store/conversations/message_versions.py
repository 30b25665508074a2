"""Versions of a customer's message: as it was sent, and as it was edited, each at its own place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from service.runtime.errors import Contradiction, NotFound
from service.store.conversations import conversation_rows


def require_versions(
    connection: Connection, workspace: str, conversation: str, name: str
) -> Sequence[Any]:
    """A customer's message and the newer versions of it. Raises NotFound, Contradiction."""
    versions = conversation_rows.versions(connection, workspace, conversation, name)
    if not versions or versions[0].edits is not None:
        raise NotFound(
            "no_message",
            f"conversation {conversation!r} has no message {name!r}",
            hint=f"GET /v1/conversations/{conversation} lists its messages"
            if not versions
            else f"it is a newer version of {versions[0].edits!r}: name that",
        )
    if versions[0].author != "user":
        raise Contradiction(
            "not_the_customers",
            f"message {name!r} is of the {versions[0].author}: only the customer's are changed",
            hint="what bots, agents and systems said stays as it was said",
        )
    return versions
