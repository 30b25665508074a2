"""Exact unlearning of an outcome that is still young: a switch that stands at the serving line's
newest checkpoint and learns what followed without it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection

from learning.ledger.model_state import Entry, Exclusions
from service.store.ledger import entries, version_rows
from service.versions.switch_history import UNDO
from service.versions.switches import Switch, append_switch

Effect = Literal["gone", "at_rebuild"]


@dataclass(frozen=True, slots=True)
class Undo:
    """How the serving line forgets some outcomes: by `change`, or without (None) since it never
    learned them, or only at the next rebuild.
    """

    effect: Effect
    serving: Entry
    change: Switch | None = None

    def apply(self, connection: Connection, workspace: str) -> None:
        """Append the switch, if one is needed."""
        if self.change is not None:
            append_switch(connection, workspace, self.change, after=self.serving.position)


def plan_undo(
    connection: Connection, workspace: str, outcomes: Collection[Entry], actor: str, reason: str
) -> Undo:
    """How these outcomes leave the model that serves. The ledger's head must be locked."""
    serving = entries.switches(connection, workspace)[-1]
    without = Exclusions.of(serving.body["without"])
    learned = [entry.position for entry in outcomes if not without.leaves_out(entry)]
    if not learned:
        return Undo("gone", serving)
    base = _newest_checkpoint(connection, workspace, serving)
    if base is None or min(learned) <= base.position:
        return Undo("at_rebuild", serving)
    change = Switch(
        base.number,
        serving.body["learn_from"],
        reason,
        actor,
        replace(without, positions=without.positions | frozenset(learned)),
        {"undone": sorted(learned), "line": serving.position},
        UNDO,
    )
    return Undo("gone", serving, change)


def _newest_checkpoint(connection: Connection, workspace: str, serving: Entry) -> Any:
    """The newest version of the serving line, or the one that it began with. Where it is damaged,
    who stands there takes an older one of the line (`restore`).
    """
    line: Sequence[Any] = version_rows.of_line(
        connection, workspace, serving.position, entries.EVER
    )
    if line:
        return line[0]
    return version_rows.version(connection, workspace, serving.body["version"])
