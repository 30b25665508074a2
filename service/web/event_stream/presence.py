"""Presence, read: who is in the console now, and at which conversation. It expires by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection

from service.store import access

HERE_SECONDS = 50.0
"""Whoever was seen so lately is here: a quiet page asks every 15 s, and that is written later."""


def present(connection: Connection, workspace: str) -> dict[str, list[str]]:
    """Who is here, by place: a handoff's id, or nothing for the console at all."""
    places: dict[str, list[str]] = {"": []}
    for user_id, place in access.present(connection, workspace, time.time() - HERE_SECONDS):
        places.setdefault(place, []).append(user_id)
    places[""] = sorted({name for names in places.values() for name in names})
    return places


def looking(connection: Connection, workspace: str, place: str, besides: str) -> Sequence[str]:
    """Who else is at a handoff's page."""
    since = time.time() - HERE_SECONDS
    rows = access.present(connection, workspace, since, place)
    return [user_id for user_id, _ in rows if user_id != besides]
