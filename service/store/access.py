"""Rows of API keys, users and their presence, console sessions, idempotency records and leases."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, or_, select, update

from service.store.database.transactions import (
    insert_if_absent,
    table,
)
from service.store.tables import IdempotencyRecord, Key, Lease, Presence, Session, User

_key_row = table(Key)
_remembered = table(IdempotencyRecord)
_lease = table(Lease)
_user = table(User)
_presence = table(Presence)

PRESENT_MAX = 2000
"""People and places that are told of at once."""


def _unexpired(now: float) -> ColumnElement[bool]:
    return or_(_key_row.c.expires_at.is_(None), _key_row.c.expires_at > now)


LEASE = "jobs"
"""The name of the lease that the acting `jobs` process holds."""


def add_key(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Add a key; False if one with its id or hash is there."""
    return insert_if_absent(connection, Key, row)


def key_by_hash(connection: Connection, digest: str) -> Row[Any] | None:
    return connection.execute(select(_key_row).where(_key_row.c.hash == digest)).one_or_none()


def key(connection: Connection, workspace: str | None, name: str) -> Row[Any] | None:
    query = select(_key_row).where(_key_row.c.id == name)
    if workspace is not None:
        query = query.where(_key_row.c.workspace == workspace)
    return connection.execute(query).one_or_none()


def keys(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_key_row).where(_key_row.c.workspace == workspace).order_by(_key_row.c.created_at)
    ).all()


def has_agent(connection: Connection, workspace: str, name: str) -> bool:
    """Whether a live key that is not a bot's has this name."""
    query = select(_key_row.c.id).where(
        _key_row.c.workspace == workspace,
        _key_row.c.name == name,
        _key_row.c.role != "bot",
        _key_row.c.revoked_at.is_(None),
        _unexpired(time.time()),
    )
    return connection.execute(query.limit(1)).first() is not None


def live_key_named(
    connection: Connection, workspace: str, name: str, besides: str
) -> Row[Any] | None:
    """A key of this name that is neither revoked nor expired, and not of the maker `besides`."""
    query = select(_key_row).where(
        _key_row.c.workspace == workspace,
        _key_row.c.name == name,
        or_(_key_row.c.made_by.is_(None), _key_row.c.made_by != besides),
        _key_row.c.revoked_at.is_(None),
        _unexpired(time.time()),
    )
    return connection.execute(query.limit(1)).one_or_none()


def has_keys(connection: Connection, workspace: str) -> bool:
    query = select(_key_row.c.id).where(_key_row.c.workspace == workspace)
    return connection.execute(query.limit(1)).first() is not None


def keys_named(
    connection: Connection, workspace: str, names: Collection[str]
) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_key_row).where(_key_row.c.workspace == workspace, _key_row.c.name.in_(names))
    ).all()


SEAL_SECONDS = 600
"""How long a repeated request gets the secret of the key that it made again."""


def clear_seals(connection: Connection, before: float) -> None:
    """Forget the sealed secrets of keys that were made before a moment."""
    connection.execute(
        update(_key_row)
        .where(_key_row.c.sealed.is_not(None), _key_row.c.created_at < before)
        .values(sealed=None)
    )


def mark_used(connection: Connection, used: Mapping[str, float]) -> None:
    """Record when keys were used last."""
    for name, at in sorted(used.items()):
        connection.execute(update(_key_row).where(_key_row.c.id == name).values(last_used_at=at))


def add_user(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Add a user; False if one with this id is there."""
    return insert_if_absent(connection, User, row)


def user(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    """A user who was not removed."""
    row = user_ever(connection, workspace, name)
    return None if row is None or row.removed_at is not None else row


def user_ever(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    """A user, whether removed or not."""
    query = select(_user).where(_user.c.workspace == workspace, _user.c.id == name)
    return connection.execute(query).one_or_none()


def set_teams(connection: Connection, workspace: str, name: str, teams: Sequence[str]) -> bool:
    """Set a user's teams; False where there is no such user."""
    result = connection.execute(
        update(_user)
        .where(_user.c.workspace == workspace, _user.c.id == name)
        .values(teams=list(teams))
    )
    return result.rowcount == 1


def users(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    """The users who were not removed."""
    query = select(_user).where(_user.c.workspace == workspace, _user.c.removed_at.is_(None))
    return connection.execute(query.order_by(_user.c.id)).all()


def users_known_as(connection: Connection, subject: str, email: str | None) -> Sequence[Row[Any]]:
    """Users of all workspaces whom a provider knows by this subject, or as whom nobody has come yet
    whose e-mail, or id, this is; removed ones too.
    """
    query = select(_user).where(_user.c.subject == subject)
    if email is not None:
        is_email = or_(_user.c.email == email, and_(_user.c.email.is_(None), _user.c.id == email))
        query = select(_user).where(
            or_(_user.c.subject == subject, and_(_user.c.subject.is_(None), is_email))
        )
    return connection.execute(query.order_by(_user.c.workspace, _user.c.id).limit(100)).all()


def change_user(connection: Connection, workspace: str, name: str, **values: Any) -> bool:
    """Change a user; False where there is no such user."""
    where = (_user.c.workspace == workspace, _user.c.id == name)
    return connection.execute(update(_user).where(*where).values(**values)).rowcount == 1


def mark_present(connection: Connection, seen: Mapping[tuple[str, str, str], float]) -> None:
    """Record when people were seen, by workspace, user and place."""
    for (workspace, user_id, place), at in sorted(seen.items()):
        where = {"workspace": workspace, "user_id": user_id, "place": place}
        if not insert_if_absent(connection, Presence, where | {"seen_at": at}):
            connection.execute(
                update(_presence)
                .where(*(_presence.c[name] == value for name, value in where.items()))
                .values(seen_at=at)
            )


def present(
    connection: Connection, workspace: str, since: float, place: str | None = None
) -> Sequence[tuple[str, str]]:
    """Who was seen since a moment, and where; in one place, or in all."""
    query = select(_presence.c.user_id, _presence.c.place).where(
        _presence.c.workspace == workspace, _presence.c.seen_at > since
    )
    if place is not None:
        query = query.where(_presence.c.place == place)
    rows = connection.execute(query.order_by(_presence.c.user_id).limit(PRESENT_MAX))
    return [(row.user_id, row.place) for row in rows]


def forget_present(connection: Connection, before: float) -> None:
    connection.execute(delete(_presence).where(_presence.c.seen_at < before))


def revoke_keys_of(connection: Connection, workspace: str, name: str, at: float) -> None:
    """Revoke all keys of a user: their sessions end with them."""
    connection.execute(
        update(_key_row)
        .where(
            _key_row.c.workspace == workspace,
            _key_row.c.name == name,
            _key_row.c.role != "bot",
            _key_row.c.revoked_at.is_(None),
        )
        .values(revoked_at=at)
    )


def sign_in_key(connection: Connection, workspace: str, name: str, maker: str) -> Row[Any] | None:
    """The live key that a user's sign-ins hang on: no one has its secret."""
    query = select(_key_row).where(
        _key_row.c.workspace == workspace,
        _key_row.c.name == name,
        _key_row.c.made_by == maker,
        _key_row.c.revoked_at.is_(None),
    )
    return connection.execute(query.limit(1)).one_or_none()


def set_key_role(connection: Connection, key_id: str, role: str) -> None:
    connection.execute(update(_key_row).where(_key_row.c.id == key_id).values(role=role))


def unrevoked_keys(connection: Connection, names: Collection[str]) -> set[str]:
    """Those of these keys that are neither revoked nor expired."""
    query = select(_key_row.c.id).where(
        _key_row.c.id.in_(names), _key_row.c.revoked_at.is_(None), _unexpired(time.time())
    )
    return set(connection.execute(query).scalars())


def revoke(connection: Connection, name: str, at: float) -> None:
    connection.execute(
        update(_key_row)
        .where(_key_row.c.id == name, _key_row.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )


def idempotency_record(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_remembered).where(_remembered.c.workspace == workspace, _remembered.c.key == name)
    ).one_or_none()


def add_idempotency_record(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_remembered).values(**row))


def delete_idempotency_records(connection: Connection, before: float) -> int:
    """Delete the records made before a moment (TTL); gives their number."""
    return connection.execute(delete(_remembered).where(_remembered.c.at < before)).rowcount


def take_lease(
    connection: Connection, name: str, holder: str, now: float, expires_at: float
) -> bool:
    """Acquire or renew a lease (leader election); False while another holds it.

    One that ends ten times as late as this one would is void: the clock was set back since.
    """
    ahead = now + 10 * (expires_at - now)
    insert_if_absent(connection, Lease, {"name": name, "holder": holder, "expires_at": 0.0})
    result = connection.execute(
        update(_lease)
        .where(
            _lease.c.name == name,
            or_(
                _lease.c.holder == holder,
                _lease.c.expires_at < now,
                _lease.c.expires_at > ahead,
            ),
        )
        .values(holder=holder, expires_at=expires_at)
    )
    return result.rowcount == 1


def lease(connection: Connection, name: str) -> Row[Any] | None:
    """Who holds a lease, and until when."""
    return connection.execute(select(_lease).where(_lease.c.name == name)).one_or_none()


def release_lease(connection: Connection, name: str, holder: str) -> None:
    connection.execute(delete(_lease).where(_lease.c.name == name, _lease.c.holder == holder))


_session = table(Session)


def add_session(connection: Connection, row: Mapping[str, Any], most: int) -> None:
    """Add a session; its key's oldest sessions beyond `most` end."""
    connection.execute(insert(_session).values(**row))
    newest = (
        select(_session.c.hash)
        .where(_session.c.key_id == row["key_id"])
        .order_by(_session.c.created_at.desc(), _session.c.hash)
        .limit(most)
    )
    connection.execute(
        delete(_session).where(_session.c.key_id == row["key_id"], _session.c.hash.not_in(newest))
    )


def key_of_session(connection: Connection, digest: str, now: float) -> Row[Any] | None:
    """The key behind a session that has not ended, unless the key was revoked."""
    return connection.execute(
        select(_key_row)
        .join(_session, _session.c.key_id == _key_row.c.id)
        .where(
            _session.c.hash == digest,
            _session.c.expires_at > now,
            _key_row.c.revoked_at.is_(None),
            _unexpired(now),
        )
    ).one_or_none()


def live_sessions(connection: Connection, hashes: Collection[str], now: float) -> set[str]:
    """Those of these sessions that have neither ended nor lost their key."""
    rows = connection.execute(
        select(_session.c.hash)
        .join(_key_row, _session.c.key_id == _key_row.c.id)
        .where(
            _session.c.hash.in_(hashes),
            _session.c.expires_at > now,
            _key_row.c.revoked_at.is_(None),
            _unexpired(now),
        )
    )
    return set(rows.scalars())


def end_session(connection: Connection, digest: str) -> None:
    connection.execute(delete(_session).where(_session.c.hash == digest))


def delete_sessions(connection: Connection, before: float) -> None:
    """Delete sessions that expired before a moment."""
    connection.execute(delete(_session).where(_session.c.expires_at < before))
