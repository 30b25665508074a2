"""Receiving: a request is verified on its raw bytes, and becomes entries of the inbox."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from service.connections.kinds.contract import (
    Arrived,
    NotUnderstoodError,
    NotVerifiedError,
    safe_id,
)
from service.connections.known_connections import KnownConnection
from service.runtime.errors import Invalid, Unauthenticated
from service.runtime.ids import new_id

DEPTH_MAX = 50
NATIVE_CHARS_MAX = 120
"""A conversation's id in another system, its account's with it."""


def receive(known: KnownConnection, headers: Mapping[str, str], raw: bytes, now: float) -> Arrived:
    """What a request holds. Raises Unauthenticated, Invalid: then nothing of it is kept."""
    if not known.inbound:
        raise Unauthenticated(
            "no_secret",
            "the connection has no secret to verify by",
            hint=f"PATCH /v1/connections/{known.id} with {known.kind.inbound}",
        )
    try:
        verified = known.kind.verify(headers, raw, known.inbound, now, known.config)
        return known.kind.arrive(verified, known.config)
    except NotVerifiedError as error:
        hint = "compare the secret of the connection with the other system's"
        raise Unauthenticated("not_verified", str(error), hint=hint) from error
    except NotUnderstoodError as error:
        raise Invalid("not_understood", str(error), hint="send what this kind sends") from error


def storable(value: Any, depth: int = 0) -> Any:
    """JSON without what no database takes: NUL, half characters, no numbers, endless depth."""
    if isinstance(value, str):
        if value.isascii() and "\x00" not in value:
            return value
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if not isinstance(value, dict | list):
        return value
    if depth >= DEPTH_MAX:
        return None
    if isinstance(value, list):
        return [storable(one, depth + 1) for one in value]
    return {storable(name): storable(one, depth + 1) for name, one in value.items()}


def inbox_rows_of(known: KnownConnection, arrived: Arrived, now: float) -> list[dict[str, Any]]:
    """The entries of a request. What is said to have happened later than now happened now."""
    rows = []
    for one in arrived.arrivals:
        native = one.conversation
        if len(native) > NATIVE_CHARS_MAX and not one.is_own_id:
            native = safe_id(native)
        at = now if one.occurred_at is None else min(one.occurred_at, now)
        rows.append(
            {
                "id": new_id("i"),
                "workspace": known.workspace,
                "connection_id": known.id,
                "key": one.key,
                "conversation_id": native if one.is_own_id else known.conversation_id(native),
                "occurred_at": at,
                "event": {"native": native, "event": storable(dict(one.event))},
                "status": "waiting",
                "error": None,
                "at": now,
                "done_at": None,
            }
        )
    return rows
