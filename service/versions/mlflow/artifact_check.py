"""Integrity check of published files: a version whose files in MLflow were changed, added to or
removed is told of, and published anew.

Whoever loads a version from MLflow runs the code that lies beside it; Baton itself never does.
"""

from __future__ import annotations

import structlog

from experiments.registry.mlflow_client import RegistryUnavailable
from experiments.registry.registered_versions import Registry
from service.store import security_log
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.ledger import entries, mlflow_rows, version_rows

_log = structlog.get_logger("baton.artifacts")


class ArtifactCheck:
    """Compares, in each pass, the versions at which aliases stand, and another in turn."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._turns: dict[str, int] = {}

    def check(self) -> None:
        """One pass over all workspaces; an MLflow that is away is asked in the next."""
        with self._store.read() as connection:
            names = list(entries.workspaces(connection))
        try:
            for name in names:
                with isolate_errors(name, RegistryUnavailable):
                    for number in self._due(name):
                        self._compare(name, number)
        except RegistryUnavailable:
            return  # the publisher tells of it

    def _due(self, workspace: str) -> list[str]:
        """Numbers in MLflow of the versions to compare now."""
        with self._store.read() as connection:
            known = sorted(version_rows.published(connection, workspace), key=int)
            named = {row.registry_version for row in mlflow_rows.aliases(connection, workspace)}
        others = [number for number in known if number not in named]
        turn = self._turns[workspace] = self._turns.get(workspace, -1) + 1
        return [n for n in known if n in named] + ([others[turn % len(others)]] if others else [])

    def _compare(self, workspace: str, number: str) -> None:
        found = self._registry.artifacts_digest(workspace, number)
        with self._store.read() as connection:
            version, written = version_rows.published(connection, workspace).get(number, (0, found))
        if found == written:
            return
        _log.error("artifact_altered", workspace=workspace, version=version, mlflow_version=number)
        self._registry.remove(workspace, number)
        with self._store.write() as connection:
            version_rows.mark_unpublished(connection, workspace, version)
            for row in mlflow_rows.aliases(connection, workspace):
                if row.registry_version == number:  # it goes with the version, and comes back
                    mlflow_rows.record_alias(
                        connection, workspace, row.name, registry_version=None, intended=None
                    )
            subject = f"version {version}, MLflow's {number}"
            event = security_log.event("artifact_altered", "mlflow", subject, workspace=workspace)
            security_log.append(connection, [event])
