"""Model registry aliases in MLflow, synchronised with the ledger: the ledger decides and they
follow, unless an engineer moved `champion`.

Each is recorded as last written or read. One that changed since is an engineer's request, acted on
within seconds; one that is unchanged but behind the ledger is lag, and is corrected. Only requests
about `champion` are followed; any other move is reverted, with the reason in a tag.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
from sqlalchemy import Connection, Row

from experiments.registry.mlflow_client import RegistryRefused
from experiments.registry.registered_versions import RegisteredVersion, Registry
from learning.decision.policy import Policy
from learning.ledger.model_state import Entry
from service.runtime.errors import RequestRefused
from service.store.database.transactions import Store
from service.store.ledger import challenger_rows, entries, mlflow_rows, version_rows
from service.versions import switches as versions
from service.versions.mlflow.blocks import ENGINEER, sync_blocks
from service.versions.model_lines import champion_switch_index

CHAMPION, PREVIOUS, ANCHOR, CHALLENGER = "champion", "previous", "anchor", "challenger-"
REFUSED_TAG = "baton.refused"

NOT_FOLLOWED = (
    "the alias {name} only follows the ledger, and was put back: move `champion` to let this "
    "version serve, or ask for a challenger with POST /v1/challengers"
)

_log = structlog.get_logger("baton.aliases")


class AliasSync:
    """Reconciles a workspace's aliases in one pass. RegistryUnavailable while MLflow is away."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def sync(self, workspace: str) -> None:
        """One reconciliation pass: blocks first, then `champion`, then the aliases that only
        follow.
        """
        sync_blocks(self._store, self._registry, workspace)
        current = self._registry.aliases(workspace)
        self._sync_champion(workspace, current.get(CHAMPION))
        with self._store.read() as connection:
            targets = follower_targets(connection, workspace)
        ours = {
            name for name in current if name in (PREVIOUS, ANCHOR) or name.startswith(CHALLENGER)
        }
        for name in sorted(ours | set(targets)):
            if current.get(name) != targets.get(name):
                self._sync_follower(workspace, name, current.get(name), targets.get(name))

    def _sync_follower(
        self, workspace: str, name: str, current: str | None, target: str | None
    ) -> None:
        """Set or drop an alias that only follows; one that an engineer moved is reverted."""
        with self._store.read() as connection:
            record = mlflow_rows.alias(connection, workspace, name)
        if current is not None and (
            record is None or current not in (record.registry_version, record.intended)
        ):
            self._revert_alias(workspace, name, current, NOT_FOLLOWED.format(name=name))
        self._move_alias(workspace, name, target)

    def _sync_champion(self, workspace: str, current: str | None) -> None:
        with self._store.read() as connection:
            switches = entries.switches(connection, workspace)
            serving = newest_published(connection, workspace, switches[-1])
            record = mlflow_rows.alias(connection, workspace, CHAMPION)
        if serving is None or serving.registry_version is None:
            return
        ours = (
            serving.registry_version,
            record and record.registry_version,
            record and record.intended,
        )
        if current is not None and record is not None and current not in ours:
            self._handle_alias_move(workspace, current, serving.registry_version)
        elif current != serving.registry_version:
            self._move_alias(workspace, CHAMPION, serving.registry_version)
        elif record is None or record.registry_version != current:
            self._record_alias(workspace, CHAMPION, current)

    def _handle_alias_move(self, workspace: str, number: str, back_to: str) -> None:
        """An engineer moved `champion`: switch to that version if it is valid, else revert."""
        registered = self._registry.get_version(workspace, number)
        try:
            with self._store.write() as connection:
                version = _append_requested_switch(connection, workspace, number, registered)
            self._record_alias(workspace, CHAMPION, number)
            _log.info("alias_heard", workspace=workspace, version=version)
        except (RequestRefused, RegistryRefused) as error:
            self._revert_alias(
                workspace, CHAMPION, number, str(error), tagged=registered is not None
            )
            self._move_alias(workspace, CHAMPION, back_to)

    def _revert_alias(
        self, workspace: str, name: str, number: str, why: str, *, tagged: bool = True
    ) -> None:
        """Record that a move was refused, and tag the version with the reason."""
        with self._store.write() as connection:
            row = version_rows.by_registry_version(connection, workspace, number)
            refusal = {
                "registry_version": number,
                "version": None if row is None else row.number,
                "actor": ENGINEER,
                "reason": why,
                "at": time.time(),
            }
            mlflow_rows.add_refusal(connection, workspace, name, refusal)
        if tagged:
            self._registry.tag(workspace, number, REFUSED_TAG, why)
        _log.warning("alias_put_back", workspace=workspace, alias=name, why=why)

    def _move_alias(self, workspace: str, name: str, number: str | None) -> None:
        """Move or drop an alias; the intended target is recorded first, so a pass that dies in
        between is not taken for an engineer's move.
        """
        with self._store.write() as connection:
            mlflow_rows.record_alias(connection, workspace, name, intended=number)
        if number is None:
            self._registry.drop_alias(workspace, name)
        else:
            self._registry.set_alias(workspace, name, number)
        self._record_alias(workspace, name, number)

    def _record_alias(self, workspace: str, name: str, number: str | None) -> None:
        with self._store.write() as connection:
            mlflow_rows.record_alias(connection, workspace, name, registry_version=number)


def _append_requested_switch(
    connection: Connection, workspace: str, number: str, registered: RegisteredVersion | None
) -> int:
    """Append the switch that an engineer requests; gives the version. Raises RequestRefused.

    A version that has served, or descends from one, serves as it was: a rollback. A new one is
    promoted with all that was learned since.
    """
    policy = Policy.from_ledger(entries.newest_policy(connection, workspace))
    if not policy.switching.by_alias:
        raise versions.alias_not_allowed(number)
    row = version_rows.by_registry_version(connection, workspace, number)
    if row is None or registered is None or registered.digest is None:
        raise versions.version_not_published(number)
    if registered.digest != row.digest:
        raise versions.digest_differs(number, row.number)
    reason = f"alias champion moved to MLflow version {number}"
    served_versions = [s.body["version"] for s in entries.switches(connection, workspace)]
    if row.line or row.number in served_versions:
        versions.roll_back(connection, workspace, to=row.number, actor=ENGINEER, reason=reason)
    else:
        versions.promote(connection, workspace, row.number, actor=ENGINEER, reason=reason)
    return int(row.number)


def newest_published(connection: Connection, workspace: str, switch: Entry) -> Row[Any] | None:
    """The newest published version of a switch's line, or the one it named."""
    for row in version_rows.of_line(connection, workspace, switch.position, 2**31 - 1):
        if row.registry_version is not None:
            return row
    return version_rows.version(connection, workspace, switch.body["version"])


def follower_targets(connection: Connection, workspace: str) -> dict[str, str]:
    """Targets of all aliases but `champion`, by name: MLflow numbers of published versions.

    `anchor` is the champion as it was when it was switched to; `previous` the newest version of the
    line before; `challenger-1` to `challenger-4` are those open, each as it was opened.
    """
    switches = entries.switches(connection, workspace)
    index = champion_switch_index(switches)
    rows = {ANCHOR: version_rows.version(connection, workspace, switches[index].body["version"])}
    if index:
        rows[PREVIOUS] = newest_published(connection, workspace, switches[index - 1])
    for challenger in challenger_rows.of_workspace(connection, workspace):
        if challenger.status == challenger_rows.OPEN:
            rows[f"{CHALLENGER}{challenger.slot}"] = version_rows.version(
                connection, workspace, challenger.version
            )
    return {
        name: row.registry_version
        for name, row in rows.items()
        if row is not None and row.registry_version is not None
    }
