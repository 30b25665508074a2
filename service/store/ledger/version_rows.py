"""Rows of versions (model checkpoints) by number, line and position."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from service.store.database.transactions import table
from service.store.tables import Version, Workspace

_version = table(Version)
_workspace = table(Workspace)
UNPUBLISHED_AT_ONCE = 20
_HIDDEN = ("state", "registry_digest", "blocked_tag")
_COLUMNS = [column for column in _version.c if column.name not in _HIDDEN]


def add_version(
    connection: Connection,
    workspace: str,
    *,
    recipe: str,
    line: int,
    position: int,
    digest: str,
    state: bytes,
    parent: int | None,
    reason: str,
    without: Mapping[str, Any],
    metrics: Mapping[str, Any],
    build: str,
    commit: str | None,
) -> int:
    """Add a checkpoint under the workspace's next version number; gives the number."""
    number: int = connection.execute(
        update(_workspace)
        .where(_workspace.c.id == workspace)
        .values(versions=_workspace.c.versions + 1)
        .returning(_workspace.c.versions)
    ).scalar_one()
    connection.execute(
        insert(_version).values(
            workspace=workspace,
            number=number,
            recipe=recipe,
            line=line,
            position=position,
            digest=digest,
            state=state,
            parent=parent,
            reason=reason,
            without=dict(without),
            metrics=dict(metrics),
            created_at=time.time(),
            registry_version=None,
            build=build,
            commit=commit,
            blocked=None,
            registry_digest=None,
            blocked_tag=None,
        )
    )
    return number


def version(connection: Connection, workspace: str, number: int) -> Row[Any] | None:
    """All columns of a version but its state."""
    return connection.execute(
        select(*_COLUMNS).where(_version.c.workspace == workspace, _version.c.number == number)
    ).one_or_none()


def state(connection: Connection, workspace: str, number: int) -> bytes | None:
    return connection.execute(
        select(_version.c.state).where(
            _version.c.workspace == workspace, _version.c.number == number
        )
    ).scalar_one_or_none()


def first_of_recipe(connection: Connection, workspace: str, part: str) -> int | None:
    """The number of the first version whose recipe has this part."""
    number: int | None = connection.execute(
        select(_version.c.number)
        .where(_version.c.workspace == workspace, _version.c.recipe.contains(part, autoescape=True))
        .order_by(_version.c.number)
        .limit(1)
    ).scalar_one_or_none()
    return number


def versions(connection: Connection, workspace: str, most: int = 1000) -> Sequence[Row[Any]]:
    """The versions, the newest first."""
    return connection.execute(
        select(*_COLUMNS)
        .where(_version.c.workspace == workspace)
        .order_by(_version.c.number.desc())
        .limit(most)
    ).all()


def newest_with_reason(
    connection: Connection, workspace: str, beginning: str, after: int
) -> Row[Any] | None:
    """The newest version after a number whose reason begins like this."""
    return connection.execute(
        select(*_COLUMNS)
        .where(
            _version.c.workspace == workspace,
            _version.c.number > after,
            _version.c.reason.startswith(beginning, autoescape=True),
        )
        .order_by(_version.c.number.desc())
        .limit(1)
    ).one_or_none()


def of_line(connection: Connection, workspace: str, line: int, until: int) -> Sequence[Row[Any]]:
    """A line's checkpoints up to a position, the newest first."""
    return connection.execute(
        select(*_COLUMNS)
        .where(
            _version.c.workspace == workspace,
            _version.c.line == line,
            _version.c.position <= until,
        )
        .order_by(_version.c.position.desc())
        .limit(20)
    ).all()


def digests(
    connection: Connection, workspace: str, line: int, positions: Collection[int]
) -> dict[int, str]:
    """The digests of a line's checkpoints at these positions, where there are any."""
    rows = connection.execute(
        select(_version.c.position, _version.c.digest).where(
            _version.c.workspace == workspace,
            _version.c.line == line,
            _version.c.position.in_(list(positions)),
        )
    )
    return {row.position: row.digest for row in rows}


def unpublished(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    """Versions that MLflow does not have yet, the oldest first, as many as one pass publishes."""
    return connection.execute(
        select(*_COLUMNS)
        .where(_version.c.workspace == workspace, _version.c.registry_version.is_(None))
        .order_by(_version.c.number)
        .limit(UNPUBLISHED_AT_ONCE)
    ).all()


def by_registry_version(
    connection: Connection, workspace: str, registry_version: str
) -> Row[Any] | None:
    return connection.execute(
        select(*_COLUMNS).where(
            _version.c.workspace == workspace, _version.c.registry_version == registry_version
        )
    ).one_or_none()


def mark_published(
    connection: Connection,
    workspace: str,
    number: int,
    registry_version: str,
    digest: str | None = None,
) -> None:
    """Record a version's number in MLflow, and the digest of its files there."""
    connection.execute(
        update(_version)
        .where(_version.c.workspace == workspace, _version.c.number == number)
        .values(registry_version=registry_version, registry_digest=digest)
    )


def mark_unpublished(connection: Connection, workspace: str, number: int) -> None:
    """MLflow gets a version anew."""
    connection.execute(
        update(_version)
        .where(_version.c.workspace == workspace, _version.c.number == number)
        .values(registry_version=None, registry_digest=None, blocked_tag=None)
    )


def published(connection: Connection, workspace: str) -> dict[str, tuple[int, str]]:
    """By number in MLflow, each version's own number and the digest of its files there."""
    rows = connection.execute(
        select(_version.c.registry_version, _version.c.number, _version.c.registry_digest).where(
            _version.c.workspace == workspace,
            _version.c.registry_version.is_not(None),
            _version.c.registry_digest.is_not(None),
        )
    )
    return {row.registry_version: (row.number, row.registry_digest) for row in rows}


def with_blocks(connection: Connection, workspace: str, tagged: Sequence[str]) -> list[Row[Any]]:
    """Published versions that are blocked, or were in MLflow, or have these numbers there."""
    names = ("number", "registry_version", "blocked", "blocked_tag")
    rows = connection.execute(
        select(*(_version.c[name] for name in names)).where(
            _version.c.workspace == workspace,
            _version.c.registry_version.is_not(None),
            or_(
                _version.c.blocked.is_not(None),
                _version.c.blocked_tag.is_not(None),
                _version.c.registry_version.in_(tagged),
            ),
        )
    )
    return list(rows)


def record_block_tag(
    connection: Connection, workspace: str, number: int, value: str | None
) -> None:
    """Note the block of a version as it was written to MLflow or read there."""
    connection.execute(
        update(_version)
        .where(_version.c.workspace == workspace, _version.c.number == number)
        .values(blocked_tag=value)
    )


def block(connection: Connection, workspace: str, number: int, why: str | None) -> None:
    """Block a version from being switched to, with a reason; None unblocks it."""
    connection.execute(
        update(_version)
        .where(_version.c.workspace == workspace, _version.c.number == number)
        .values(blocked=why)
    )
