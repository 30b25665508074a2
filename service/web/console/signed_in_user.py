"""Session user of a page: from the cookie to a principal, and the CSRF check of forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from service.runtime.errors import Forbidden
from service.web.access import sessions
from service.web.access.keys import Principal
from service.web.request_context import AppState


class NotSignedIn(Exception):
    """Nobody has signed in here, or no longer: the sign-in page is shown first."""


@dataclass(frozen=True, slots=True)
class SessionUser:
    """A signed-in user. `form_token` goes into every form, as its hidden field `token`."""

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
        return self.principal.reaches(role)


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


async def session_user(request: Request) -> SessionUser | None:
    """The signed-in user of a request; None where nobody is."""
    baton: AppState = request.app.state.baton
    cookie = cookie_of(request)
    if not cookie:
        return None
    principal = await baton.read(lambda connection: sessions.session_holder(connection, cookie))
    return None if principal is None else SessionUser(principal, sessions.form_token(cookie))


def _viewer(role: str) -> Callable[[Request], Any]:
    async def viewer(request: Request) -> SessionUser:
        visitor = await session_user(request)
        if visitor is None:
            raise NotSignedIn
        visitor.principal.require(role)
        return visitor

    return viewer


def _actor(role: str) -> Callable[[Request], Any]:
    view = _viewer(role)

    async def actor(request: Request) -> SessionUser:
        visitor: SessionUser = await view(request)
        await check_form(request, cookie_of(request))
        return visitor

    return actor


async def check_form(request: Request, cookie: str) -> None:
    """CSRF check: raises Forbidden for a form of another site or another session's page."""
    token = (await request.form()).get("token")
    is_foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if is_foreign or not isinstance(token, str) or not sessions.is_token_of(token, cookie):
        raise Forbidden(
            "form_not_ours",
            "this form was not sent from a page of this session",
            field="token",
            hint="go back, reload the page, and send it again",
        )


Viewer = Annotated[SessionUser, Depends(_viewer("agent"))]
"""Dependency of a page that only shows."""

Actor = Annotated[SessionUser, Depends(_actor("agent"))]
"""Dependency of a form that changes something: its token has been checked."""

Lead = Annotated[SessionUser, Depends(_viewer("lead"))]
"""Dependency of a page for leads, engineers and admins."""

Admin = Annotated[SessionUser, Depends(_viewer("admin"))]
"""Dependency of a page for admins."""

AdminActor = Annotated[SessionUser, Depends(_actor("admin"))]
"""Dependency of an admin's form: its token has been checked."""
