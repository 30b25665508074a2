"""Who looks at a page: from the session's cookie to a principal, and whether a form is theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from service.runtime.errors import Forbidden
from service.web.access import sessions
from service.web.access.keys import ROLES, Principal
from service.web.request_context import AppState


class NotSignedIn(Exception):
    """Nobody has signed in here, or no longer: the sign-in page is shown first."""


@dataclass(frozen=True, slots=True)
class SessionUser:
    """Somebody signed in. `form_token` goes into every form, as its hidden field `token`."""

    principal: Principal
    form_token: str

    @property
    def name(self) -> str:
        return self.principal.name

    @property
    def workspace(self) -> str:
        return self.principal.workspace

    def may(self, role: str) -> bool:
        """Whether their role reaches `role`."""
        return ROLES.index(self.principal.role) >= ROLES.index(role)


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def cookie_of(request: Request) -> str:
    return sessions.cookie_of(request.cookies, is_secure=_is_secure(request))


def set_cookie(request: Request, response: Response, value: str, seconds: int) -> None:
    """Keep the session in the browser; nothing for `seconds` <= 0 ends it there."""
    response.set_cookie(
        sessions.cookie_name(is_secure=_is_secure(request)),
        value,
        max_age=seconds,
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="lax",
    )


async def find(request: Request) -> SessionUser | None:
    """Who has signed in, if anybody."""
    baton: AppState = request.app.state.baton
    cookie = cookie_of(request)
    if not cookie:
        return None
    principal = await baton.read(lambda connection: sessions.session_holder(connection, cookie))
    return None if principal is None else SessionUser(principal, sessions.form_token(cookie))


def _seeing(role: str) -> Callable[[Request], Any]:
    async def seeing(request: Request) -> SessionUser:
        visitor = await find(request)
        if visitor is None:
            raise NotSignedIn
        visitor.principal.require(role)
        return visitor

    return seeing


def _acting(role: str) -> Callable[[Request], Any]:
    see = _seeing(role)

    async def acting(request: Request) -> SessionUser:
        visitor: SessionUser = await see(request)
        await check_form(request, cookie_of(request))
        return visitor

    return acting


async def check_form(request: Request, cookie: str) -> None:
    """Raises Forbidden for a form that another site, or another session's page, has sent."""
    given = (await request.form()).get("token")
    foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if foreign or not isinstance(given, str) or not sessions.is_token_of(given, cookie):
        raise Forbidden(
            "form_not_ours",
            "this form was not sent from a page of this session",
            field="token",
            hint="go back, reload the page, and send it again",
        )


Viewer = Annotated[SessionUser, Depends(_seeing("agent"))]
"""Of a page that shows."""

Actor = Annotated[SessionUser, Depends(_acting("agent"))]
"""Of a form that changes something: its token has been checked."""

Lead = Annotated[SessionUser, Depends(_seeing("engineer"))]
"""Of a page for engineers and admins."""
