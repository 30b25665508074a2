"""The ledger, an append-only event log, and its workspaces: gapless positions, assigned under the
workspace's lock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from learning.ledger.model_state import Entry, Exclusions, Kind
from service.store.database.statements import AnyOf, BulkInsert, CompiledSelect
from service.store.database.transactions import insert_if_absent, table
from service.store.tables import LedgerRow, Workspace

_workspace = table(Workspace)
_ledger = table(LedgerRow)
_TAIL = CompiledSelect(
    select(_ledger.c.position, _ledger.c.kind, _ledger.c.body, _ledger.c.actor, _ledger.c.at)
    .where(
        _ledger.c.workspace == bindparam("workspace"), _ledger.c.position > bindparam("position")
    )
    .order_by(_ledger.c.position)
    .limit(bindparam("most"))
)

_APPEND = BulkInsert(_ledger)
_HEADS = CompiledSelect(
    select(_workspace.c.id, _workspace.c.head, _workspace.c.mode).where(
        AnyOf(_workspace.c.id, "ids")
    )
)


def tail(connection: Connection, workspace: str, position: int, most: int = 10_000) -> list[Entry]:
    """The entries after a position, in order, at most `most`."""
    rows = _TAIL.rows(connection, workspace=workspace, position=position, most=most)
    return [Entry(*row) for row in rows]


def entry(connection: Connection, workspace: str, position: int) -> Entry | None:
    entries = tail(connection, workspace, position - 1, 1)
    return entries[0] if entries and entries[0].position == position else None


def append(
    connection: Connection, workspace: str, kind: Kind, body: Mapping[str, Any], actor: str
) -> int:
    """Append one entry and give its position.

    Updating the workspace's head locks it until the transaction ends, so positions become visible
    in their order and without a gap.
    """
    position: int | None = connection.execute(
        update(_workspace)
        .where(_workspace.c.id == workspace)
        .values(head=_workspace.c.head + 1)
        .returning(_workspace.c.head)
    ).scalar_one_or_none()
    if position is None:
        raise LookupError(f"there is no workspace {workspace!r}")
    connection.execute(
        insert(_ledger).values(
            workspace=workspace,
            position=position,
            kind=kind,
            body=dict(body),
            actor=actor,
            at=time.time(),
        )
    )
    return position


def append_all(
    connection: Connection,
    workspace: str,
    kind: Kind,
    bodies: Sequence[Mapping[str, Any]],
    actor: str,
) -> int:
    """Append entries of one kind, in order; gives the position of the last."""
    head: int = connection.execute(
        update(_workspace)
        .where(_workspace.c.id == workspace)
        .values(head=_workspace.c.head + len(bodies))
        .returning(_workspace.c.head)
    ).scalar_one()
    now, first = time.time(), head - len(bodies) + 1
    rows = [
        {"workspace": workspace, "position": position, "kind": kind, "body": dict(body)}
        | {"actor": actor, "at": now}
        for position, body in enumerate(bodies, first)
    ]
    _APPEND.run(connection, rows)
    return head


def count(connection: Connection, workspace: str) -> int:
    """The number of entries."""
    total: int = connection.execute(
        select(func.count()).select_from(_ledger).where(_ledger.c.workspace == workspace)
    ).scalar_one()
    return total


def lock_head(connection: Connection, workspace: str) -> int:
    """Lock the head and give it: nobody appends until this transaction ends."""
    head: int = connection.execute(
        select(_workspace.c.head).where(_workspace.c.id == workspace).with_for_update()
    ).scalar_one()
    return head


def switches(connection: Connection, workspace: str, until: int | None = None) -> list[Entry]:
    """Every switch up to a position (or all), in order."""
    query = select(
        _ledger.c.position, _ledger.c.kind, _ledger.c.body, _ledger.c.actor, _ledger.c.at
    ).where(_ledger.c.workspace == workspace, _ledger.c.kind == "switch")
    if until is not None:
        query = query.where(_ledger.c.position <= until)
    return [Entry(*row) for row in connection.execute(query.order_by(_ledger.c.position))]


EVER = 2**31 - 1
"""Later than any position; the greatest integer that both databases take."""


def nth_newest_outcome(connection: Connection, workspace: str, until: int, count: int) -> int:
    """The position of the `count`-th newest outcome up to `until`; 0 if there are fewer."""
    position: int | None = connection.execute(
        select(_ledger.c.position)
        .where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "outcome",
            _ledger.c.position <= until,
        )
        .order_by(_ledger.c.position.desc())
        .offset(count - 1)
        .limit(1)
    ).scalar_one_or_none()
    return position or 0


def newest_policy(connection: Connection, workspace: str, until: int = EVER) -> Mapping[str, Any]:
    """The policy in force at a position."""
    body: Mapping[str, Any] | None = connection.execute(
        select(_ledger.c.body)
        .where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "policy",
            _ledger.c.position <= until,
        )
        .order_by(_ledger.c.position.desc())
        .limit(1)
    ).scalar_one_or_none()
    return body or {}


def newest_policy_position(connection: Connection, workspace: str, *, without: str) -> int:
    """The position of the newest policy that this actor did not append."""
    position: int | None = connection.execute(
        select(func.max(_ledger.c.position)).where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "policy",
            _ledger.c.actor != without,
        )
    ).scalar_one()
    return position or 0


def newest_policies(connection: Connection, workspace: str, most: int) -> list[Entry]:
    """The newest policies that people set, the newest first; those that `jobs` adjust left out."""
    query = select(
        _ledger.c.position, _ledger.c.kind, _ledger.c.body, _ledger.c.actor, _ledger.c.at
    ).where(_ledger.c.workspace == workspace, _ledger.c.kind == "policy", _ledger.c.actor != "jobs")
    rows = connection.execute(query.order_by(_ledger.c.position.desc()).limit(most))
    return [Entry(*row) for row in rows]


def policy_set_at(connection: Connection, workspace: str) -> float:
    """When the policy in force was set."""
    at: float | None = connection.execute(
        select(func.max(_ledger.c.at)).where(
            _ledger.c.workspace == workspace, _ledger.c.kind == "policy"
        )
    ).scalar_one()
    return at or 0.0


def erased_positions(connection: Connection, workspace: str) -> frozenset[int]:
    """Positions of outcomes whose conversations were erased: they cannot be learned again."""
    bodies = connection.execute(
        select(_ledger.c.body).where(_ledger.c.workspace == workspace, _ledger.c.kind == "erasure")
    ).scalars()
    return frozenset(position for body in bodies for position in body["replaces_all"])


def replaced_positions(
    connection: Connection, workspace: str, until: int, after: int = 0
) -> frozenset[int]:
    """Positions of outcomes that an entry after `after`, up to `until`, corrected or retracted, and
    of all that were erased. Reads every outcome between the two.
    """
    bodies = connection.execute(
        select(_ledger.c.body).where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind.in_(("outcome", "retraction")),
            _ledger.c.position > after,
            _ledger.c.position <= until,
            _ledger.c.body["replaces"].as_integer().is_not(None),
        )
    ).scalars()
    corrected = frozenset(body["replaces"] for body in bodies)
    return corrected | erased_positions(connection, workspace)


def first_excluded(connection: Connection, workspace: str, without: Exclusions) -> int | None:
    """The position of the first outcome that these criteria leave out."""
    body_fields = (("agent", without.agent), ("source", without.source))
    criteria = [_ledger.c.body[name].as_string() == value for name, value in body_fields if value]
    position: int | None = connection.execute(
        select(func.min(_ledger.c.position)).where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "outcome",
            _ledger.c.position >= (without.from_position or 0),
            _ledger.c.position <= (without.to_position or EVER),
            *criteria,
        )
    ).scalar_one()
    return position


def workspace(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(_workspace).where(_workspace.c.id == name)).one_or_none()


TRIAL = ".try"
"""How the workspace is named in which somebody tries Baton out, after the one that it belongs to:
no request can make one of such a name.
"""


def workspaces(connection: Connection, *, trials: bool = False) -> Sequence[str]:
    """All workspaces, without those in which somebody just tries it."""
    query = select(_workspace.c.id).order_by(_workspace.c.id)
    if not trials:
        query = query.where(_workspace.c.id.not_like(f"%{TRIAL}"))
    return connection.execute(query).scalars().all()


def heads(connection: Connection, names: list[str]) -> dict[str, tuple[int, str]]:
    """Head position and mode of these workspaces, in one cheap query."""
    return {row.id: (row.head, row.mode) for row in _HEADS.rows(connection, ids=names)}


def add_workspace(connection: Connection, name: str, mode: str) -> bool:
    """Add an empty workspace; False if it exists."""
    row = {"id": name, "mode": mode, "head": 0, "versions": 0, "created_at": time.time()}
    return insert_if_absent(connection, Workspace, row)


def set_mode(connection: Connection, name: str, mode: str) -> None:
    connection.execute(update(_workspace).where(_workspace.c.id == name).values(mode=mode))
