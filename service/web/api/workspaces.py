"""Workspaces and keys: who may do what, where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, Field

from learning.models.recipes import get_recipe
from service.runtime.errors import Contradiction, Forbidden, NotFound
from service.runtime.settings import INSTALLATION
from service.store import access
from service.store.conversations.batch import Batch
from service.store.ledger import entries, version_rows
from service.versions import switches
from service.web.access.keys import (
    ROLES,
    Principal,
    add_key,
    derived_secret,
    hashed,
    key_json,
    new_secret,
)
from service.web.request_context import ERRORS, Admin, AppDependency, once
from service.web.schemas import Id, RequestModel, ShortText, timed

router = APIRouter(tags=["workspaces"], responses=ERRORS)
Mode = Literal["live", "shadow"]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class WorkspaceRequest(RequestModel):
    """A new workspace; `recipe` names the model configuration it starts with."""

    id: Annotated[Name, Field(validation_alias=AliasChoices("id", "name", "workspace"))]
    mode: Mode = "live"
    recipe: Annotated[str, Field(max_length=200)] = ""


class ModeRequest(RequestModel):
    mode: Mode


class KeyRequest(RequestModel):
    """A new key. `name` is how its holder appears in claims and outcomes; without one, it gets a
    name of its own, so that two agents are never taken for one.
    """

    role: Literal["bot", "agent", "engineer", "admin"]
    name: ShortText | None = None
    workspace: Name | None = None


@router.post("/workspaces")
async def create(
    asked: WorkspaceRequest, baton: AppDependency, principal: Admin, request: Request
) -> Any:
    """Make a workspace, with a first key of each role."""
    _installation(principal)
    secret = _secret(request)

    def do(batch: Batch) -> Mapping[str, Any]:
        recipe = asked.recipe or baton.settings.recipe
        switches.begin_workspace(batch.connection, asked.id, asked.mode, principal.name, recipe)
        row = entries.workspace(batch.connection, asked.id)
        if row is None or row.mode != asked.mode:
            raise Contradiction(
                "workspace_exists",
                f"workspace {asked.id!r} exists in another mode",
                field="mode",
                hint=f"change it with PUT /v1/workspaces/{asked.id}/mode",
            )
        began = version_rows.version(batch.connection, asked.id, 1)
        if asked.recipe and began is not None and began.recipe != get_recipe(asked.recipe).name:
            raise Contradiction(
                "workspace_exists",
                f"workspace {asked.id!r} exists and began with recipe {began.recipe}",
                field="recipe",
                hint="leave the recipe out, or choose another id",
            )
        made = {
            role: add_key(
                batch.connection,
                asked.id,
                role,
                f"{asked.id}-{role}",
                derived_secret(secret, f"workspace {asked.id} {role}"),
            )["key"]
            for role in ROLES
        }
        return {"id": asked.id, "mode": asked.mode, "keys": made}

    return JSONResponse(dict(await baton.engine.run(principal.workspace, do)))


@router.put("/workspaces/{workspace}/mode")
async def set_mode(
    workspace: Id, asked: ModeRequest, baton: AppDependency, principal: Admin
) -> Any:
    """Live, or shadow: decide and learn, but open no handoff."""
    if workspace != principal.workspace:
        _installation(principal)

    def do(batch: Batch) -> Mapping[str, Any]:
        if entries.workspace(batch.connection, workspace) is None:
            raise NotFound("no_workspace", f"there is no workspace {workspace!r}")
        entries.set_mode(batch.connection, workspace, asked.mode)
        return {"id": workspace, "mode": asked.mode}

    return JSONResponse(dict(await baton.engine.run(principal.workspace, do)))


@router.post("/keys")
async def issue(asked: KeyRequest, baton: AppDependency, principal: Admin, request: Request) -> Any:
    """Issue a key. It is shown now and never again, except to the same Idempotency-Key."""
    workspace = asked.workspace or principal.workspace
    if workspace != principal.workspace:
        _installation(principal)
    repeat = request.headers.get("idempotency-key")
    purpose = f"key {repeat}"
    secret = derived_secret(_secret(request), purpose) if repeat else new_secret()

    def do(batch: Batch) -> Mapping[str, Any]:
        if entries.workspace(batch.connection, workspace) is None:
            raise NotFound(
                "no_workspace", f"there is no workspace {workspace!r}", field="workspace"
            )
        name = asked.name or f"{asked.role}-{hashed(secret)[:6]}"
        made = add_key(batch.connection, workspace, asked.role, name, secret)
        return {part: value for part, value in made.items() if part != "key"}

    body = asked.model_dump(mode="json")
    answer = await baton.engine.run(principal.workspace, once(request, principal, body, do))
    return JSONResponse(timed(dict(answer)) | {"key": secret})


@router.get("/keys")
async def listed(baton: AppDependency, principal: Admin) -> Any:
    """The workspace's keys, without their secrets."""
    found = await baton.read(lambda connection: access.keys(connection, principal.workspace))
    return JSONResponse({"keys": [timed(key_json(row._asdict())) for row in found]})


@router.delete("/keys/{key_id}")
async def revoke(key_id: Id, baton: AppDependency, principal: Admin) -> Any:
    """Revoke a key: at once here, within a second in every other process."""
    anywhere = principal.workspace == INSTALLATION

    def do(batch: Batch) -> Mapping[str, Any]:
        where = None if anywhere else principal.workspace
        row = access.key(batch.connection, where, key_id)
        if row is None:
            raise NotFound("no_key", f"there is no key {key_id!r}")
        access.revoke(batch.connection, key_id, batch.now)
        again = access.key(batch.connection, where, key_id)
        return key_json((again or row)._asdict())

    answer = await baton.engine.run(principal.workspace, do)
    baton.doorkeeper.forget()
    return JSONResponse(timed(dict(answer)))


def _installation(principal: Principal) -> None:
    if principal.workspace != INSTALLATION:
        raise Forbidden(
            "other_workspace",
            f"this key administers workspace {principal.workspace!r} only",
            hint=f"use an admin key of workspace {INSTALLATION!r}",
        )


def _secret(request: Request) -> str:
    return request.headers["authorization"].partition(" ")[2].strip()
