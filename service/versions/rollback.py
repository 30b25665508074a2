"""Rollback with repair: undo at once what somebody's labels taught, then exactly (machine
unlearning by retraining).

At once a version serves that had learned none of them, so all that came since is withheld. In the
background `jobs` retrain on the whole ledger without those labels, as a challenger, which serves
when it is proven better or somebody promotes it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from learning.ledger.model_state import Exclusions
from service.runtime.errors import Contradiction
from service.store.ledger import entries, version_rows
from service.versions import switches
from service.versions.challengers import challenger_requests


def newest_unaffected_version(connection: Connection, workspace: str, without: Exclusions) -> int:
    """The newest version that served, or descends from one, and learned none of the excluded
    outcomes.

    Invalid where nothing is excluded, Contradiction where there is no such version.
    """
    first = challenger_requests.first_excluded_position(connection, workspace, without)
    for switch in reversed(entries.switches(connection, workspace)):
        line = version_rows.of_line(connection, workspace, switch.position, first - 1)
        start = version_rows.version(connection, workspace, switch.body["version"])
        for row in (*line, *([] if start is None else [start])):
            if row.position < first and row.blocked is None:
                return int(row.number)
    raise Contradiction(
        "nothing_before",
        f"no version is kept that served before ledger position {first}, where this begins",
        field="to",
        hint="name a version from GET /v1/versions; or ask for the challenger alone",
    )


def roll_back(
    connection: Connection,
    workspace: str,
    *,
    to: int | None,
    without: Exclusions,
    actor: str,
    reason: str,
) -> dict[str, Any]:
    """Roll back and, where outcomes are excluded, request the repaired challenger: both or neither.
    Gives switch, version and challenger.

    The challenger learns all but what is excluded, also what the rollback withholds, by the recipe
    of the version that comes back. All that may refuse comes before anything is written.
    """
    challenger = None
    if without != Exclusions():
        to = to or newest_unaffected_version(connection, workspace, without)
        recipe = switches.require_servable(connection, workspace, to)["recipe"]
        request = challenger_requests.ChallengerRequest(f"repair: {reason}", actor, recipe, without)
        challenger = challenger_requests.open_challenger(connection, workspace, request)
    switch, version = switches.roll_back(connection, workspace, to=to, actor=actor, reason=reason)
    return {"switch": switch, "version": version, "challenger": challenger}
