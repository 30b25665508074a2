"""Originals of redacted messages: kept encrypted by BATON_SECRET_KEY where the policy asks for it,
shown to agents only where it says so, and removed with the words they belong to.
"""

from __future__ import annotations

from sqlalchemy import Connection

from learning.decision.policy import Policy
from service.runtime.errors import Forbidden, Invalid, NotFound
from service.runtime.sealing import Sealer, UnsealError
from service.runtime.settings import Settings
from service.store.conversations import original_rows


def require_key(policy: Policy, settings: Settings) -> None:
    """Nothing is kept sealed by a key that lies beside it. Raises Invalid."""
    if policy.redaction.originals != "none" and not settings.secret_key:
        raise Invalid(
            "no_secret_key",
            "originals are encrypted by BATON_SECRET_KEY, which is not set",
            field="redaction.originals",
            hint="give every process the same BATON_SECRET_KEY, then set the policy again",
        )


def require_shown(policy: Policy) -> None:
    """Raises Forbidden where the policy shows originals to nobody."""
    if policy.redaction.originals != "agents":
        raise Forbidden(
            "originals_not_shown",
            "the policy shows the originals of redacted messages to nobody",
            hint="an engineer can set redaction.originals to agents",
        )


def originals(
    connection: Connection, settings: Settings, workspace: str, conversation: str
) -> dict[str, str]:
    """The originals of a conversation's redacted messages, by message; those that this
    installation's key opens.
    """
    rows = original_rows.sealed(connection, workspace, conversation)
    if not rows or not settings.secret_key:
        return {}
    sealer, opened = Sealer(settings.secret_key), {}
    for message, sealed in rows.items():
        try:
            opened[message] = sealer.unseal(sealed)
        except UnsealError:
            continue
    return opened


def original(
    connection: Connection, settings: Settings, workspace: str, conversation: str, message: str
) -> str:
    """The original of one message. Raises NotFound."""
    text = originals(connection, settings, workspace, conversation).get(message)
    if text is None:
        raise NotFound(
            "no_original",
            f"no original of message {message!r} is kept that this installation's key opens",
            hint="only of messages redacted since redaction.originals was set",
        )
    return text
