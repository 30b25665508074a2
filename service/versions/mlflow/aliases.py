"""The aliases in MLflow: the ledger decides and they follow, unless an engineer moved `champion`.

Each is remembered as last written or seen. One that changed since is an engineer's request, heard
within a few seconds; one that is unchanged but behind the ledger is only lag, and is mended. Of
requests only those about `champion` are followed; any other is put back, and says why.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
from sqlalchemy import Connection, Row

from experiments.registry.mlflow_client import RegistryRefused
from experiments.registry.registered_versions import RegisteredVersion, Registry
from learning.ledger.model_state import Entry
from service.runtime.errors import RequestRefused
from service.store.database.transactions import Store
from service.store.ledger import challenger_rows, entries, mlflow_rows, version_rows
from service.versions import switches as versions
from service.versions.model_lines import champion_switch_index

CHAMPION, PREVIOUS, ANCHOR, CHALLENGER = "champion", "previous", "anchor", "challenger-"
REFUSED_TAG, BLOCKED_TAG = "baton.refused", "baton.blocked"
ENGINEER = "mlflow"
"""Who moved the alias, as the ledger calls them: MLflow does not say more."""

FOLLOWS = (
    "the alias {name} only follows the ledger, and was put back: move `champion` to let this "
    "version serve, or ask for a challenger with POST /v1/challengers"
)

_log = structlog.get_logger("baton.aliases")


class AliasSync:
    """One pass settles the aliases of a workspace. RegistryUnavailable while MLflow is away."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def settle(self, workspace: str) -> None:
        seen = self._registry.aliases(workspace)
        self._champion(workspace, seen.get(CHAMPION))
        with self._store.read() as connection:
            wanted = followers(connection, workspace)
        ours = {name for name in seen if name in (PREVIOUS, ANCHOR) or name.startswith(CHALLENGER)}
        for name in sorted(ours | set(wanted)):
            if seen.get(name) != wanted.get(name):
                self._follows(workspace, name, seen.get(name), wanted.get(name))

    def _follows(self, workspace: str, name: str, seen: str | None, wanted: str | None) -> None:
        """Set or drop an alias that only follows; one that an engineer moved is put back."""
        with self._store.read() as connection:
            known = mlflow_rows.alias(connection, workspace, name)
        if seen is not None and (
            known is None or seen not in (known.registry_version, known.intended)
        ):
            self._put_back(workspace, name, seen, FOLLOWS.format(name=name))
        self._set(workspace, name, wanted)

    def _champion(self, workspace: str, seen: str | None) -> None:
        with self._store.read() as connection:
            switches = entries.switches(connection, workspace)
            serving = newest(connection, workspace, switches[-1])
            known = mlflow_rows.alias(connection, workspace, CHAMPION)
        if serving is None or serving.registry_version is None:
            return
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

    def _requested(self, workspace: str, number: str, back_to: str) -> None:
        """An engineer moved the alias: the version is checked, then serves; or it is put back."""
        found = self._registry.get_version(workspace, number)
        try:
            with self._store.write() as connection:
                version = _follow(connection, workspace, number, found)
            self._note(workspace, CHAMPION, number)
            _log.info("alias_heard", workspace=workspace, version=version)
        except (RequestRefused, RegistryRefused) as error:
            self._put_back(workspace, CHAMPION, number, str(error), tagged=found is not None)
            self._set(workspace, CHAMPION, back_to)

    def _put_back(
        self, workspace: str, name: str, number: str, why: str, *, tagged: bool = True
    ) -> None:
        """Remember that a move was refused, and say why on the version's page."""
        with self._store.write() as connection:
            row = version_rows.by_registry(connection, workspace, number)
            told = {
                "registry_version": number,
                "version": None if row is None else row.number,
                "actor": ENGINEER,
                "reason": why,
                "at": time.time(),
            }
            mlflow_rows.refuse(connection, workspace, name, told)
        if tagged:
            self._registry.tag(workspace, number, REFUSED_TAG, why)
        _log.warning("alias_put_back", workspace=workspace, alias=name, why=why)

    def _set(self, workspace: str, name: str, number: str | None) -> None:
        """Move an alias, or drop it; what is intended is known before, so a pass that dies between
        is not taken for an engineer.
        """
        with self._store.write() as connection:
            mlflow_rows.note_alias(connection, workspace, name, intended=number)
        if number is None:
            self._registry.drop_alias(workspace, name)
        else:
            self._registry.set_alias(workspace, name, number)
        self._note(workspace, name, number)

    def _note(self, workspace: str, name: str, number: str | None) -> None:
        with self._store.write() as connection:
            mlflow_rows.note_alias(connection, workspace, name, registry_version=number)


def _follow(
    connection: Connection, workspace: str, number: str, found: RegisteredVersion | None
) -> int:
    """Append the switch that an engineer asks for; the version. Raises a Refusal.

    One that has served, or descends from one, serves as it was: a rollback. A new one is promoted
    with all that was learned since.
    """
    row = version_rows.by_registry(connection, workspace, number)
    if row is None or found is None or found.digest is None:
        raise versions.unknown(number)
    if found.digest != row.digest:
        raise versions.altered(number, row.number)
    if why := found.tags.get(BLOCKED_TAG):
        raise versions.blocked(f"MLflow version {number}", f"{why} (its tag {BLOCKED_TAG})")
    reason = f"alias champion moved to MLflow version {number}"
    named = [s.body["version"] for s in entries.switches(connection, workspace)]
    if row.line or row.number in named:
        versions.roll_back(connection, workspace, to=row.number, actor=ENGINEER, reason=reason)
    else:
        versions.promote(connection, workspace, row.number, actor=ENGINEER, reason=reason)
    return int(row.number)


def newest(connection: Connection, workspace: str, switch: Entry) -> Row[Any] | None:
    """The newest published version of a switch's line, or the one it named."""
    for row in version_rows.of_line(connection, workspace, switch.position, 2**31 - 1):
        if row.registry_version is not None:
            return row
    return version_rows.version(connection, workspace, switch.body["version"])


def followers(connection: Connection, workspace: str) -> dict[str, str]:
    """Where every alias but `champion` stands, by its name: MLflow numbers of published versions.

    `anchor` is the champion as it was when it was switched to; `previous` the newest version of
    the line before; `challenger-1` to `challenger-4` are those open, each as it was opened.
    """
    switches = entries.switches(connection, workspace)
    place = champion_switch_index(switches)
    found = {ANCHOR: version_rows.version(connection, workspace, switches[place].body["version"])}
    if place:
        found[PREVIOUS] = newest(connection, workspace, switches[place - 1])
    for one in challenger_rows.of_workspace(connection, workspace):
        if one.status == challenger_rows.OPEN:
            found[f"{CHALLENGER}{one.slot}"] = version_rows.version(
                connection, workspace, one.version
            )
    return {
        name: row.registry_version
        for name, row in found.items()
        if row is not None and row.registry_version is not None
    }
