"""People and keys page: users with their teams, who signs in by OpenID Connect, and API keys made
and revoked; for admins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse
from pydantic import AfterValidator, Field
from sqlalchemy import Connection

from service.runtime.errors import HTTP_STATUS, Invalid, NotFound, RequestRefused
from service.store import access, security_log
from service.store.conversations.batch import Batch
from service.web.access.keys import RESERVED, SIGN_IN, NewKey, issue_key, new_secret
from service.web.console.rendering import page
from service.web.console.signed_in_user import Admin, AdminActor, SessionUser
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id, ShortText

router = APIRouter(prefix="/people")
Role = Literal["bot", "agent", "lead", "engineer", "admin"]
PersonRole = Literal["agent", "lead", "engineer", "admin"]
Name = Annotated[ShortText, AfterValidator(str.strip), Field(min_length=1)]
DAYS = {"": None, "30": 30, "90": 90, "365": 365}
"""For how many days a key may be good; for ever where it is not said."""


@router.get("")
async def get_people(request: Request, baton: AppDependency, visitor: Admin) -> Any:
    """The workspace's users and keys."""
    return await _render(request, baton, visitor)


@router.post("/keys")
async def create_key(
    request: Request,
    baton: AppDependency,
    visitor: AdminActor,
    role: Annotated[Role, Form()],
    name: Annotated[Name, Form()],
    days: Annotated[Literal["", "30", "90", "365"], Form()] = "",
) -> Any:
    """Make a key. Its secret stands on the page that answers, and nowhere afterwards."""
    good, workspace = DAYS[days], visitor.workspace
    expires_at = None if good is None else time.time() + good * 86_400
    new = NewKey(workspace, role, name, visitor.name, expires_at)

    def create(batch: Batch) -> str:
        key = issue_key(batch.connection, new, new_secret())
        _log(batch, "key_issued", visitor, f"{key['id']} {role} {name}")
        secret: str = key["key"]
        return secret

    try:
        secret = await baton.engine.run(workspace, create, appends=False)
    except RequestRefused as refusal:
        return await _render(request, baton, visitor, refusal)
    return await _render(request, baton, visitor, made=(name, role, secret))


@router.post("/keys/{key_id}/revoke")
async def revoke_key(
    request: Request, key_id: Id, baton: AppDependency, visitor: AdminActor
) -> Any:
    """Revoke a key: at once here, within a second in every other process."""

    def revoke(batch: Batch) -> None:
        row = access.key(batch.connection, visitor.workspace, key_id)
        if row is None:
            raise NotFound("no_key", f"there is no key {key_id!r}")
        if row.revoked_at is None:
            access.revoke(batch.connection, key_id, batch.now)
            _log(batch, "key_revoked", visitor, f"{key_id} {row.role} {row.name}")

    answer = await _change(request, baton, visitor, revoke)
    baton.authenticator.forget()
    return answer


@router.post("/users/{user_id}/teams")
async def set_teams(
    request: Request,
    user_id: Id,
    baton: AppDependency,
    visitor: AdminActor,
    team: Annotated[Sequence[ShortText], Form()] = (),
) -> Any:
    """Say to which teams somebody belongs: their queue can be of these alone."""
    policy = (await baton.engine.model_state(visitor.workspace)).policy
    teams = [name for name in policy.team_names if name in team]

    def change(batch: Batch) -> None:
        if not access.set_teams(batch.connection, visitor.workspace, user_id, teams):
            raise NotFound("no_user", f"there is no user {user_id!r} in this workspace")

    return await _change(request, baton, visitor, change)


@router.post("/users")
async def let_in(
    request: Request,
    baton: AppDependency,
    visitor: AdminActor,
    name: Annotated[Name, Form()],
    email: Annotated[Name, Form()],
    role: Annotated[PersonRole, Form()],
) -> Any:
    """Let somebody sign in by OpenID Connect, by their e-mail address or the provider's own id of
    them: somebody new, or a user who came by key alone so far, or whose address has changed.
    """
    workspace, issuer = visitor.workspace, baton.settings.oidc_issuer.rstrip("/")
    is_email = "@" in email
    known = {
        "email": email.lower() if is_email else None,
        "subject": None if is_email else f"{issuer} {email}",
        "role": role,
        "removed_at": None,
    }

    def change(batch: Batch) -> None:
        if name in RESERVED:
            raise Invalid("reserved_name", f"{name!r} is Baton's own name", field="name")
        if name == visitor.name and role != "admin":
            raise Invalid("own_role", "nobody takes their own role away", field="role")
        row = {"workspace": workspace, "id": name, "name": name, "teams": [], "role": role}
        access.add_user(batch.connection, row | {"made_by": visitor.name, "created_at": batch.now})
        access.change_user(batch.connection, workspace, name, **known)
        key = access.sign_in_key(batch.connection, workspace, name, SIGN_IN)
        if key is not None:  # whoever signed in as them so far signs in anew
            access.revoke(batch.connection, key.id, batch.now)
        _log(batch, "user_let_in", visitor, f"{name} {role} {email}")

    return await _change(request, baton, visitor, change)


@router.post("/users/{user_id}/remove")
async def remove_user(
    request: Request, user_id: Id, baton: AppDependency, visitor: AdminActor
) -> Any:
    """Remove somebody: their keys are revoked, and they sign in no more."""

    def remove(batch: Batch) -> None:
        where = (batch.connection, visitor.workspace, user_id)
        if user_id == visitor.name:
            raise Invalid("own_access", "nobody removes themselves", hint="ask another admin")
        if access.user(*where) is None:
            raise NotFound("no_user", f"there is no user {user_id!r} in this workspace")
        access.change_user(*where, removed_at=batch.now)
        access.revoke_keys_of(*where, batch.now)
        _log(batch, "user_removed", visitor, user_id)

    answer = await _change(request, baton, visitor, remove)
    baton.authenticator.forget()
    return answer


async def _change(
    request: Request, baton: AppState, visitor: SessionUser, do: Callable[[Batch], None]
) -> Any:
    try:
        await baton.engine.run(visitor.workspace, do, appends=False)
    except RequestRefused as refusal:
        return await _render(request, baton, visitor, refusal)
    return RedirectResponse("/console/people", 303)


async def _render(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    refusal: RequestRefused | None = None,
    made: tuple[str, str, str] | None = None,
) -> Any:
    def look(connection: Connection) -> dict[str, Any]:
        where, now = (connection, visitor.workspace), time.time()
        keys = access.keys(*where)
        live = [k for k in keys if k.revoked_at is None and (k.expires_at or now + 1) > now]
        holders = {key.name for key in live}
        users = [
            user
            for user in access.users(*where)
            if user.id in holders or user.email or user.subject
        ]
        shown = [key for key in live if key.made_by != SIGN_IN]
        return {"users": users, "keys": shown, "ended": len(keys) - len(live)}

    context = await baton.read(look)
    policy = (await baton.engine.model_state(visitor.workspace)).policy
    status = 200 if refusal is None else HTTP_STATUS[type(refusal)]
    shown: dict[str, Any] = {
        "teams": policy.team_names,
        "made": made,
        "own_key": visitor.principal.key_id,
        "openid": bool(baton.settings.oidc_issuer),
    }
    return page(request, visitor, "people.html", status, refusal=refusal, **shown, **context)


def _log(batch: Batch, kind: str, by: SessionUser, subject: str) -> None:
    event = security_log.event(kind, by.name, subject, workspace=by.workspace)
    security_log.append(batch.connection, [event])
