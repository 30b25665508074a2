"""Publisher of versions, evaluations and the model card to MLflow, and the aliases'
synchronisation.

MLflow may be away: every step is retried until it has worked, and takes effect once.
"""

from __future__ import annotations

from typing import Any

import structlog

from experiments.evaluation import evaluation_report
from experiments.evaluation.mlflow_run import publish
from experiments.registry.mlflow_client import RegistryRefused, RegistryUnavailable
from experiments.registry.registered_versions import Registry
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.ledger import entries, mlflow_rows, version_rows
from service.versions.mlflow import description
from service.versions.mlflow.aliases import CHAMPION, AliasSync
from service.versions.mlflow.export_version import lineage_tags

TRANSCRIPT = "/console/transcript?id="
"""Path of the console's page of a conversation, before its id."""

_log = structlog.get_logger("baton.publishing")


class MlflowPublisher:
    """Publishes what is not in MLflow yet and syncs the aliases, one pass over the workspaces."""

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
        self._description_keys: dict[str, tuple[Any, ...]] = {}
        self.is_away = False

    def publish(self, *names: str) -> None:
        """One pass over these workspaces or over all; an MLflow that is away is logged once, not
        raised.
        """
        try:
            for name in names or self._workspaces():
                with isolate_errors(name, RegistryUnavailable):
                    self._publish_workspace(name)
            self.is_away = False
        except RegistryUnavailable as error:
            if not self.is_away:
                _log.warning("mlflow_away", why=str(error))
            self.is_away = True

    def _workspaces(self) -> tuple[str, ...]:
        with self._store.read() as connection:
            return tuple(entries.workspaces(connection))

    def _publish_workspace(self, workspace: str) -> None:
        """Run each step by itself: what MLflow refuses in one holds up no other."""
        self._republish_if_mlflow_was_reset(workspace)
        for step in (
            self._publish_versions,
            self._aliases.sync,
            self._publish_description,
            self._remove_stale_runs,
            self._publish_evaluations,
        ):
            try:
                step(workspace)
            except RegistryRefused as error:
                _log.error("mlflow_refused", workspace=workspace, why=str(error))

    def _republish_if_mlflow_was_reset(self, workspace: str) -> None:
        """Mark all as unpublished where MLflow no longer has the version that `champion` names."""
        with self._store.read() as connection:
            record = mlflow_rows.alias(connection, workspace, CHAMPION)
        number = record and record.registry_version
        if number is not None and self._registry.get_version(workspace, number) is None:
            _log.warning("mlflow_lost", workspace=workspace, version=number)
            self._description_keys.pop(workspace, None)
            with self._store.write() as connection:
                mlflow_rows.mark_all_unpublished(connection, workspace)

    def _publish_versions(self, workspace: str) -> None:
        with self._store.read() as connection:
            owed = version_rows.unpublished(connection, workspace)
        for row in owed:
            with self._store.read() as connection:
                state = version_rows.state(connection, workspace, row.number)
            published = self._registry.publish(
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
                tags=lineage_tags(workspace, row._asdict()),
            )
            with self._store.write() as connection:
                version_rows.mark_published(
                    connection, workspace, row.number, published.number, published.digest
                )

    def _publish_description(self, workspace: str) -> None:
        """Write the model card whenever its key has changed."""
        with self._store.read() as connection:
            key = description.description_key(connection, workspace)
            if self._description_keys.get(workspace) == key:
                return
            text = description.render_description(connection, workspace)
        self._registry.describe(workspace, text)
        self._description_keys[workspace] = key

    def _remove_stale_runs(self, workspace: str) -> None:
        """Remove the runs that show what was erased since; their evaluations are published anew."""
        with self._store.read() as connection:
            stale = mlflow_rows.stale_runs(connection, workspace)
        for name, run_id in stale:
            self._registry.remove_run(run_id)
            with self._store.write() as connection:
                mlflow_rows.mark_evaluation_unpublished(connection, name)

    def _publish_evaluations(self, workspace: str) -> None:
        with self._store.read() as connection:
            owed = mlflow_rows.unpublished_evaluations(connection, workspace)
        for row in owed:
            report = evaluation_report.Report.of(row.report)
            with self._store.read() as connection:
                versions = [
                    version_rows.version(connection, workspace, x["version"]) for x in report.lines
                ]
            numbers = [x.registry_version for x in versions if x and x.registry_version]
            run = publish(report, self._registry, workspace, numbers, self._transcripts)
            with self._store.write() as connection:
                mlflow_rows.mark_evaluation_published(connection, row.id, run)
