"""Version routes: model versions, switches between them, rollback, and challengers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from experiments.build_info import build, build_id
from learning.decision.promotion_terms import CHALLENGERS_MAX
from learning.ledger import model_state
from learning.models.recipes import all_recipes
from service.store import security_log
from service.store.conversations.batch import Batch
from service.store.ledger import challenger_rows, entries, version_rows
from service.versions import rollback as rollbacks
from service.versions import switch_history, switches
from service.versions.challengers import challenger_requests
from service.web.access.keys import Principal
from service.web.error_responses import ERRORS
from service.web.request_context import AppDependency, AppState, Engineer, once
from service.web.schemas import Id, RequestModel, ShortText, about, timed

router = APIRouter(tags=["versions"], responses=ERRORS)
_INT_MAX = 2**31 - 1
Number = Annotated[int, Path(ge=1, le=_INT_MAX, description="The version's number.")]
_Positive = Annotated[int, Field(ge=1, le=_INT_MAX)]


class Promotion(RequestModel):
    """Why a version shall serve."""

    reason: Annotated[ShortText, about("Why; it stands in the ledger.", "better on refunds")] = (
        "promoted by an engineer"
    )


class Blocking(RequestModel):
    """Why a version may not serve."""

    reason: Annotated[ShortText, about("Why; shown with the version.", "learned forged labels")] = (
        "blocked by an engineer"
    )


class Without(RequestModel):
    """Which outcomes are left out: those that match all that is given."""

    agent: Annotated[ShortText | None, about("This agent's.", "mallory")] = None
    source: Annotated[ShortText | None, about("Those of this source.", "history")] = None
    from_position: Annotated[
        _Positive | None, about("Those from this ledger position on.", 180)
    ] = None
    to_position: Annotated[_Positive | None, about("Those up to this one.", 240)] = None

    @property
    def criteria(self) -> model_state.Exclusions:
        return model_state.Exclusions(**self.model_dump())


class Rollback(RequestModel):
    """Which version shall serve again; without one, the one that served before, or where outcomes
    are to be left out, the newest that learned none of them.
    """

    to: Annotated[_Positive | None, about("The version's number.", 3)] = None
    reason: Annotated[ShortText, about("Why; it stands in the ledger.", "wrong labels today")]
    without: Annotated[Without, about("Outcomes that a challenger shall learn without.")] = (
        Without()
    )


class ChallengerRequest(RequestModel):
    """A challenger: the ledger learned anew by a recipe, without some outcomes; or a version."""

    recipe: Annotated[
        str, Field(max_length=200), about("By which recipe; the serving one's.", "forgetting-4")
    ] = ""
    without: Annotated[Without, about("Outcomes that it learns without.")] = Without()
    version: Annotated[_Positive | None, about("A version as it is, instead.", 3)] = None
    frozen: Annotated[bool, about("It never learns.", False)] = False
    reason: Annotated[ShortText, about("Why; it stands on record.", "refunds have changed")]


class BuildInfo(BaseModel):
    """What the model's bits depend on."""

    python: Annotated[str, about("Python's release.", "3.11")]
    packages: Annotated[dict[str, str], about("Releases of packages.", {"numpy": "2.3.5"})]
    zones: Annotated[str, about("Release of the time zones.", "2026a")]
    learning: Annotated[str, about("Digest of the package `learning`.", "9f2c41d0")]
    machine: Annotated[str, about("The processor's kind.", "x86_64")]
    processor_features: Annotated[list[str], about("What NumPy uses of it.", ["AVX2"])]


class ModelStateResponse(BaseModel):
    """The model that this very process serves."""

    version: Annotated[int, about("The version that the switch named.", 3)]
    recipe: Annotated[str, about("Its recipe.", "mixture-5")]
    position: Annotated[int, about("The ledger position that it has learned up to.", 202)]
    digest: Annotated[str, about("SHA-256 of all that it has learned.", "5d41402abc4b2a76")]
    switch: Annotated[int, about("The switch that it stands at.", 150)]
    build: Annotated[str, about("This build's id.", "5f0c9a")]
    made_of: Annotated[BuildInfo, about("What the build's id is made of.")]


class SwitchResponse(BaseModel):
    """A switch: which version serves since then, who or what decided, and on what evidence."""

    switch: Annotated[int, about("Its ledger position.", 150)]
    version: Annotated[int, about("The version that serves since.", 3)]
    kind: Annotated[str, about("start, promotion, rollback or the like.", "promotion")]
    reason: Annotated[str, about("Why.", "proven better")]
    actor: Annotated[str, about("Who or what decided.", "jobs")]
    learn_from: Annotated[int, about("From where on its outcomes are learned.", 120)]
    without: Annotated[dict[str, Any], about("Outcomes left out.", {"agent": "mallory"})]
    evidence: Annotated[dict[str, Any], about("On what evidence.", {"judged": 240})]
    at: Annotated[datetime, about("When.", "2026-11-28T09:30:00+00:00")]


class VersionResponse(BaseModel):
    """A version: a recipe's learned state at a ledger position."""

    number: Annotated[int, about("Its number.", 3)]
    recipe: Annotated[str, about("Its recipe.", "mixture-5")]
    line: Annotated[int, about("The switch that it descends from; 0: it never served.", 150)]
    position: Annotated[int, about("The ledger position that it had learned up to.", 202)]
    digest: Annotated[str, about("SHA-256 of all that it has learned.", "5d41402abc4b2a76")]
    parent: Annotated[int | None, about("The version that it was made from.", 2)]
    reason: Annotated[str, about("Why it was made.", "checkpoint")]
    without: Annotated[dict[str, Any], about("Outcomes it left out.", {"agent": "mallory"})]
    metrics: Annotated[dict[str, Any], about("Its test-then-learn measures.", {"log_loss": 0.31})]
    created_at: Annotated[datetime, about("When it was made.", "2026-11-28T09:30:00+00:00")]
    registry_version: Annotated[str | None, about("Its number in MLflow, once published.", "3")]
    build: Annotated[str, about("The build that made it.", "5f0c9a")]
    commit: Annotated[str | None, about("The commit of that build.", "9c213c2")]
    blocked: Annotated[str | None, about("Why it may not serve, if it may not.", "forged labels")]


class VersionWithSwitches(VersionResponse):
    """A version, and every switch that named it."""

    switches: Annotated[list[SwitchResponse], about("Every switch that named it.")]


class Move(BaseModel):
    """A move of what serves, or one that was refused."""

    at: Annotated[datetime, about("When.", "2026-11-28T09:30:00+00:00")]
    what: Annotated[str, about("promotion, rollback, ..., or refused.", "promotion")]
    version: Annotated[int | None, about("The version.", 3)]
    actor: Annotated[str, about("Who; mlflow: in its pages.", "mlflow")]
    reason: Annotated[str, about("Why.", "alias champion moved")]
    switch: Annotated[int | None, about("Its ledger position; null where refused.", 150)]
    alias: Annotated[str | None, about("The alias that was put back.", "champion")] = None
    registry_version: Annotated[str | None, about("MLflow's number of the version.", "3")] = None


class ChallengerResponse(BaseModel):
    """A line that learns, or stands frozen, beside the one that serves."""

    id: Annotated[str, about("Its id.", "c19ab2c3d4e5f60718293a4")]
    slot: Annotated[int, about("Which of the four places it has.", 1)]
    status: Annotated[
        str, about("asked (jobs have yet to build it), open, closed, failed.", "open")
    ]
    recipe: Annotated[str, about("Its recipe.", "forgetting-4")]
    version: Annotated[int | None, about("The version it began as, if one.", 3)]
    frozen: Annotated[bool, about("Whether it never learns.", False)]
    without: Annotated[dict[str, Any], about("Outcomes left out.", {"agent": "mallory"})]
    why: Annotated[str, about("Why it was asked for.", "refunds have changed")]
    opened_by: Annotated[str, about("Who asked.", "erin")]
    closed_why: Annotated[str | None, about("Why it was closed.", "by an engineer")]
    closed_by: Annotated[str | None, about("Who closed it.", "erin")]
    built: Annotated[int, about("Ledger entries learned while it is built.", 180)]
    position: Annotated[int, about("The ledger position that it has learned up to.", 202)]
    asked_at: Annotated[datetime, about("When it was asked for.", "2026-11-28T09:30:00+00:00")]
    opened_at: Annotated[datetime | None, about("When it was built.", "2026-11-28T09:31:00+00:00")]
    closed_at: Annotated[datetime | None, about("When it was closed.", "2026-11-28T12:00:00+00:00")]


class VersionList(BaseModel):
    """Versions, switches, challengers and recipes of a workspace."""

    versions: Annotated[list[VersionResponse], about("The newest first.")]
    serving: Annotated[int, about("The version that the newest switch names.", 3)]
    switches: Annotated[list[SwitchResponse], about("The oldest first.")]
    moves: Annotated[list[Move], about("What moved, the newest first, refused ones among them.")]
    challengers: Annotated[list[ChallengerResponse], about("The newest first.")]
    challengers_max: Annotated[int, about("Most at once.", 4)]
    head: Annotated[int, about("The ledger's newest position.", 202)]
    recipes: Annotated[
        dict[str, str], about("What each recipe is.", {"bayes-4": "online Bayesian logistic"})
    ]


class SwitchedResponse(BaseModel):
    """A switch that was just made."""

    switch: Annotated[int, about("Its ledger position.", 203)]
    version: Annotated[int, about("The version that serves since.", 3)]
    serving: Annotated[bool, about("Whether this process serves it already.", True)]


class RolledBackResponse(SwitchedResponse):
    """A rollback that was just made."""

    challenger: Annotated[
        ChallengerResponse | None, about("The challenger that was asked for, if one was.")
    ]


class BlockedResponse(BaseModel):
    """Whether a version may serve."""

    version: Annotated[int, about("Its number.", 3)]
    blocked: Annotated[str | None, about("Why not; null: it may.", "forged labels (erin)")]


@router.get("/standing", response_model=ModelStateResponse)
async def get_model_state(baton: AppDependency, principal: Engineer) -> Any:
    """What this very process serves: version, position and the digest that proves the model."""
    state = await baton.engine.model_state(principal.workspace)
    return JSONResponse(
        {
            "version": state.version,
            "recipe": state.recipe,
            "position": state.position,
            "digest": await baton.engine.digest(principal.workspace),
            "switch": state.switch,
            "build": build_id(),
            "made_of": build(),
        }
    )


@router.get("/versions", response_model=VersionList)
async def list_versions(baton: AppDependency, principal: Engineer) -> Any:
    """Versions, the newest first, the switches between them, the challengers, and the recipes.

    `moves` says what moved, when, by whom (`mlflow`: in its pages) and why, those that were
    refused among them. A challenger that is being built has learned `built` positions of `head`.
    """
    workspace = principal.workspace

    def look(connection: Connection) -> dict[str, Any]:
        versions = [_version_json(row) for row in version_rows.versions(connection, workspace)]
        history = [
            timed(switch_history.switch_json(switch))
            for switch in entries.switches(connection, workspace)
        ]
        challengers = challenger_rows.newest(connection, workspace)
        settings = entries.workspace(connection, workspace)
        return {
            "versions": versions,
            "serving": history[-1]["version"],
            "switches": history,
            "moves": [timed(move) for move in switch_history.moves(connection, workspace)],
            "challengers": [_challenger_json(row) for row in challengers],
            "challengers_max": CHALLENGERS_MAX,
            "head": settings.head if settings else 0,
            "recipes": dict(all_recipes()),
        }

    return JSONResponse(await baton.read(look))


@router.get("/versions/{number}", response_model=VersionWithSwitches)
async def get_version(number: Number, baton: AppDependency, principal: Engineer) -> Any:
    """One version, and every switch that named it."""
    workspace = principal.workspace

    def look(connection: Connection) -> dict[str, Any]:
        switches.require_version(connection, workspace, number)
        row = version_rows.version(connection, workspace, number)
        named = [s for s in entries.switches(connection, workspace) if s.body["version"] == number]
        history = [timed(switch_history.switch_json(switch)) for switch in named]
        return _version_json(row) | {"switches": history}

    return JSONResponse(await baton.read(look))


@router.post("/versions/{number}/promote", response_model=SwitchedResponse)
async def promote_version(
    number: Number,
    baton: AppDependency,
    principal: Engineer,
    request: Request,
    asked: Promotion | None = None,
) -> Any:
    """Let a version serve, with all that was learned since it was made."""
    workspace, reason = principal.workspace, (asked or Promotion()).reason

    def promote(batch: Batch) -> Mapping[str, Any]:
        position = switches.promote(
            batch.connection, workspace, number, actor=principal.name, reason=reason
        )
        return {"switch": position, "version": number}

    return await _switch(baton, principal, once(request, principal, [number, reason], promote))


@router.post("/versions/{number}/block", response_model=BlockedResponse)
async def block_version(
    number: Number, baton: AppDependency, principal: Engineer, asked: Blocking | None = None
) -> Any:
    """Nobody may let this version serve, by any way, until it is unblocked. What serves goes on."""
    why = f"{(asked or Blocking()).reason} ({principal.name})"
    return await _set_block(baton, principal, number, why)


@router.delete("/versions/{number}/block", response_model=BlockedResponse)
async def unblock_version(number: Number, baton: AppDependency, principal: Engineer) -> Any:
    """The version may serve again."""
    return await _set_block(baton, principal, number, None)


async def _set_block(baton: AppState, principal: Principal, number: int, why: str | None) -> Any:
    workspace = principal.workspace

    def set_block(batch: Batch) -> Mapping[str, Any]:
        switches.set_block(batch.connection, workspace, number, why)
        return {"version": number, "blocked": why}

    return JSONResponse(dict(await baton.engine.run(workspace, set_block)))


@router.post("/rollback", response_model=RolledBackResponse)
async def roll_back(
    asked: Rollback, baton: AppDependency, principal: Engineer, request: Request
) -> Any:
    """Let an earlier version serve, without what was learned since.

    With `without`, a challenger is asked for besides, which learns the whole ledger as if those
    outcomes had never come; it is promoted like any other.
    """
    workspace, to, without = principal.workspace, asked.to, asked.without.criteria
    if to is None and without != model_state.Exclusions():
        to = await baton.read(
            lambda connection: rollbacks.newest_unaffected_version(connection, workspace, without)
        )

    def roll_back(batch: Batch) -> Mapping[str, Any]:
        made = rollbacks.roll_back(
            batch.connection,
            workspace,
            to=to,
            without=without,
            actor=principal.name,
            reason=asked.reason,
        )
        challenger = made.pop("challenger")
        return made | {"challenger": challenger and _challenger_json(challenger)}

    body = asked.model_dump(mode="json")
    return await _switch(baton, principal, once(request, principal, body, roll_back))


@router.post("/challengers", response_model=ChallengerResponse)
async def open_challenger(
    asked: ChallengerRequest, baton: AppDependency, principal: Engineer, request: Request
) -> Any:
    """Ask for a challenger: jobs build it, follow it, and promote it once it is proven better."""
    workspace = principal.workspace
    without = asked.without.criteria
    challenger = challenger_requests.ChallengerRequest(
        asked.reason, principal.name, asked.recipe, without, asked.version, asked.frozen
    )

    def ask(batch: Batch) -> Mapping[str, Any]:
        row = challenger_requests.open_challenger(batch.connection, workspace, challenger)
        return _challenger_json(row)

    do_once = once(request, principal, asked.model_dump(mode="json"), ask)
    return JSONResponse(dict(await baton.engine.run(workspace, do_once)))


@router.delete("/challengers/{challenger_id}", response_model=ChallengerResponse)
async def close_challenger(challenger_id: Id, baton: AppDependency, principal: Engineer) -> Any:
    """Close a challenger; what it came to stays on record."""
    workspace = principal.workspace

    def close(batch: Batch) -> Mapping[str, Any]:
        return _challenger_json(
            challenger_requests.close(
                batch.connection, workspace, challenger_id, principal.name, "by an engineer"
            )
        )

    return JSONResponse(dict(await baton.engine.run(workspace, close)))


async def _switch(baton: AppState, principal: Principal, do: Any) -> JSONResponse:
    """Answer once this process serves the switch, so that the next score is the new version's."""

    def switch(batch: Batch) -> Mapping[str, Any]:
        change: Mapping[str, Any] = do(batch)
        subject = f"version {change.get('version')} at {change.get('switch')}"
        event = security_log.event(
            "switched", principal.name, subject, workspace=principal.workspace
        )
        security_log.append(batch.connection, [event])
        return change

    answer = dict(await baton.engine.run(principal.workspace, switch))
    serving = await baton.engine.wait_for_position(principal.workspace, answer["switch"])
    return JSONResponse(answer | {"serving": serving})


def _version_json(row: Any) -> dict[str, Any]:
    return timed({name: value for name, value in row._asdict().items() if name != "workspace"})


def _challenger_json(row: Any) -> dict[str, Any]:
    """A challenger as stored, or as it was just asked for."""
    values: dict[str, Any] = dict.fromkeys(("opened_at", "closed_at", "closed_why", "closed_by"))
    values |= row if isinstance(row, dict) else row._asdict()
    hidden = ("workspace", "state", "duel")
    return timed({name: value for name, value in values.items() if name not in hidden})
