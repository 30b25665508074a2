"""Versions: what stands, what may serve, and the switches between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from experiments.build_info import build, build_id
from learning.decision.promotion_terms import CHALLENGERS_MAX
from learning.ledger import model_state
from learning.models.recipes import RECIPES
from service.store.conversations.batch import Batch
from service.store.ledger import challenger_rows, entries, version_rows
from service.versions import rollback as repair
from service.versions import switch_history
from service.versions import switches as versions
from service.versions.challengers import challenger_requests
from service.web.access.keys import Principal
from service.web.request_context import ERRORS, AppDependency, AppState, Engineer, once
from service.web.schemas import Id, RequestModel, ShortText, timed

router = APIRouter(tags=["versions"], responses=ERRORS)
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_INT_MAX = 2**31 - 1


class Promotion(RequestModel):
    reason: ShortText = "promoted by an engineer"


class Blocking(RequestModel):
    reason: ShortText = "blocked by an engineer"


class Without(RequestModel):
    """Which outcomes are left out: those that match all that is given."""

    agent: ShortText | None = None
    source: ShortText | None = None
    from_position: Annotated[int, Field(ge=1, le=_INT_MAX)] | None = None
    to_position: Annotated[int, Field(ge=1, le=_INT_MAX)] | None = None

    @property
    def criteria(self) -> model_state.Exclusions:
        return model_state.Exclusions(**self.model_dump())


class Rollback(RequestModel):
    """Which version shall serve again; without one, the one that served before, or where outcomes
    are to be left out, the newest that learned none of them.
    """

    to: Annotated[int, Field(ge=1, le=_INT_MAX)] | None = None
    reason: ShortText
    without: Without = Without()


class Challenge(RequestModel):
    """A challenger: the ledger learned anew by a recipe, without some outcomes; or a version."""

    recipe: Annotated[str, Field(max_length=200)] = ""
    without: Without = Without()
    version: Annotated[int, Field(ge=1, le=_INT_MAX)] | None = None
    frozen: bool = False
    reason: ShortText


@router.get("/standing")
async def standing(baton: AppDependency, principal: Engineer) -> Any:
    """What this very process serves: version, position and the digest that proves the model."""
    found = await baton.engine.model_state(principal.workspace)
    return JSONResponse(
        {
            "version": found.version,
            "recipe": found.recipe,
            "position": found.position,
            "digest": await baton.engine.digest(principal.workspace),
            "switch": found.switch,
            "build": build_id(),
            "made_of": build(),
        }
    )


@router.get("/versions")
async def listed(baton: AppDependency, principal: Engineer) -> Any:
    """Versions, the newest first, the switches between them, the challengers, and the recipes.

    `moves` says what moved, when, by whom (`mlflow`: in its pages) and why, those that were
    refused among them. A challenger that is being built has learned `built` positions of `head`.
    """
    workspace = principal.workspace

    def look(connection: Any) -> dict[str, Any]:
        listed = [_shown(row) for row in version_rows.versions(connection, workspace)]
        switches = [
            timed(switch_history.switch_json(s)) for s in entries.switches(connection, workspace)
        ]
        return {
            "versions": listed,
            "serving": switches[-1]["version"],
            "switches": switches,
            "moves": [timed(move) for move in switch_history.moves(connection, workspace)],
            "challengers": [_opened(row) for row in challenger_rows.newest(connection, workspace)],
            "challengers_max": CHALLENGERS_MAX,
            "head": found.head if (found := entries.workspace(connection, workspace)) else 0,
            "recipes": {name: recipe.sentence for name, recipe in RECIPES.items()},
        }

    return JSONResponse(await baton.read(look))


@router.get("/versions/{number}")
async def one(number: Number, baton: AppDependency, principal: Engineer) -> Any:
    """One version, and every switch that named it."""
    workspace = principal.workspace

    def look(connection: Any) -> dict[str, Any]:
        versions.require_version(connection, workspace, number)
        row = version_rows.version(connection, workspace, number)
        named = [s for s in entries.switches(connection, workspace) if s.body["version"] == number]
        return _shown(row) | {"switches": [timed(switch_history.switch_json(s)) for s in named]}

    return JSONResponse(await baton.read(look))


@router.post("/versions/{number}/promote")
async def promote(
    number: Number,
    baton: AppDependency,
    principal: Engineer,
    request: Request,
    asked: Promotion | None = None,
) -> Any:
    """Let a version serve, with all that was learned since it was made."""
    workspace, reason = principal.workspace, (asked or Promotion()).reason

    def do(batch: Batch) -> Mapping[str, Any]:
        position = versions.promote(
            batch.connection, workspace, number, actor=principal.name, reason=reason
        )
        return {"switch": position, "version": number}

    return await _switched(baton, principal, once(request, principal, [number, reason], do))


@router.post("/versions/{number}/block")
async def block(
    number: Number, baton: AppDependency, principal: Engineer, asked: Blocking | None = None
) -> Any:
    """Nobody may let this version serve, by any way, until it is lifted. What serves goes on."""
    why = f"{(asked or Blocking()).reason} ({principal.name})"
    return await _blocked(baton, principal, number, why)


@router.delete("/versions/{number}/block")
async def lift(number: Number, baton: AppDependency, principal: Engineer) -> Any:
    """The version may serve again."""
    return await _blocked(baton, principal, number, None)


async def _blocked(baton: AppState, principal: Principal, number: int, why: str | None) -> Any:
    workspace = principal.workspace

    def do(batch: Batch) -> Mapping[str, Any]:
        versions.set_block(batch.connection, workspace, number, why)
        return {"version": number, "blocked": why}

    return JSONResponse(dict(await baton.engine.run(workspace, do)))


@router.post("/rollback")
async def rollback(
    asked: Rollback, baton: AppDependency, principal: Engineer, request: Request
) -> Any:
    """Let an earlier version serve, without what was learned since.

    With `without`, a challenger is asked for besides, which learns the whole ledger as if those
    outcomes had never come; it is promoted like any other.
    """
    workspace, to, without = principal.workspace, asked.to, asked.without.criteria
    if to is None and without != model_state.Exclusions():
        to = await baton.read(
            lambda found: repair.newest_unaffected_version(found, workspace, without)
        )

    def do(batch: Batch) -> Mapping[str, Any]:
        done = repair.roll_back(
            batch.connection,
            workspace,
            to=to,
            without=without,
            actor=principal.name,
            reason=asked.reason,
        )
        asked_for = done.pop("challenger")
        return done | {"challenger": asked_for and _opened(asked_for)}

    body = asked.model_dump(mode="json")
    return await _switched(baton, principal, once(request, principal, body, do))


@router.post("/challengers")
async def challenge(
    asked: Challenge, baton: AppDependency, principal: Engineer, request: Request
) -> Any:
    """Ask for a challenger: jobs build it, follow it, and promote it once it is proven better."""
    workspace = principal.workspace
    without = asked.without.criteria
    wish = challenger_requests.ChallengerRequest(
        asked.reason, principal.name, asked.recipe, without, asked.version, asked.frozen
    )

    def do(batch: Batch) -> Mapping[str, Any]:
        return _opened(challenger_requests.open_challenger(batch.connection, workspace, wish))

    body = asked.model_dump(mode="json")
    return JSONResponse(dict(await baton.engine.run(workspace, once(request, principal, body, do))))


@router.delete("/challengers/{challenger_id}")
async def close_challenger(challenger_id: Id, baton: AppDependency, principal: Engineer) -> Any:
    """Close a challenger; what it came to stays on record."""
    workspace = principal.workspace

    def do(batch: Batch) -> Mapping[str, Any]:
        return _opened(
            challenger_requests.close(
                batch.connection, workspace, challenger_id, principal.name, "by an engineer"
            )
        )

    return JSONResponse(dict(await baton.engine.run(workspace, do)))


async def _switched(baton: AppState, principal: Principal, do: Any) -> JSONResponse:
    """Answer once this process serves the switch, so that the next score is the new version's."""
    answer = dict(await baton.engine.run(principal.workspace, do))
    serving = await baton.engine.wait_for_position(principal.workspace, answer["switch"])
    return JSONResponse(answer | {"serving": serving})


def _shown(row: Any) -> dict[str, Any]:
    return timed({name: value for name, value in row._asdict().items() if name != "workspace"})


def _opened(row: Any) -> dict[str, Any]:
    found = row if isinstance(row, dict) else row._asdict()
    hidden = ("workspace", "state", "duel")
    return timed({name: value for name, value in found.items() if name not in hidden})
