"""Data retention: which text, checkpoints and evaluations may be removed, and when.

Restoring a model state starts from a checkpoint and learns the outcomes after it, so the text
behind an outcome is needed until every place where a process may still start lies past it: the
serving line's last but one checkpoint (the last may be damaged), its predecessor's last, the
position of each challenger, and the checkpoint under the oldest decision that stays. Text removed
once is gone for rebuilds, too: they say so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy import Connection

from learning.ledger.model_state import Entry
from service.runtime.settings import Settings
from service.store.conversations import removal
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.ledger import challenger_rows, entries, mlflow_rows
from service.versions.model_lines import champion_switch_index

DAY = 86_400
REMOVED_AT_ONCE = 200
"""Conversations removed in one transaction, and evaluations listed for removal."""

CHECKPOINTS_MIN = 2
NOTABLE_FACTOR = 10
"""So many times as many evaluations stay that changed what serves, or are not published yet."""

_log = structlog.get_logger("baton.retention")


class Retention:
    """Removes by the installation's settings, under the workspace's lock."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def remove_text(self) -> None:
        """Remove messages and decisions of conversations that ended more than `keep_days` ago,
        where no model state needs them.
        """
        if not self._settings.keep_days:
            return
        cutoff = time.time() - self._settings.keep_days * DAY
        with self._store.read() as connection:
            names = entries.workspaces(connection, trials=True)
        for name in names:
            with isolate_errors(name):
                while (removed := self._remove_text_piece(name, cutoff)) == REMOVED_AT_ONCE:
                    pass
                if removed:
                    _log.info("text_removed", workspace=name, conversations=removed)

    def _remove_text_piece(self, workspace: str, cutoff: float) -> int:
        with self._store.write() as connection:
            entries.lock_head(connection, workspace)
            until = removable_up_to(connection, workspace, cutoff)
            names = removal.removable_conversations(
                connection, workspace, cutoff, until, REMOVED_AT_ONCE
            )
            removal.remove_text(connection, workspace, names)
        return len(names)

    def surplus_versions(self, workspace: str) -> list[tuple[int, str | None]]:
        """Versions that may be removed, each with its MLflow number if it is published."""
        with self._store.read() as connection:
            return self._surplus_versions(connection, workspace)

    def remove_version(self, workspace: str, number: int) -> bool:
        """Remove a version, if it may still be removed; False otherwise."""
        with self._store.write() as connection:
            entries.lock_head(connection, workspace)
            if number not in dict(self._surplus_versions(connection, workspace)):
                return False
            removal.remove_version(connection, workspace, number)
        _log.info("version_removed", workspace=workspace, version=number)
        return True

    def surplus_evaluations(self, workspace: str) -> list[tuple[str, str | None]]:
        """Evaluations that may be removed, each with its MLflow run if it has one, in pieces.

        One that MLflow has yet to get, or that led to more than keeping the champion, stays until
        there are NOTABLE_FACTOR times as many.
        """
        keep = self._settings.keep_evaluations
        with self._store.read() as connection:
            rows = mlflow_rows.surplus_evaluations(
                connection, workspace, keep, NOTABLE_FACTOR * keep
            )
        return [(row.id, row.run_id) for row in rows[:REMOVED_AT_ONCE]]

    def remove_evaluation(self, workspace: str, name: str) -> None:
        """Remove an evaluation's report from the database."""
        with self._store.write() as connection:
            mlflow_rows.remove_evaluation(connection, workspace, name)

    def _surplus_versions(
        self, connection: Connection, workspace: str
    ) -> list[tuple[int, str | None]]:
        if not self._settings.keep_checkpoints:
            return []
        keep = max(self._settings.keep_checkpoints, CHECKPOINTS_MIN)
        named = {entry.body["version"] for entry in entries.switches(connection, workspace)}
        pointed = removal.aliased_versions(connection, workspace)
        removed_up_to = removal.removed_up_to(connection, workspace)
        cutoff = time.time() - self._settings.keep_days * DAY if self._settings.keep_days else 0.0
        oldest = removal.oldest_decision(connection, workspace, cutoff)
        surplus: list[tuple[int, str | None]] = []
        for line, members in groupby(removal.checkpoints(connection, workspace), lambda r: r.line):
            checkpoints = list(members)
            if line == 0:  # never served: a challenger, or what a switch was made to
                continue
            for index, row in enumerate(checkpoints[:-keep]):
                is_referenced = row.number in named or row.registry_version in pointed
                if not is_referenced and not _is_replay_base(
                    checkpoints, index, removed_up_to, oldest
                ):
                    surplus.append((row.number, row.registry_version))
        return surplus


def _is_replay_base(
    line: Sequence[Any], index: int, removed_up_to: int, oldest: int | None
) -> bool:
    """Whether replaying decisions that stay may need this checkpoint: text before it is removed, so
    an older one does not reach them.
    """
    return removed_up_to > 0 and oldest is not None and oldest < line[index + 1].position


def removable_up_to(connection: Connection, workspace: str, cutoff: float) -> int:
    """The ledger position up to which no line and no decision needs any outcome's text."""
    switches = entries.switches(connection, workspace)
    by_line: dict[int, list[int]] = {}
    positions: dict[int, int] = {}
    for row in removal.checkpoints(connection, workspace):
        by_line.setdefault(row.line, []).append(row.position)
        positions[row.number] = row.position
    needed = [_penultimate_checkpoint(switches[-1], by_line, positions)]
    index = champion_switch_index(switches)
    if index and switches[index].body["kind"] != "rollback":
        before = switches[index - 1]
        needed.append(max(by_line.get(before.position, [positions[before.body["version"]]])))
    needed += [
        challenger.position if challenger.status == challenger_rows.OPEN else 0
        for challenger in challenger_rows.of_workspace(connection, workspace)
        if not challenger.frozen
    ]
    oldest = removal.oldest_decision(connection, workspace, cutoff)
    if oldest is not None:
        needed.append(_restore_start(oldest, switches, by_line, positions))
    return min(needed)


def _penultimate_checkpoint(
    switch: Entry, by_line: dict[int, list[int]], positions: dict[int, int]
) -> int:
    line = by_line.get(switch.position, [])
    return line[-2] if len(line) > 1 else positions[switch.body["version"]]


def _restore_start(
    position: int,
    switches: Sequence[Entry],
    by_line: dict[int, list[int]],
    positions: dict[int, int],
) -> int:
    """The position of the checkpoint from which a position is restored."""
    switches_before = [switch for switch in switches if switch.position <= position]
    if not switches_before:
        return 0
    line = [p for p in by_line.get(switches_before[-1].position, []) if p <= position]
    return max(line, default=positions[switches_before[-1].body["version"]])
