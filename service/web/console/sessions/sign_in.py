"""Sign-in and sign-out pages: an API key is exchanged for a session cookie; or, where the settings
name a provider, OpenID Connect leads to one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse

from service.runtime.errors import HTTP_STATUS, RequestRefused, Unauthenticated
from service.store import access, security_log
from service.store.conversations.batch import Batch
from service.web.access import sessions
from service.web.access.keys import Principal, hashed
from service.web.access.sessions import SESSION_SECONDS, SignInFailures
from service.web.console.rendering import page
from service.web.console.signed_in_user import (
    Actor,
    check_form,
    cookie_of,
    session_user,
    set_cookie,
)
from service.web.error_responses import retry_headers
from service.web.request_context import AppDependency, AppState

router = APIRouter()
HOME = "/console/queue"
_FORM_SECONDS = 3600
_NEXT_CHARS_MAX = 500
_COOKIE_CHARS_MAX = 100


@router.get("/sign-in")
async def get_sign_in(request: Request, then: Annotated[str, Query(alias="next")] = "") -> Any:
    """The sign-in form. Its CSRF token belongs to a cookie that is nobody's session yet."""
    if await session_user(request) is not None:
        return RedirectResponse(safe_target(then), 303)
    return sign_in_form(request, then)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    baton: AppDependency,
    key: Annotated[str, Form(max_length=500)] = "",
    then: Annotated[str, Form(alias="next")] = "",
) -> Any:
    """Exchange a key for a session."""
    await check_form(request, cookie_of(request))
    address = request.client.host if request.client else ""
    failures: SignInFailures = request.app.state.failures
    try:
        principal = baton.authenticator.admit(f"Bearer {key.strip()}")
        principal.require("agent")
    except Unauthenticated as wrong:
        baton.recorder.record("refused", "sign-in", address=address)
        baton.metrics.count_sign_in_failure("key", wrong.code)
        return sign_in_form(request, then, count_failure(failures, address, wrong))
    except RequestRefused as refusal:
        baton.metrics.count_sign_in_failure("key", refusal.code)
        return sign_in_form(request, then, refusal)

    return await begin_session(request, baton, principal.workspace, lambda _: principal, then)


def count_failure(failures: SignInFailures, address: str, wrong: RequestRefused) -> RequestRefused:
    """A wrong key counts; a right one from behind the same address is never kept waiting."""
    try:
        failures.check(address, time.monotonic())
    except RequestRefused as refusal:
        return refusal
    failures.count(address, time.monotonic())
    return wrong


@router.post("/sign-out")
async def sign_out(request: Request, baton: AppDependency, visitor: Actor) -> Any:
    """End this session, in the database and in the browser."""
    session = hashed(cookie_of(request))

    def do(batch: Batch) -> None:
        access.end_session(batch.connection, session)
        event = security_log.event("signed_out", visitor.name, workspace=visitor.workspace)
        security_log.append(batch.connection, [event])

    await baton.engine.run(visitor.workspace, do, appends=False)
    response = RedirectResponse("/console/sign-in", 303)
    set_cookie(request, response, "", 0)
    return response


async def begin_session(
    request: Request,
    baton: AppState,
    workspace: str,
    find: Callable[[Batch], Principal],
    then: str,
    way: str = "",
) -> Any:
    """Sign in whom `find` finds, and go on to where they wanted."""
    cookie, address = sessions.new_cookie(), request.client.host if request.client else ""

    def do(batch: Batch) -> None:
        principal = find(batch)
        sessions.begin(batch.connection, principal, cookie, batch.now)
        event = security_log.event(
            "signed_in", principal.name, way, workspace=workspace, address=address
        )
        security_log.append(batch.connection, [event])

    await baton.engine.run(workspace, do, appends=False)
    response = RedirectResponse(safe_target(then), 303)
    set_cookie(request, response, cookie, SESSION_SECONDS)
    return response


def sign_in_form(request: Request, then: str, refusal: RequestRefused | None = None) -> Any:
    cookie = cookie_of(request)[:_COOKIE_CHARS_MAX] or sessions.new_cookie()
    headers = {} if refusal is None else retry_headers(refusal)
    status = 200 if refusal is None else HTTP_STATUS[type(refusal)]
    response = page(
        request,
        None,
        "sign-in.html",
        status,
        headers,
        next=then[:_NEXT_CHARS_MAX],
        token=sessions.form_token(cookie),
        openid=bool(request.app.state.baton.settings.oidc_issuer),
        workspace=request.query_params.get("workspace", "")[:_COOKIE_CHARS_MAX],
        refusal=refusal,
    )
    set_cookie(request, response, cookie, _FORM_SECONDS)
    return response


def safe_target(then: str) -> str:
    """Where to go after signing in: a page of this console, whatever a link asks for (no open
    redirect).
    """
    plain = then.isascii() and then.isprintable() and not any(x in then for x in ("\\", "..", "%"))
    return then if plain and then.startswith("/console/") else HOME
