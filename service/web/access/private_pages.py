"""Access control of the pages that are open by default: /metrics, and the API's description."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.runtime.settings import SettingError, Settings
from service.store.database.transactions import Store
from service.web.access import sessions
from service.web.access.keys import ROLES, KeyAuthenticator, Principal

METRICS = frozenset({"/metrics"})
DESCRIPTION = frozenset({"/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"})


def roles_by_path(settings: Settings) -> dict[str, str]:
    """The role that each page asks for, where a setting names one. Raises SettingError."""
    roles: dict[str, str] = {}
    for variable, role, paths in (
        ("BATON_METRICS_ROLE", settings.metrics_role, METRICS),
        ("BATON_DOCS_ROLE", settings.docs_role, DESCRIPTION),
    ):
        if role and role not in ROLES:
            raise SettingError(f"{variable}={role!r}: a role is one of {', '.join(ROLES)}")
        roles |= dict.fromkeys(paths, role) if role else {}
    return roles


class PrivatePages:
    """ASGI middleware: such a page is shown to who has the role, by key or signed in to the
    console. Raises Unauthenticated, Forbidden.
    """

    def __init__(self, app: ASGIApp, roles: Mapping[str, str]) -> None:
        self._app = app
        self._roles = roles

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        role = self._roles.get(scope["path"].rstrip("/")) if scope["type"] == "http" else None
        if role is not None:
            (await _principal(Request(scope))).require(role)
        await self._app(scope, receive, send)


async def _principal(request: Request) -> Principal:
    baton = request.app.state.baton
    store: Store = baton.store
    authenticator: KeyAuthenticator = baton.authenticator
    cookie = sessions.cookie_of(request.cookies, is_secure=request.url.scheme == "https")

    def holder() -> Principal | None:
        with store.read() as connection:
            return sessions.session_holder(connection, cookie)

    if cookie and "authorization" not in request.headers:
        principal = await asyncio.to_thread(holder)
        if principal is not None:
            return principal
    return authenticator.admit(request.headers.get("authorization"))
