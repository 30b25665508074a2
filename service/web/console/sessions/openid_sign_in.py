"""Sign-in by OpenID Connect: to the provider and back, where the settings name one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from service.runtime.errors import NotFound, RequestRefused
from service.store.conversations.batch import Batch
from service.web.access import oidc_users
from service.web.access.keys import SIGN_IN, Principal
from service.web.console.sessions import sign_in
from service.web.request_context import AppDependency, AppState

if TYPE_CHECKING:
    from service.web.access.oidc import OpenIdProvider

router = APIRouter(prefix="/sign-in/openid")
PATH = "/console/sign-in/openid"
_WORKSPACE_CHARS_MAX = 64


@router.get("")
async def get_provider(
    request: Request,
    baton: AppDependency,
    then: Annotated[str, Query(alias="next")] = "",
    workspace: Annotated[str, Query(max_length=_WORKSPACE_CHARS_MAX)] = "",
) -> Any:
    """On to the provider, which sends the browser back."""
    try:
        provider = _provider(request)
        url, sealed = await asyncio.to_thread(provider.begin, sign_in.safe_target(then), workspace)
    except RequestRefused as refusal:
        return _refuse(request, baton, then, refusal)
    response = RedirectResponse(url, 303, {"Cache-Control": "no-store"})
    _set_flow(request, response, sealed)
    return response


@router.get("/callback")
async def get_callback(request: Request, baton: AppDependency) -> Any:
    """Back from the provider: whom it vouches for is signed in, if they are a user."""
    answer = dict(request.query_params)
    then, rules = "", oidc_users.SignInRules.of(baton.settings)
    try:
        provider = _provider(request)
        flow = provider.resume(request.cookies.get(_flow_cookie(request), ""), answer)
        then = flow.then
        identity = await asyncio.to_thread(provider.identify, flow, answer)
        admission = await baton.read(
            lambda connection: oidc_users.admit(connection, rules, identity, flow.workspace)
        )

        def find(batch: Batch) -> Principal:
            return oidc_users.principal_of(batch.connection, admission, identity, batch.now)

        response = await sign_in.begin_session(
            request, baton, admission.workspace, find, then, SIGN_IN
        )
    except RequestRefused as refusal:
        response = _refuse(request, baton, then, refusal)
    _set_flow(request, response, "")
    return response


def _provider(request: Request) -> OpenIdProvider:
    """The provider of this process. Raises NotFound where the settings name none."""
    provider: OpenIdProvider | None = request.app.state.openid
    if provider is None:
        raise NotFound("no_page", "there is no such page", hint="sign in with a key")
    return provider


def _refuse(request: Request, baton: AppState, then: str, refusal: RequestRefused) -> Any:
    address = request.client.host if request.client else ""
    baton.recorder.record("refused", "sign-in", refusal.message, address=address)
    baton.metrics.count_sign_in_failure("openid", refusal.code)
    refusal = sign_in.count_failure(request.app.state.failures, address, refusal)
    return sign_in.sign_in_form(request, then, refusal)


def _flow_cookie(request: Request) -> str:
    return "__Secure-baton-openid" if request.url.scheme == "https" else "baton-openid"


def _set_flow(request: Request, response: Response, sealed: str) -> None:
    """Keep the flow in the browser until it is back; nothing ends it."""
    response.set_cookie(
        _flow_cookie(request),
        sealed,
        max_age=600 if sealed else 0,
        path=PATH,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
