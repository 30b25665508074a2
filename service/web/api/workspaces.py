"""The admin's routes: workspaces and their mode, API keys with their roles, and what is stored of a
person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, BaseModel, Field, model_validator

from learning.models.recipes import get_recipe
from service.privacy import person
from service.runtime.errors import Contradiction, Forbidden, NotFound
from service.runtime.settings import INSTALLATION
from service.store import access, security_log
from service.store.conversations.batch import Batch
from service.store.ledger import entries, version_rows
from service.versions import switches
from service.versions.start_from import Donation, begin_from
from service.web.access.keys import (
    FIRST_ROLES,
    NewKey,
    Principal,
    hashed,
    issue_key,
    key_json,
    new_secret,
    unseal,
)
from service.web.error_responses import ERRORS
from service.web.request_context import Admin, AppDependency, once
from service.web.schemas import Id, Moment, RequestModel, ShortText, about, seconds, timed

router = APIRouter(tags=["workspaces"], responses=ERRORS)
people = APIRouter(tags=["people"], responses=ERRORS)
Mode = Literal["live", "shadow"]
Role = Literal["bot", "agent", "lead", "engineer", "admin", "connector"]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
_MODE = about("live; or shadow: decide and learn, and open no handoff.", "shadow")


class WorkspaceRequest(RequestModel):
    """A new workspace."""

    id: Annotated[
        Name,
        Field(
            validation_alias=AliasChoices("id", "name", "workspace"),
            description="Its id: lower-case letters, digits, - and _.",
            examples=["shop"],
        ),
    ]
    mode: Annotated[Mode, _MODE] = "live"
    recipe: Annotated[
        str,
        Field(max_length=200),
        about("The model configuration it starts with; the setting's.", "mixture-5"),
    ] = ""
    start_from: Annotated[
        Name | None,
        about("Begin with the model of this workspace, which shares it, as an expert.", "shop"),
    ] = None

    @model_validator(mode="after")
    def _one_beginning(self) -> WorkspaceRequest:
        if self.recipe and self.start_from:
            raise ValueError("start_from brings its recipe: name no recipe")
        return self


class ModeRequest(RequestModel):
    """The mode that a workspace shall have."""

    mode: Annotated[Mode, _MODE]


class KeyRequest(RequestModel):
    """A new key."""

    role: Annotated[Role, about("What its holder may do; each role includes those before.", "bot")]
    name: Annotated[
        ShortText | None,
        about("How its holder appears in claims and outcomes; left out, one of its own.", "dana"),
    ] = None
    workspace: Annotated[Name | None, about("Its workspace; yours.", "shop")] = None
    expires_at: Annotated[
        Moment | None,
        about("Until when it is good; left out, for ever.", "2027-11-28T00:00:00Z"),
    ] = None


class WorkspaceResponse(BaseModel):
    """A workspace and its mode."""

    id: Annotated[str, about("Its id.", "shop")]
    mode: Annotated[Mode, _MODE]


class WorkspaceKeys(BaseModel):
    """The first keys of a workspace, one of each role; shown now and never again."""

    bot: Annotated[str, about("The bot's key.", "bk_5d41402a")]
    agent: Annotated[str, about("An agent's key.", "bk_9bc4b2a7")]
    lead: Annotated[str, about("A lead's key.", "bk_0cc175b9")]
    engineer: Annotated[str, about("An engineer's key.", "bk_6b9719d9")]
    admin: Annotated[str, about("An admin's key.", "bk_11c85b2e")]


class NewWorkspace(WorkspaceResponse):
    """A workspace that was just made."""

    keys: Annotated[WorkspaceKeys, about("Its first keys.")]


class KeyResponse(BaseModel):
    """A key, without its secret."""

    id: Annotated[str, about("Its id.", "k19ab2c3d4e5f60718293a4")]
    workspace: Annotated[str, about("Its workspace.", "shop")]
    role: Annotated[Role, about("What its holder may do.", "bot")]
    name: Annotated[str, about("How its holder appears.", "dana")]
    created_at: Annotated[datetime, about("When it was made.", "2026-11-28T09:30:00+00:00")]
    revoked_at: Annotated[
        datetime | None, about("When it was revoked.", "2026-12-01T08:00:00+00:00")
    ]
    expires_at: Annotated[
        datetime | None, about("Until when it is good.", "2027-11-28T00:00:00+00:00")
    ]
    last_used_at: Annotated[
        datetime | None, about("When it was used last.", "2026-11-30T10:12:00+00:00")
    ]
    made_by: Annotated[str | None, about("Who made it.", "admin")]


class IssuedKey(KeyResponse):
    """A key that was just made, with its secret."""

    key: Annotated[str, about("The secret: send it as `Authorization: Bearer`.", "bk_5d41402a")]


class KeyList(BaseModel):
    """The workspace's keys."""

    keys: Annotated[list[KeyResponse], about("The oldest first.")]


class UserResponse(BaseModel):
    """A person of the workspace."""

    workspace: Annotated[str, about("Their workspace.", "shop")]
    id: Annotated[str, about("Their id: the actor of what they do.", "dana")]
    name: Annotated[str, about("Their name.", "dana")]
    teams: Annotated[list[str], about("Their teams.", ["billing"])]
    role: Annotated[Role, about("What they may do.", "agent")]
    made_by: Annotated[str, about("Who made them.", "admin")]
    created_at: Annotated[datetime, about("When.", "2026-11-28T09:30:00+00:00")]
    email: Annotated[
        str | None,
        about("The address as which they sign in by OpenID Connect.", "dana@shop.example"),
    ]


class UserList(BaseModel):
    """The people of the workspace."""

    users: Annotated[list[UserResponse], about("By their ids.")]


@router.post("/workspaces", response_model=NewWorkspace)
async def create_workspace(
    asked: WorkspaceRequest, baton: AppDependency, principal: Admin, request: Request
) -> Any:
    """Make a workspace, with a first key of each role. With `start_from` it begins with another's
    model, as that stands now, as one more expert that is never changed.
    """
    _require_installation(principal)
    secret, donation = _secret(request), None
    if asked.start_from is not None:
        donor = await baton.engine.model_state(asked.start_from)
        donation = Donation.of(asked.start_from, donor)

    def create(batch: Batch) -> Mapping[str, Any]:
        where = (batch.connection, asked.id, asked.mode, principal.name)
        if donation is not None:
            begin_from(*where, donation)
        else:
            switches.begin_workspace(*where, asked.recipe or baton.settings.recipe)
        row = entries.workspace(batch.connection, asked.id)
        if row is None or row.mode != asked.mode:
            raise Contradiction(
                "workspace_exists",
                f"workspace {asked.id!r} exists in another mode",
                field="mode",
                hint=f"change it with PUT /v1/workspaces/{asked.id}/mode",
            )
        first = version_rows.version(batch.connection, asked.id, 1)
        if asked.recipe and first is not None and first.recipe != get_recipe(asked.recipe).name:
            raise Contradiction(
                "workspace_exists",
                f"workspace {asked.id!r} exists and began with recipe {first.recipe}",
                field="recipe",
                hint="leave the recipe out, or choose another id",
            )
        keys = _first_keys(batch, asked.id, principal, secret)
        return {"id": asked.id, "mode": asked.mode, "keys": keys}

    return JSONResponse(dict(await baton.engine.run(principal.workspace, create)))


@router.put("/workspaces/{workspace}/mode", response_model=WorkspaceResponse)
async def set_workspace_mode(
    workspace: Id, asked: ModeRequest, baton: AppDependency, principal: Admin
) -> Any:
    """Live, or shadow: decide and learn, but open no handoff."""
    if workspace != principal.workspace:
        _require_installation(principal)

    def set_mode(batch: Batch) -> Mapping[str, Any]:
        if entries.workspace(batch.connection, workspace) is None:
            raise NotFound("no_workspace", f"there is no workspace {workspace!r}")
        entries.set_mode(batch.connection, workspace, asked.mode)
        return {"id": workspace, "mode": asked.mode}

    return JSONResponse(dict(await baton.engine.run(principal.workspace, set_mode)))


@router.post("/keys", response_model=IssuedKey)
async def create_key(
    asked: KeyRequest, baton: AppDependency, principal: Admin, request: Request
) -> Any:
    """Issue a key. It is shown now and never again, except to the same Idempotency-Key."""
    workspace = asked.workspace or principal.workspace
    if workspace != principal.workspace:
        _require_installation(principal)
    secret, maker_secret = new_secret(), _secret(request)
    new = NewKey(
        workspace,
        asked.role,
        asked.name or f"{asked.role}-{hashed(secret)[:6]}",
        principal.name,
        None if asked.expires_at is None else seconds(asked.expires_at),
        maker_secret,
    )

    def create(batch: Batch) -> Mapping[str, Any]:
        if entries.workspace(batch.connection, workspace) is None:
            raise NotFound(
                "no_workspace", f"there is no workspace {workspace!r}", field="workspace"
            )
        key = issue_key(batch.connection, new, secret)
        _log(batch, "key_issued", principal, f"{key['id']} {new.role} {new.name}", workspace)
        return {part: value for part, value in key.items() if part != "key"}

    body = asked.model_dump(mode="json")
    do_once = once(request, principal, body, create)

    def create_once(batch: Batch) -> Mapping[str, Any]:
        """The secret is in no remembered answer: it is unsealed."""
        key_id = do_once(batch)["id"]
        row = access.key(batch.connection, workspace, key_id)
        if row is None:
            raise NotFound("no_key", f"there is no key {key_id!r}")
        return key_json(row._asdict()) | {"key": _unsealed(row, maker_secret, batch.now)}

    return JSONResponse(timed(dict(await baton.engine.run(principal.workspace, create_once))))


@router.get("/keys", response_model=KeyList)
async def list_keys(baton: AppDependency, principal: Admin) -> Any:
    """The workspace's keys, without their secrets."""
    rows = await baton.read(lambda connection: access.keys(connection, principal.workspace))
    return JSONResponse({"keys": [timed(key_json(row._asdict())) for row in rows]})


@router.delete("/keys/{key_id}", response_model=KeyResponse)
async def revoke_key(key_id: Id, baton: AppDependency, principal: Admin) -> Any:
    """Revoke a key: at once here, within a second in every other process."""
    is_installation = principal.workspace == INSTALLATION

    def revoke(batch: Batch) -> Mapping[str, Any]:
        workspace = None if is_installation else principal.workspace
        row = access.key(batch.connection, workspace, key_id)
        if row is None:
            raise NotFound("no_key", f"there is no key {key_id!r}")
        access.revoke(batch.connection, key_id, batch.now)
        if row.revoked_at is None:
            _log(batch, "key_revoked", principal, f"{key_id} {row.role} {row.name}", row.workspace)
        revoked = access.key(batch.connection, workspace, key_id)
        return key_json((revoked or row)._asdict())

    answer = await baton.engine.run(principal.workspace, revoke)
    baton.authenticator.forget()
    return JSONResponse(timed(dict(answer)))


@router.get("/users", response_model=UserList)
async def list_users(baton: AppDependency, principal: Admin) -> Any:
    """The people of the workspace, whose ids are the actors of claims, outcomes and switches."""
    rows = await baton.read(lambda connection: access.users(connection, principal.workspace))
    hidden = ("subject", "removed_at")
    shown = [{k: v for k, v in row._asdict().items() if k not in hidden} for row in rows]
    return JSONResponse({"users": [timed(row) for row in shown]})


def _first_keys(
    batch: Batch, workspace: str, principal: Principal, maker_secret: str
) -> dict[str, str]:
    """A new workspace's first keys; a repeated request gets them again, for some minutes."""
    names = {role: f"{workspace}-{role}" for role in FIRST_ROLES}
    made = {
        row.role: row
        for row in access.keys_named(batch.connection, workspace, list(names.values()))
        if row.made_by is not None
    }
    if made:
        return {role: _unsealed(made[role], maker_secret, batch.now) for role in names}
    if access.has_keys(batch.connection, workspace):
        raise _keys_were_shown(workspace)
    keys = {}
    for role, name in names.items():
        new = NewKey(workspace, role, name, principal.name, maker_secret=maker_secret)
        keys[role] = issue_key(batch.connection, new, new_secret())["key"]
    _log(batch, "workspace_made", principal, workspace, workspace)
    return keys


def _unsealed(row: Any, maker_secret: str, now: float) -> str:
    """A key's secret, for whoever made it, for some minutes. Raises Contradiction."""
    is_live = row.revoked_at is None and row.created_at > now - access.SEAL_SECONDS
    secret = unseal(row.sealed, maker_secret) if is_live and row.sealed else None
    if secret is None or hashed(secret) != row.hash:
        raise _keys_were_shown(row.name)
    return secret


def _keys_were_shown(name: str) -> Contradiction:
    return Contradiction(
        "key_was_shown",
        f"the key of {name!r} was made and shown before; it is shown again for some minutes only",
        hint="revoke it, and make another",
    )


def _log(batch: Batch, kind: str, principal: Principal, subject: str, workspace: str) -> None:
    event = security_log.event(kind, principal.name, subject, workspace=workspace)
    security_log.append(batch.connection, [event])


def _require_installation(principal: Principal) -> None:
    """Raises Forbidden for an admin of one workspace only."""
    if principal.workspace != INSTALLATION:
        raise Forbidden(
            "other_workspace",
            f"this key administers workspace {principal.workspace!r} only",
            hint=f"use an admin key of workspace {INSTALLATION!r}",
        )


def _secret(request: Request) -> str:
    return request.headers["authorization"].partition(" ")[2].strip()


class PersonResponse(BaseModel):
    """All that is stored of a person."""

    customer_id: Annotated[str, about("As bots name them.", "u-4711")]
    conversations: Annotated[
        list[dict[str, Any]],
        about(
            "Each with its messages, decisions, handoffs, notes, outcomes, audits and reviews.",
            [{"id": "c-17", "messages": []}],
        ),
    ]
    next: Annotated[
        str | None, about("Give it as `after` for the next page; null at the end.", "c-17")
    ]


class ErasedConversation(BaseModel):
    """A conversation whose text is gone."""

    id: Annotated[str, about("The conversation.", "c-17")]
    position: Annotated[int, about("The ledger's entry that says so.", 812)]
    outcomes: Annotated[int, about("Outcomes of it that teach no more.", 1)]
    erased_by: Annotated[str, about("Who erased it.", "dana")]
    erased_at: Annotated[datetime, about("When.", "2026-11-29T09:30:00+00:00")]


class ReceiptResponse(BaseModel):
    """What was erased of a person; the same request gets it again."""

    person: Annotated[str, about("A fingerprint that stands for them in the ledger.", "9f2c")]
    complete: Annotated[bool, about("Whether nothing waits.", True)]
    conversations: Annotated[list[ErasedConversation], about("What was erased.")]
    waits: Annotated[list[str], about("What still holds it for a while; ask again.", [])]
    stays: Annotated[list[str], about("What an erasure does not reach.", ["backups made before"])]


@people.get("/people/{customer_id:path}", response_model=PersonResponse)
async def get_person(
    customer_id: Id,
    baton: AppDependency,
    principal: Admin,
    after: Annotated[str, Query(max_length=200, description="`next` of the page before.")] = "",
) -> Any:
    """All that is stored of a person (`attributes.customer_id`), 100 conversations at a time."""
    page = await baton.read(
        lambda connection: person.everything(
            connection, baton.settings, principal.workspace, customer_id, after
        )
    )
    baton.recorder.record(
        "exported",
        principal.name,
        person.fingerprint(principal.workspace, customer_id),
        workspace=principal.workspace,
    )
    for conversation in page["conversations"]:
        for name, value in timed(conversation).items():
            is_list = isinstance(value, list)
            conversation[name] = [timed(row) for row in value] if is_list else value
    return JSONResponse(page)


@people.delete("/people/{customer_id:path}", response_model=ReceiptResponse)
async def erase_person(customer_id: Id, baton: AppDependency, principal: Admin) -> Any:
    """Erase all conversations of a person: text, decisions, notes and reasons, for good.

    409 while a person is at one of them. The receipt says what stays and what still waits.
    """
    receipt = await asyncio.to_thread(
        person.erase_person,
        baton.store,
        principal.workspace,
        customer_id,
        actor=principal.name,
    )
    baton.recorder.record(
        "erased", principal.name, receipt["person"], workspace=principal.workspace
    )
    receipt["conversations"] = [timed(row) for row in receipt["conversations"]]
    return JSONResponse(receipt)
