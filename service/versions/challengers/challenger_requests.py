"""Create, build and close challenger models, requested by an engineer or by a drift alarm.

A challenger is another recipe, the ledger learned anew without some outcomes, or a stored version.
An exact repair is the same: a challenger first, that anyone may promote once it is built.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection

from learning.decision.promotion_terms import CHALLENGERS_MAX
from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions, ModelState, TextRemovedError
from learning.measures.scores import measures
from learning.models.mixture.donor import DonorMissing
from learning.models.recipes import DEFAULT, FORGETTING, UnknownRecipe, get_recipe
from service.runtime.errors import Contradiction, Invalid, NotFound
from service.runtime.ids import new_id
from service.store.database.transactions import Store
from service.store.ledger import challenger_rows, change_log, entries, version_rows
from service.versions import switches
from service.versions.model_lines import rebuild
from service.versions.start_from import fresh_state

REASON_PREFIX = "challenger: "
"""Start of the reason of a challenger's version."""

JOBS = "jobs"
PROGRESS_SECONDS = 1.0
"""Seconds between two progress reports of a rebuild."""

_log = structlog.get_logger("baton.challengers")


@dataclass(frozen=True, slots=True)
class ChallengerRequest:
    """A challenger to open: a stored `version`, or the ledger learned anew by a recipe."""

    why: str
    by: str
    recipe: str = ""
    without: Exclusions = Exclusions()
    version: int | None = None
    frozen: bool = False


def open_challenger(
    connection: Connection, workspace: str, request: ChallengerRequest
) -> dict[str, Any]:
    """Request a challenger; `jobs` build it in the background. Gives its row.

    Contradiction where CHALLENGERS_MAX exist or one has the same configuration; Invalid, NotFound.
    """
    entries.lock_head(connection, workspace)
    challengers = challenger_rows.of_workspace(connection, workspace)
    if len(challengers) >= CHALLENGERS_MAX:
        raise Contradiction(
            "challengers_full",
            f"{CHALLENGERS_MAX} challengers are open, and there may be {CHALLENGERS_MAX} at most",
            hint="close one with DELETE /v1/challengers/{id}",
        )
    recipe, without = _recipe_and_exclusions(connection, workspace, request)
    configuration = (recipe, without.body(), request.version, request.frozen)
    for challenger in challengers:
        other = (
            challenger.recipe,
            challenger.without,
            request.version and challenger.version,
            challenger.frozen,
        )
        if other == configuration:
            raise Contradiction(
                "challenger_there", f"challenger {challenger.id!r} is the same one", field="recipe"
            )
    slots = {challenger.slot for challenger in challengers}
    row: dict[str, Any] = {
        "workspace": workspace,
        "id": new_id("c"),
        "slot": min(n for n in range(1, CHALLENGERS_MAX + 1) if n not in slots),
        "status": challenger_rows.ASKED,
        "recipe": recipe,
        "version": request.version,
        "frozen": request.frozen,
        "without": without.body(),
        "why": request.why,
        "opened_by": request.by,
        "built": 0,
        "position": 0,
        "duel": {},
        "asked_at": time.time(),
    }
    challenger_rows.add(connection, row)
    return row


def first_excluded_position(connection: Connection, workspace: str, without: Exclusions) -> int:
    """The first ledger position that an exclusion covers. Invalid where it covers none: a name was
    mistyped, and the rebuild would repair nothing.
    """
    first = entries.first_excluded(connection, workspace, without)
    if first is None:
        raise Invalid(
            "nothing_left_out",
            "no outcome of this workspace is like that",
            field="without",
            hint="GET /v1/quality/agents names the agents; positions are the ledger's",
        )
    return first


def _recipe_and_exclusions(
    connection: Connection, workspace: str, request: ChallengerRequest
) -> tuple[str, Exclusions]:
    if request.version is not None:
        if request.recipe or request.without != Exclusions():
            raise Invalid(
                "version_or_recipe", "a version stands as it is: name no recipe", field="version"
            )
        row = switches.require_version(connection, workspace, request.version)
        return row["recipe"], Exclusions.of(row["without"])
    if request.frozen:
        raise Invalid("frozen_without_version", "only a version stands frozen", field="frozen")
    if request.without.body():
        first_excluded_position(connection, workspace, request.without)
    switch = entries.switches(connection, workspace)[-1]
    serving = version_rows.version(connection, workspace, switch.body["version"])
    try:
        recipe = get_recipe(request.recipe or (serving.recipe if serving else DEFAULT)).name
        fresh_state(connection, workspace, recipe)
        return recipe, request.without
    except (UnknownRecipe, DonorMissing) as error:
        raise Invalid("unknown_recipe", str(error), field="recipe") from error


def challenge_on_alarm(
    connection: Connection, workspace: str, alarm: dict[str, Any], recipe: str
) -> None:
    """Request a challenger that forgets sooner than the champion of `recipe`, or name the existing
    one in the alarm; no challenger of an engineer is displaced.
    """
    needed_recipe = DEFAULT if recipe == FORGETTING else FORGETTING
    for row in challenger_rows.of_workspace(connection, workspace):
        if (row.recipe, row.without, row.opened_by) == (needed_recipe, {}, JOBS):
            alarm["challenger"] = row.id
            return
    try:
        challenger = open_challenger(
            connection, workspace, ChallengerRequest(alarm["sentence"], JOBS, recipe=needed_recipe)
        )
    except Contradiction as error:
        _log.info("challenger_not_asked", workspace=workspace, why=str(error))
        return
    alarm["challenger"] = challenger["id"]


def close(connection: Connection, workspace: str, name: str, by: str, why: str) -> dict[str, Any]:
    """Close a challenger; closing is idempotent. Gives its row. NotFound."""
    row = challenger_rows.challenger(connection, workspace, name)
    if row is None:
        raise NotFound("no_challenger", f"there is no challenger {name!r} in this workspace")
    if challenger_rows.close(connection, workspace, name, by, why):
        facts = {"challenger": name, "version": row.version, "actor": by}
        sentence = f"challenger {row.slot} ({row.recipe}) was closed: {why}"
        change_log.add(connection, workspace, "challenger_closed", facts | {"sentence": sentence})
    closed = challenger_rows.challenger(connection, workspace, name)
    return {} if closed is None else closed._asdict()


def close_unknown_recipes(store: Store, workspace: str, by: str) -> None:
    """Close the challengers whose recipe this build does not have: another build made them."""
    with store.write() as connection:
        for row in challenger_rows.of_workspace(connection, workspace):
            if row.status in (challenger_rows.ASKED, challenger_rows.OPEN):
                try:
                    get_recipe(row.recipe)
                except UnknownRecipe as error:
                    close(connection, workspace, row.id, by, str(error))


def build_pending(store: Store, workspace: str) -> None:
    """Build the requested challengers: retrain each on the ledger, or load its version."""
    with store.read() as connection:
        pending = [
            r
            for r in challenger_rows.of_workspace(connection, workspace)
            if r.status == challenger_rows.ASKED
        ]
    for row in pending:
        try:
            model_state = _build(store, workspace, row)
        except (TextRemovedError, checkpoint.CheckpointError) as error:
            _log.error("challenger_not_opened", workspace=workspace, why=str(error))
            with store.write() as connection:
                changes = {
                    "status": challenger_rows.FAILED,
                    "closed_why": str(error),
                    "closed_at": time.time(),
                }
                if challenger_rows.change(connection, workspace, row.id, **changes):
                    facts = {"challenger": row.id, "sentence": f"not built: {error}"}
                    change_log.add(connection, workspace, "challenger_failed", facts)
            continue
        if model_state is not None:
            _store_open(store, workspace, row, model_state)


class _ClosedError(Exception):
    """The challenger was closed while it was built."""


def _build(store: Store, workspace: str, row: Any) -> ModelState | None:
    if row.version is not None:
        with store.read() as connection:
            return _load_version(connection, workspace, row)

    reported_at = time.monotonic()

    def report_progress(done: int, _of: int) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at < PROGRESS_SECONDS:
            return
        reported_at = time.monotonic()
        with store.write() as connection:
            if not challenger_rows.change(connection, workspace, row.id, built=done):
                raise _ClosedError

    try:
        return rebuild(store, workspace, row.recipe, Exclusions.of(row.without), report_progress)
    except _ClosedError:
        return None


def _store_open(store: Store, workspace: str, row: Any, model_state: ModelState) -> None:
    serialized = switches.SerializedState.of(model_state)
    with store.write() as connection:
        number = row.version
        head = entries.lock_head(connection, workspace)
        if number is None:
            scores = model_state.window.scores()
            number = switches.save_version(
                connection,
                workspace,
                serialized,
                line=0,
                reason=REASON_PREFIX + row.why,
                metrics=measures(scores.probability, scores.label, scores.weight),
            )
        changed = challenger_rows.change(
            connection,
            workspace,
            row.id,
            status=challenger_rows.OPEN,
            version=number,
            without=model_state.without.body(),
            built=head,
            position=model_state.position,
            state=serialized.state,
            duel={"opened": head},
            opened_at=time.time(),
        )
        if changed:
            facts = {"challenger": row.id, "version": number, "actor": row.opened_by}
            sentence = (
                f"challenger {row.slot} was opened: version {number} by {row.recipe}, {row.why}"
            )
            change_log.add(
                connection, workspace, "challenger_opened", facts | {"sentence": sentence}
            )
    _log.info("challenger_opened", workspace=workspace, version=number, recipe=row.recipe)


def _load_version(connection: Connection, workspace: str, row: Any) -> ModelState:
    data = version_rows.state(connection, workspace, row.version)
    model_state = checkpoint.load(data or b"")
    model_state.without = Exclusions.of(row.without)
    return model_state
