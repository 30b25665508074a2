"""Choice of the language: by a cookie, which the menu of every page sets, or by the browser."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.runtime.errors import NotFound
from service.web.console.language import translations
from service.web.console.static_files import YEAR_SECONDS

COOKIE = "baton-language"
HOME = "/console/queue"
_NEXT_CHARS_MAX = 500

router = APIRouter()


class LanguageOfRequest:
    """Middleware that puts the language of a request in force while it is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = HTTPConnection(scope)
        accepted = asked.headers.get("accept-language", "")
        code = translations.choose(asked.cookies.get(COOKIE), accepted)

        async def send_with_language(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Content-Language", code)
            await send(message)

        with translations.speaking(code):
            await self._app(scope, receive, send_with_language)


@router.get("/language")
async def choose_language(
    request: Request,
    code: Annotated[str, Query(alias="language", max_length=20)],
    then: Annotated[str, Query(alias="next", max_length=_NEXT_CHARS_MAX)] = "",
) -> Any:
    """Keep a language in this browser, and show the page again. Nothing else is changed, so it
    needs no token, and whoever has not signed in may choose, too.
    """
    if code not in translations.languages():
        raise NotFound("no_language", f"there is no language {code!r}", hint="choose another")
    response = RedirectResponse(safe_target(then), 303)
    response.set_cookie(
        COOKIE,
        code,
        max_age=YEAR_SECONDS,
        path="/console",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response


def safe_target(then: str) -> str:
    """Where to go next: a page of this console, whatever a form asks for (no open redirect)."""
    plain = then.isascii() and then.isprintable() and not any(x in then for x in ("\\", ".."))
    return then if plain and then.startswith("/console/") else HOME


def script_address() -> str:
    """Where a page finds its scripts' texts; other texts have another address."""
    language = translations.current()
    return f"/console/language/{language.digest}/{language.code}.js"


@router.get("/language/{digest}/{code}.js")
async def get_script(digest: str, code: str) -> Response:
    """The texts of scripts in a language; not cached where the digest is another release's."""
    language = translations.languages().get(code)
    if language is None:
        raise NotFound("no_file", f"there is no file {code + '.js'!r}")
    is_current = digest == language.digest
    cached = f"public, max-age={YEAR_SECONDS}, immutable" if is_current else "no-store"
    return Response(
        language.script, media_type="text/javascript", headers={"Cache-Control": cached}
    )
