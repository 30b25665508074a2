"""Console application, mounted under /console: routers, security headers (CSP), error pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.datastructures import MutableHeaders, State
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.runtime.errors import (
    HTTP_STATUS,
    NotFound,
    RequestRefused,
    database_unavailable,
    schema_mismatch,
)
from service.store.database.transactions import SchemaError, UnavailableError
from service.web.access.sessions import SignInFailures
from service.web.console import static_files
from service.web.console.conversation import actions, conversation_page, queue_page, verdict_form
from service.web.console.dashboard import dashboard_page, today_page
from service.web.console.language import choice
from service.web.console.language.choice import LanguageOfRequest
from service.web.console.rendering import page
from service.web.console.review import audit_page, missed_page, search_page, transcript_page
from service.web.console.sessions import openid_sign_in, sign_in
from service.web.console.settings import first_day_page, people_page, replies_page, try_page
from service.web.console.signed_in_user import NotSignedIn, session_user
from service.web.error_responses import retry_headers, validation_error

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}

_ROUTERS = (
    sign_in.router,
    openid_sign_in.router,
    queue_page.router,
    conversation_page.router,
    actions.router,
    verdict_form.router,
    audit_page.router,
    missed_page.router,
    transcript_page.router,
    search_page.router,
    replies_page.router,
    people_page.router,
    first_day_page.router,
    try_page.router,
    dashboard_page.router,
    today_page.router,
    choice.router,
    static_files.router,
)


def site(state: State) -> FastAPI:
    """Application factory of the console; it shares `state` with the API."""
    app = FastAPI(title="Baton's console", openapi_url=None, docs_url=None, redoc_url=None)
    app.state = state
    state.failures = SignInFailures()
    for router in _ROUTERS:
        app.include_router(router)
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_exception_handler(NotSignedIn, _ask_to_sign_in)
    for kind in (
        RequestRefused,
        SchemaError,
        *UnavailableError,
        RequestValidationError,
        HTTPException,
    ):
        app.add_exception_handler(kind, _error_page)
    app.add_middleware(LanguageOfRequest)
    app.add_middleware(SecurityHeaders)
    return app


async def _home() -> RedirectResponse:
    return RedirectResponse(sign_in.HOME, 307)


class SecurityHeaders:
    """Middleware that adds security headers to every response, unless a page sets its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _ask_to_sign_in(request: Request, _error: Exception) -> RedirectResponse:
    if request.method != "GET":
        return RedirectResponse("/console/sign-in", 303)
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/console/sign-in?next={quote(target, safe='')}", 303)


async def _error_page(request: Request, error: Exception) -> Any:
    """Error page: what went wrong and what to do."""
    refusal = _as_refusal(error)
    headers = retry_headers(refusal)
    visitor = None
    if not isinstance(error, (SchemaError, *UnavailableError)):
        visitor = await session_user(request)
    status = HTTP_STATUS[type(refusal)]
    return page(request, visitor, "error.html", status, headers, refusal=refusal)


def _as_refusal(error: Exception) -> RequestRefused:
    if isinstance(error, RequestRefused):
        return error
    if isinstance(error, RequestValidationError):
        return validation_error(error.errors())
    if isinstance(error, HTTPException):
        if isinstance(error.__cause__, RequestRefused):
            return error.__cause__
        return NotFound("no_page", "there is no such page", hint="start from the queue")
    return schema_mismatch() if isinstance(error, SchemaError) else database_unavailable()
