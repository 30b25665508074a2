"""State of a workspace as a monitoring system sees it: what is open, owed and new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from service.store.database.transactions import table
from service.store.tables import Audit, Evaluation, LedgerRow, Version

ENTRIES_AT_ONCE = 1000
"""New outcomes that one look counts; the next one goes on."""

_audit = table(Audit)
_evaluation = table(Evaluation)
_ledger = table(LedgerRow)
_version = table(Version)


def count_open_audits(connection: Connection, workspace: str) -> int:
    query = select(func.count()).where(
        _audit.c.workspace == workspace, _audit.c.status == "waiting"
    )
    return connection.execute(query).scalar_one()


def count_unpublished(connection: Connection, workspace: str) -> int:
    """Versions and evaluations that are not in MLflow yet."""
    versions = select(func.count()).where(
        _version.c.workspace == workspace, _version.c.registry_version.is_(None)
    )
    evaluations = select(func.count()).where(
        _evaluation.c.workspace == workspace, _evaluation.c.run_id.is_(None)
    )
    return sum(connection.execute(query).scalar_one() for query in (versions, evaluations))


def newest_version_time(connection: Connection, workspace: str) -> float | None:
    """When the newest version was saved."""
    at: float | None = connection.execute(
        select(func.max(_version.c.created_at)).where(_version.c.workspace == workspace)
    ).scalar_one()
    return at


def outcomes_after(connection: Connection, workspace: str, position: int) -> Sequence[Row[Any]]:
    """Position, source and verdict of the outcomes after a ledger position, in order."""
    source, verdict = (_ledger.c.body[name].as_string() for name in ("source", "verdict"))
    return connection.execute(
        select(_ledger.c.position, source.label("source"), verdict.label("verdict"))
        .where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "outcome",
            _ledger.c.position > position,
        )
        .order_by(_ledger.c.position)
        .limit(ENTRIES_AT_ONCE)
    ).all()
