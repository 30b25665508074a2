"""Keeping MLflow in step: what the ledger decided is published, what an engineer moved is heard.

MLflow may be away: everything here is asked again until it has worked, and takes effect once.
"""

from __future__ import annotations

from typing import Any

import structlog

from experiments.evaluation import evaluation_report
from experiments.evaluation.mlflow_run import publish
from experiments.registry.mlflow_client import RegistryRefused, RegistryUnavailable
from experiments.registry.registered_versions import Registry
from service.store.database.transactions import Store
from service.store.ledger import entries, mlflow_rows, version_rows
from service.versions.mlflow import description
from service.versions.mlflow.aliases import CHAMPION, AliasSync
from service.versions.mlflow.export_version import lineage

TRANSCRIPT = "/console/transcript?id="
"""Where the console finds a conversation by its id."""

_log = structlog.get_logger("baton.publishing")


class MlflowPublisher:
    """One pass publishes what is owed and settles the aliases of every workspace."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        transcripts: str = "",
    ) -> None:
        self._store = store
        self._registry = registry
        self._aliases = AliasSync(store, registry)
        self._transcripts = transcripts
        self._told: dict[str, tuple[Any, ...]] = {}
        self._away = False

    def publish(self, *names: str) -> None:
        """Does what can be done now, for these workspaces or for all; an MLflow that is away is
        only logged, once.
        """
        try:
            for name in names or self._workspaces():
                self._one(name)
            self._away = False
        except RegistryUnavailable as error:
            if not self._away:
                _log.warning("mlflow_away", why=str(error))
            self._away = True

    def _workspaces(self) -> tuple[str, ...]:
        with self._store.read() as connection:
            return tuple(entries.workspaces(connection))

    def _one(self, workspace: str) -> None:
        """Each part for itself: what MLflow refuses in one holds up no other."""
        self._still_there(workspace)
        for part in (self._versions, self._aliases.settle, self._story, self._evaluations):
            try:
                part(workspace)
            except RegistryRefused as error:
                _log.error("mlflow_refused", workspace=workspace, why=str(error))

    def _still_there(self, workspace: str) -> None:
        """An MLflow that lost what the champion alias stood at is another one: it gets all anew."""
        with self._store.read() as connection:
            known = mlflow_rows.alias(connection, workspace, CHAMPION)
        number = known and known.registry_version
        if number is not None and self._registry.get_version(workspace, number) is None:
            _log.warning("mlflow_lost", workspace=workspace, version=number)
            self._told.pop(workspace, None)
            with self._store.write() as connection:
                mlflow_rows.owe_all(connection, workspace)

    def _versions(self, workspace: str) -> None:
        with self._store.read() as connection:
            owed = version_rows.unpublished(connection, workspace)
        for row in owed:
            with self._store.read() as connection:
                state = version_rows.state(connection, workspace, row.number)
            number = self._registry.publish(
                workspace,
                row.number,
                state=state or b"",
                recipe=row.recipe,
                position=row.position,
                digest=row.digest,
                at=row.created_at,
                parent=row.parent,
                reason=row.reason,
                metrics=row.metrics,
                tags=lineage(workspace, row._asdict()),
            )
            with self._store.write() as connection:
                version_rows.published(connection, workspace, row.number, number)

    def _story(self, workspace: str) -> None:
        """Say what serves and why where an engineer looks first, whenever that has changed."""
        with self._store.read() as connection:
            key = description.key(connection, workspace)
            if self._told.get(workspace) == key:
                return
            text = description.render_description(connection, workspace)
        self._registry.describe(workspace, text)
        self._told[workspace] = key

    def _evaluations(self, workspace: str) -> None:
        with self._store.read() as connection:
            owed = mlflow_rows.unpublished_evaluations(connection, workspace)
        for row in owed:
            report = evaluation_report.Report.of(row.report)
            with self._store.read() as connection:
                found = [
                    version_rows.version(connection, workspace, x["version"]) for x in report.lines
                ]
            numbers = [x.registry_version for x in found if x and x.registry_version]
            run = publish(report, self._registry, workspace, numbers, self._transcripts)
            with self._store.write() as connection:
                mlflow_rows.evaluation_published(connection, row.id, run)
