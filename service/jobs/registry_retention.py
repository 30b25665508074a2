"""Retention of versions and evaluations in MLflow and in the database, MLflow first."""

from __future__ import annotations

import structlog

from experiments.registry.mlflow_client import RegistryRefused, RegistryUnavailable
from experiments.registry.registered_versions import Registry
from service.privacy.retention import Retention
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.ledger import entries
from service.store.ledger.mlflow_rows import STALE

_log = structlog.get_logger("baton.retention")


class RegistryRetention:
    """Removes surplus versions and evaluations from MLflow and then from the database."""

    def __init__(self, store: Store, registry: Registry, retention: Retention) -> None:
        self._store = store
        self._registry = registry
        self._retention = retention

    def retire(self, *names: str) -> None:
        """Remove surplus checkpoints and evaluations of these workspaces or of all, from MLflow
        first. A version that an alias points at stays.
        """
        for name in names or self._workspaces():
            for remove_surplus in (self._retire_versions, self._retire_evaluations):
                try:
                    with isolate_errors(name, RegistryUnavailable, RegistryRefused):
                        remove_surplus(name)
                except (RegistryUnavailable, RegistryRefused) as error:
                    _log.info("surplus_kept", workspace=name, why=str(error))

    def _workspaces(self) -> tuple[str, ...]:
        with self._store.read() as connection:
            return tuple(entries.workspaces(connection))

    def _retire_evaluations(self, workspace: str) -> None:
        for name, run_id in self._retention.surplus_evaluations(workspace):
            if run_id is not None:
                self._registry.remove_run(run_id.removeprefix(STALE))
            self._retention.remove_evaluation(workspace, name)

    def _retire_versions(self, workspace: str) -> None:
        surplus = self._retention.surplus_versions(workspace)
        published = any(number is not None for _, number in surplus)
        pointed = set(self._registry.aliases(workspace).values()) if published else set()
        for version, number in surplus:
            if number in pointed:
                continue
            if number is not None:
                self._registry.remove(workspace, number)
            self._retention.remove_version(workspace, version)
