"""Blocked versions, alike in Baton and in MLflow's tags: whoever blocks a version in one place, or
lifts the block there, does so in both.

A tag is recorded as last written or read. One that changed since is an engineer's; one that is
unchanged follows the store.
"""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import Row

from experiments.registry.registered_versions import Registry
from service.store import security_log
from service.store.database.transactions import Store
from service.store.ledger import version_rows

BLOCKED_TAG = "baton.blocked"
ENGINEER = "mlflow"
"""Actor of what an engineer does in MLflow, which does not say who it was."""

_log = structlog.get_logger("baton.blocks")


def sync_blocks(store: Store, registry: Registry, workspace: str) -> None:
    """One reconciliation pass. RegistryUnavailable while MLflow is away."""
    tags = registry.tagged(workspace, BLOCKED_TAG)
    with store.read() as connection:
        rows = version_rows.with_blocks(connection, workspace, list(tags))
    for row in rows:
        tag = tags.get(row.registry_version)
        if tag != row.blocked_tag:
            _follow(store, workspace, row.number, tag)
        elif tag != row.blocked:
            _publish(store, registry, workspace, row)


def _follow(store: Store, workspace: str, number: int, why: str | None) -> None:
    subject = f"version {number}"
    kind = "version_unblocked" if why is None else "version_blocked"
    with store.write() as connection:
        version_rows.block(connection, workspace, number, why)
        version_rows.record_block_tag(connection, workspace, number, why)
        event = security_log.event(kind, ENGINEER, subject, workspace=workspace)
        security_log.append(connection, [event])
    _log.info(kind, workspace=workspace, version=number, why=why)


def _publish(store: Store, registry: Registry, workspace: str, row: Row[Any]) -> None:
    if row.blocked is None:
        registry.drop_tag(workspace, row.registry_version, BLOCKED_TAG)
    else:
        registry.tag(workspace, row.registry_version, BLOCKED_TAG, row.blocked)
    with store.write() as connection:
        version_rows.record_block_tag(connection, workspace, row.number, row.blocked)
