"""Model registry of a workspace: versions are stored, promoted, rolled back and blocked; each
change of what serves is a switch in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from experiments.build_info import build_id, commit
from learning.decision.policy import Policy
from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions, ModelState
from learning.models.recipes import DEFAULT, UnknownRecipe, all_recipes, get_recipe
from service.runtime.errors import Contradiction, Invalid, NotFound
from service.store.ledger import challenger_rows, change_log, entries, outbox_rows, version_rows
from service.versions.switch_history import UNDO


def begin_workspace(
    connection: Connection,
    name: str,
    mode: str,
    actor: str,
    recipe: str = "",
    *,
    first: ModelState | None = None,
    reason: str = "the workspace begins",
    evidence: Mapping[str, Any] | None = None,
) -> bool:
    """Create a workspace: its ledger starts with a policy and a switch to an untrained version, of
    a recipe or as `first` is.

    False if the workspace exists. Invalid where the recipe is unknown.
    """
    begun_with = _recipe_to_begin_with(recipe) if first is None else ""
    if not entries.add_workspace(connection, name, mode):
        return False
    policy = Policy().model_dump(mode="json")
    entries.append(connection, name, "policy", policy, actor)
    serialized = _untrained(begun_with) if first is None else SerializedState.of(first)
    number = save_version(connection, name, serialized, line=0, reason="untrained")
    append_switch(connection, name, Switch(number, 0, reason, actor, evidence=evidence))
    return True


def _recipe_to_begin_with(name: str) -> str:
    try:
        recipe = get_recipe(name or DEFAULT)
        if recipe.donor:
            raise UnknownRecipe("a donor is not named by a recipe: start from its workspace")
    except UnknownRecipe as error:
        hint = f"use one of: {', '.join(all_recipes())}; GET /v1/versions says what each is"
        raise Invalid("unknown_recipe", str(error), field="recipe", hint=hint) from error
    return recipe.name


@dataclass(frozen=True, slots=True)
class SerializedState:
    """A model state serialized for storage, with its digest.

    Serializing takes up to a tenth of a second, so it is done before SQLite's write lock is taken:
    scoring would have to wait for it.
    """

    recipe: str
    position: int
    parent: int | None
    without: Mapping[str, Any]
    digest: str
    state: bytes

    @classmethod
    def of(cls, model_state: ModelState) -> SerializedState:
        """Serialize a model state and compute its digest."""
        return cls(
            model_state.recipe,
            model_state.position,
            model_state.version or None,
            model_state.without.body(),
            checkpoint.digest(model_state),
            checkpoint.dump(model_state),
        )


@lru_cache(maxsize=8)
def _untrained(recipe: str) -> SerializedState:
    """A recipe's state before anything is learned: the same in every workspace."""
    return SerializedState.of(ModelState(recipe=recipe))


def save_version(
    connection: Connection,
    workspace: str,
    serialized: SerializedState,
    *,
    line: int,
    reason: str,
    metrics: Mapping[str, Any] | None = None,
) -> int:
    """Store a serialized model state as a new version; gives its number."""
    return version_rows.add_version(
        connection,
        workspace,
        recipe=serialized.recipe,
        line=line,
        position=serialized.position,
        digest=serialized.digest,
        state=serialized.state,
        parent=serialized.parent,
        reason=reason,
        without=serialized.without,
        metrics=metrics or {},
        build=build_id(),
        commit=commit(),
    )


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch to append: version, position to learn from, reason, actor, exclusions, evidence.

    `learn_from` None is the switch's own position: what came since the version is withheld.
    """

    version: int
    learn_from: int | None
    reason: str
    actor: str
    without: Exclusions = Exclusions()
    evidence: Mapping[str, Any] | None = None
    kind: str = "promotion"


def append_switch(
    connection: Connection, workspace: str, change: Switch, after: int | None = None
) -> int:
    """Append a switch by compare-and-set; gives its position.

    `after` is the switch that the decision was based on: if another has come since, nothing is
    appended and Contradiction is raised, so two deciders never replace the same switch.
    """
    head = entries.lock_head(connection, workspace)
    if after is not None:
        latest = entries.switches(connection, workspace)[-1].position
        if latest != after:
            raise Contradiction(
                "switched_meanwhile", f"switch {latest} came after switch {after}, look again"
            )
    body = {
        "version": change.version,
        "learn_from": head + 1 if change.learn_from is None else change.learn_from,
        "without": change.without.body(),
        "kind": change.kind,
        "reason": change.reason,
        "evidence": dict(change.evidence or {}),
    }
    position = entries.append(connection, workspace, "switch", body, change.actor)
    if change.kind == UNDO:
        return position
    for row in challenger_rows.of_workspace(connection, workspace):
        if row.version == change.version and row.status == challenger_rows.OPEN:
            challenger_rows.close(connection, workspace, row.id, change.actor, "it serves")
    if head > 1:
        kind: change_log.Kind = "rollback" if change.kind == "rollback" else "promotion"
        sentence = f"version {change.version} serves: {change.reason}"
        facts = {"version": change.version, "switch": position, "actor": change.actor}
        change_log.add(connection, workspace, kind, facts | {"sentence": sentence})
        facts |= {"kind": change.kind, "reason": change.reason}
        outbox_rows.add(connection, workspace, "version.switched", facts)
    return position


def promote(
    connection: Connection,
    workspace: str,
    number: int,
    *,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
) -> int:
    """Promote a version: it serves from here on, with all that was learned since it was made.

    Outcomes of conversations erased since cannot be learned: the switch excludes them. NotFound,
    Contradiction.
    """
    row = require_servable(connection, workspace, number)
    without = Exclusions.of(row["without"])
    erased_positions = entries.erased_positions(connection, workspace)
    erased_since = frozenset(
        position for position in erased_positions if position > row["position"]
    )
    without = replace(without, positions=without.positions | erased_since)
    change = Switch(number, row["position"], reason, actor, without, evidence)
    return append_switch(connection, workspace, change)


def roll_back(
    connection: Connection,
    workspace: str,
    *,
    to: int | None,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    kind: str = "rollback",
    after: int | None = None,
) -> tuple[int, int]:
    """Roll back to an earlier version, without what was learned since. Gives switch and version.

    With no version named, the newest one of the line that served before. Later rebuilds by `jobs`
    exclude what is withheld here. NotFound, Contradiction.
    """
    head = entries.lock_head(connection, workspace)
    if to is None:
        to = predecessor_version(connection, workspace)
    row = require_servable(connection, workspace, to)
    without = Exclusions.of(row["without"])
    withheld = (row["position"], head + 1)
    without = replace(without, withheld=(*without.withheld, withheld))
    change = Switch(to, None, reason, actor, without, evidence, kind)
    return append_switch(connection, workspace, change, after), to


def predecessor_version(connection: Connection, workspace: str) -> int:
    """The newest version of the line that served before the present one. Contradiction if none."""
    switches = entries.switches(connection, workspace)
    while switches[-1].body["kind"] == UNDO:
        switches.pop()
    present = switches[-1]
    if present.body["kind"] == "rollback":
        raise Contradiction(
            "rolled_back_already",
            f"version {present.body['version']} serves since a rollback",
            field="to",
            hint="name the version that shall serve, from GET /v1/versions",
        )
    for entry in reversed(switches[:-1]):
        if entry.body["version"] != present.body["version"]:
            line = version_rows.of_line(connection, workspace, entry.position, present.position)
            start = version_rows.version(connection, workspace, entry.body["version"])
            for row in (*line, *([] if start is None else [start])):
                if row.blocked is None:
                    return int(row.number)
    raise Contradiction(
        "nothing_before",
        "no other version has served in this workspace",
        field="to",
        hint="name a version from GET /v1/versions",
    )


def set_block(connection: Connection, workspace: str, number: int, why: str | None) -> None:
    """Block a version from being switched to, with a reason; None lifts the block. What serves goes
    on.
    """
    require_version(connection, workspace, number)
    version_rows.block(connection, workspace, number, why)


def version_blocked(which: str, why: str) -> Contradiction:
    """The error for a switch to a blocked version."""
    return Contradiction(
        "version_blocked",
        f"{which} is blocked: {why}",
        hint="lift it with DELETE /v1/versions/{number}/block, or name another version",
    )


def alias_not_allowed(number: str) -> Contradiction:
    """The error for an alias moved where the policy's `switching.by_alias` is false."""
    return Contradiction(
        "alias_not_allowed",
        f"the policy lets nobody switch to MLflow version {number} by an alias",
        hint="use POST /v1/versions/{number}/promote, or set the policy's switching.by_alias",
    )


def require_version(connection: Connection, workspace: str, number: int) -> dict[str, Any]:
    """A version's row; NotFound."""
    row = version_rows.version(connection, workspace, number)
    if row is None:
        raise NotFound("no_version", f"there is no version {number} in this workspace")
    return row._asdict()


def require_servable(connection: Connection, workspace: str, number: int) -> dict[str, Any]:
    """A version's row, if it is not blocked and this build can load its checkpoint; else NotFound
    or Contradiction. No other version may be switched to.
    """
    row = require_version(connection, workspace, number)
    if row["blocked"] is not None:
        raise version_blocked(f"version {number}", row["blocked"])
    try:
        checkpoint.load(version_rows.state(connection, workspace, number) or b"")
    except checkpoint.CheckpointError as error:
        raise Contradiction(
            "version_damaged",
            f"version {number} cannot serve: {error}",
            hint="name another version, or make one with `baton rebuild`",
        ) from error
    return row


def version_not_published(number: str) -> NotFound:
    """The error for an MLflow version that Baton did not publish."""
    return NotFound(
        "not_batons",
        f"MLflow version {number} is not one that Baton published",
        hint="move the alias to a version that has the tag baton.digest",
    )


def digest_differs(number: str, version: int) -> Contradiction:
    """The error for an MLflow version whose digest tag differs from the stored version's."""
    return Contradiction(
        "digest_differs",
        f"the tag baton.digest of MLflow version {number} is not the digest of version {version}",
        hint="write the digest from GET /v1/versions back into the tag, then move the alias again",
    )
