"""Sessions of the console: by the hash of their cookie, together with the key behind them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from service.store.database import table
from service.tables import Key, Session

_session = table(Session)
_key = table(Key)


def add(connection: Connection, row: Mapping[str, Any], most: int) -> None:
    """Add a session; of its key's, the oldest beyond `most` end."""
    connection.execute(insert(_session).values(**row))
    kept = (
        select(_session.c.hash)
        .where(_session.c.key_id == row["key_id"])
        .order_by(_session.c.created_at.desc(), _session.c.hash)
        .limit(most)
    )
    connection.execute(
        delete(_session).where(_session.c.key_id == row["key_id"], _session.c.hash.not_in(kept))
    )


def key_of(connection: Connection, hashed: str, now: float) -> Row[Any] | None:
    """The key behind a session that has not ended, unless the key was revoked."""
    return connection.execute(
        select(_key)
        .join(_session, _session.c.key_id == _key.c.id)
        .where(_session.c.hash == hashed, _session.c.expires_at > now, _key.c.revoked_at.is_(None))
    ).one_or_none()


def last(connection: Connection, hashes: Collection[str], now: float) -> set[str]:
    """Which of these sessions have neither ended nor lost their key."""
    found = connection.execute(
        select(_session.c.hash)
        .join(_key, _session.c.key_id == _key.c.id)
        .where(
            _session.c.hash.in_(hashes), _session.c.expires_at > now, _key.c.revoked_at.is_(None)
        )
    )
    return set(found.scalars())


def end(connection: Connection, hashed: str) -> None:
    connection.execute(delete(_session).where(_session.c.hash == hashed))


def forget(connection: Connection, before: float) -> None:
    """Drop sessions that ended before a moment."""
    connection.execute(delete(_session).where(_session.c.expires_at < before))
