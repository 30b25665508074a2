"""State of the installation for Prometheus: read from the database by the `jobs` process that
leads, a workspace after the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from service.runtime.job_metrics import JobMetrics
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.handoffs import handoff_rows
from service.store.ledger import entries, mlflow_rows
from service.store.reports import counts, installation

_BY_TEAM = ("handoffs_waiting", "handoffs_claimed", "handoff_oldest_timestamp_seconds")


class InstallationFigures:
    """Reads the figures; owned by one thread."""

    def __init__(self, store: Store, metrics: JobMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._counted: dict[str, int] = {}
        self._evaluations: dict[str, str] = {}
        self._terms = metrics.terms

    def collect(self) -> None:
        """One look at every workspace; all is told anew where the lease was lost meanwhile."""
        if self._terms != self._metrics.terms:
            self._terms = self._metrics.terms
            self._counted.clear()
            self._evaluations.clear()
        with self._store.read() as connection:
            names = entries.workspaces(connection)
        self._metrics.clear(*_BY_TEAM)
        for name in names:
            with isolate_errors(name), self._store.read() as connection:
                self._look_at_work(connection, name)
                self._look_at_model(connection, name)
                self._count_outcomes(connection, name)
        if self._store.is_sqlite and self._store.url.database:
            self._metrics.set_disk_free(
                shutil.disk_usage(Path(self._store.url.database).parent).free
            )

    def _look_at_work(self, connection: Connection, workspace: str) -> None:
        for row in handoff_rows.counts(connection, workspace):
            self._metrics.set_figure(f"handoffs_{row.status}", row.number, workspace, row.team)
            if row.status == "waiting":
                self._metrics.set_figure(
                    "handoff_oldest_timestamp_seconds", row.oldest_at, workspace, row.team
                )
        audits = installation.count_open_audits(connection, workspace)
        self._metrics.set_figure("audits_open", audits, workspace)
        owed = installation.count_unpublished(connection, workspace)
        self._metrics.set_figure("publishing_owed", owed, workspace)

    def _look_at_model(self, connection: Connection, workspace: str) -> None:
        switches = entries.switches(connection, workspace)
        if switches:
            version, at = switches[-1].body["version"], switches[-1].at
            self._metrics.set_figure("serving_version", version, workspace)
            self._metrics.set_figure("serving_since_timestamp_seconds", at, workspace)
        saved_at = installation.newest_version_time(connection, workspace)
        if saved_at is not None:
            self._metrics.set_figure("newest_checkpoint_timestamp_seconds", saved_at, workspace)
        evaluation = mlflow_rows.last_evaluation_id(connection, workspace)
        if evaluation is None or evaluation == self._evaluations.get(workspace):
            return
        self._evaluations[workspace] = evaluation
        self._tell_report(workspace, counts.last_report(connection, workspace) or {})

    def _tell_report(self, workspace: str, report: Mapping[str, Any]) -> None:
        """Calibration and drift as the last evaluation measured them."""
        if "at" in report:
            self._metrics.set_figure("evaluation_timestamp_seconds", report["at"], workspace)
        champion = next((x for x in report.get("lines", ()) if x["role"] == "champion"), None)
        recent = champion["measures"]["recent"] if champion else {}
        for name, measure in (("calibration_error", "ece"), ("log_loss", "log_loss")):
            if measure in recent:
                self._metrics.set_figure(name, recent[measure], workspace)
        alarms = (report.get("drift") or {}).get("alarms", ())
        last = max((alarm["at"] for alarm in alarms), default=0.0)
        self._metrics.set_figure("drift_alarm_timestamp_seconds", last, workspace)

    def _count_outcomes(self, connection: Connection, workspace: str) -> None:
        """Count new outcomes; those from before this process led were counted by another."""
        if workspace not in self._counted:
            row = entries.workspace(connection, workspace)
            self._counted[workspace] = row.head if row is not None else 0
            return
        for row in installation.outcomes_after(connection, workspace, self._counted[workspace]):
            self._metrics.count_outcome(workspace, row.source or "none", row.verdict or "none")
            self._counted[workspace] = row.position
