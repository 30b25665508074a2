"""Keeping MLflow in step: what the ledger decided is published, what an engineer moved is heard.

MLflow may be away: everything here is asked again until it has worked, and takes effect once.
"""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import Row

from experiments import evaluate
from experiments.registry import Registry, RegistryRefused, RegistryUnavailable
from learning.ledger import Entry
from service import versions
from service.errors import Refusal
from service.retention import Retention
from service.settings import Settings
from service.store import ledger, published
from service.store import versions as rows
from service.store.database import Store

CHAMPION, PREVIOUS = "champion", "previous"
REFUSED_TAG = "baton.refused"
ENGINEER = "mlflow"
"""Who moved the alias, as the ledger calls them: MLflow does not say more."""

_log = structlog.get_logger("baton.publishing")


class Publishing:
    """One pass publishes what is owed and settles the aliases of every workspace."""

    def __init__(
        self, store: Store, registry: Registry, retention: Retention | None = None
    ) -> None:
        self._store = store
        self._registry = registry
        self._retention = retention or Retention(store, Settings())
        self._away = False

    def publish(self) -> None:
        """Does what can be done now; an MLflow that is away is only logged, once."""
        with self._store.read() as connection:
            names = ledger.workspaces(connection)
        try:
            for name in names:
                self._one(name)
            self._away = False
        except RegistryUnavailable as error:
            if not self._away:
                _log.warning("mlflow_away", why=str(error))
            self._away = True

    def retire(self) -> None:
        """Remove surplus checkpoints, from MLflow first; one that an alias points at stays."""
        with self._store.read() as connection:
            names = ledger.workspaces(connection)
        for name in names:
            try:
                self._retire(name)
            except (RegistryUnavailable, RegistryRefused) as error:
                _log.info("versions_kept", workspace=name, why=str(error))

    def _retire(self, workspace: str) -> None:
        surplus = self._retention.surplus(workspace)
        published = any(number is not None for _, number in surplus)
        pointed = set(self._registry.aliases(workspace).values()) if published else set()
        for version, number in surplus:
            if number in pointed:
                continue
            if number is not None:
                self._registry.remove(workspace, number)
            self._retention.drop(workspace, version)

    def _one(self, workspace: str) -> None:
        """Each part for itself: what MLflow refuses in one holds up no other."""
        self._still_there(workspace)
        for part in (self._versions, self._evaluations, self._champion, self._previous):
            try:
                part(workspace)
            except RegistryRefused as error:
                _log.error("mlflow_refused", workspace=workspace, why=str(error))

    def _still_there(self, workspace: str) -> None:
        """An MLflow that lost what the champion alias stood at is another one: it gets all anew."""
        with self._store.read() as connection:
            known = published.alias(connection, workspace, CHAMPION)
        number = known and known.registry_version
        if number is not None and self._registry.registered(workspace, number) is None:
            _log.warning("mlflow_lost", workspace=workspace, version=number)
            with self._store.write() as connection:
                published.owe_all(connection, workspace)

    def _versions(self, workspace: str) -> None:
        with self._store.read() as connection:
            owed = rows.unpublished(connection, workspace)
        for row in owed:
            with self._store.read() as connection:
                state = rows.state(connection, workspace, row.number)
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
            )
            with self._store.write() as connection:
                rows.published(connection, workspace, row.number, number)

    def _evaluations(self, workspace: str) -> None:
        with self._store.read() as connection:
            owed = published.unpublished_evaluations(connection, workspace)
        for row in owed:
            report = evaluate.Report.of(row.report)
            with self._store.read() as connection:
                found = [rows.version(connection, workspace, x["version"]) for x in report.lines]
            numbers = [x.registry_version for x in found if x and x.registry_version]
            run = evaluate.publish(report, self._registry, workspace, numbers)
            with self._store.write() as connection:
                published.evaluation_published(connection, row.id, run)

    def _champion(self, workspace: str) -> None:
        """The ledger decides and the alias follows, unless an engineer moved it since."""
        with self._store.read() as connection:
            switches = ledger.switches(connection, workspace)
            serving = self._newest(workspace, switches[-1])
            known = published.alias(connection, workspace, CHAMPION)
        if serving is None or serving.registry_version is None:
            return
        seen = self._registry.alias_of(workspace, CHAMPION)
        ours = (
            serving.registry_version,
            known and known.registry_version,
            known and known.intended,
        )
        if seen is not None and known is not None and seen not in ours:
            self._requested(workspace, seen, serving.registry_version)
        elif seen != serving.registry_version:
            self._set(workspace, CHAMPION, serving.registry_version)
        elif known is None or known.registry_version != seen:
            self._note(workspace, CHAMPION, seen)

    def _newest(self, workspace: str, switch: Entry) -> Row[Any] | None:
        """The newest published version of a switch's line, or the one it named."""
        with self._store.read() as connection:
            line = rows.of_line(connection, workspace, switch.position, 2**31 - 1)
            for row in line:
                if row.registry_version is not None:
                    return row
            return rows.version(connection, workspace, switch.body["version"])

    def _previous(self, workspace: str) -> None:
        with self._store.read() as connection:
            switches = ledger.switches(connection, workspace)
        if len(switches) < 2:
            return
        row = self._newest(workspace, switches[-2])
        wanted = None if row is None else row.registry_version
        if wanted is not None and self._registry.alias_of(workspace, PREVIOUS) != wanted:
            self._registry.set_alias(workspace, PREVIOUS, wanted)

    def _requested(self, workspace: str, number: str, back_to: str) -> None:
        """An engineer moved the alias: the version is checked, then serves; or it is put back.

        One that has served, or descends from one, serves as it was: a rollback. A new one is
        promoted with all that was learned since.
        """
        found = self._registry.registered(workspace, number)
        try:
            with self._store.write() as connection:
                row = rows.by_registry(connection, workspace, number)
                if row is None or found is None or found.digest != row.digest:
                    raise versions.unknown(number)
                reason = f"alias champion moved to MLflow version {number}"
                named = [s.body["version"] for s in ledger.switches(connection, workspace)]
                if row.line or row.number in named:
                    versions.roll_back(
                        connection, workspace, to=row.number, actor=ENGINEER, reason=reason
                    )
                else:
                    versions.promote(
                        connection, workspace, row.number, actor=ENGINEER, reason=reason
                    )
            self._note(workspace, CHAMPION, number)
            _log.info("alias_heard", workspace=workspace, version=row.number)
        except (Refusal, RegistryRefused) as error:
            self._registry.tag(workspace, number, REFUSED_TAG, str(error))
            self._set(workspace, CHAMPION, back_to)
            _log.warning("alias_put_back", workspace=workspace, why=str(error))

    def _set(self, workspace: str, name: str, number: str) -> None:
        with self._store.write() as connection:
            published.note_alias(connection, workspace, name, intended=number)
        self._registry.set_alias(workspace, name, number)
        self._note(workspace, name, number)

    def _note(self, workspace: str, name: str, number: str | None) -> None:
        with self._store.write() as connection:
            published.note_alias(connection, workspace, name, registry_version=number)
