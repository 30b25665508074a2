"""Around every request: its id, its size limit, its log line, and an answer to what broke."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.runtime.errors import (
    HTTP_STATUS,
    BodyTimeout,
    RequestRefused,
    TooLarge,
    Unavailable,
    database_unavailable,
    misfit,
)
from service.runtime.metrics import Metrics
from service.store.database.transactions import SchemaError, UnavailableError

_ID_CHARS_MAX = 100
_log = structlog.get_logger("baton.request")


class RequestMiddleware:
    """Pure ASGI, which costs a fraction of Starlette's middleware base class."""

    def __init__(self, app: ASGIApp, measures: Metrics, *, verbose: bool = False) -> None:
        self._app = app
        self._verbose = verbose
        self._measures = measures
        self._bodies = BodyBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request = given if given.isprintable() and 0 < len(given) <= _ID_CHARS_MAX else ""
        request = request or secrets.token_hex(8)
        started, status = time.perf_counter(), 0
        body = LimitedBody(receive, self._bodies)

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request.encode("latin-1")),
                ]
            await send(message)

        structlog.contextvars.bind_contextvars(request=request)
        try:
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > BODY_BYTES_MAX:
                raise too_large()
            await self._app(scope, body.receive, named)
        except RequestRefused as error:
            await _refuse(named, error)
        except (SchemaError, *UnavailableError) as error:
            fits = not isinstance(error, SchemaError)
            what = "database_away" if fits else "schema"
            _log.error(what, path=scope["path"], why=str(error.orig))
            if status:
                raise
            await _refuse(named, database_unavailable() if fits else misfit())
        except Exception:
            _log.exception("request_broke", method=scope["method"], path=scope["path"])
            if status:
                raise
            text = f"something broke in Baton; the log has it as request {request}"
            await _answer(named, 500, {"code": "broken", "message": text})
        finally:
            body.done()
            self._measures.count_response(status)
            if self._verbose:
                _log.debug(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(1000 * (time.perf_counter() - started), 2),
                )
            structlog.contextvars.unbind_contextvars("request")


async def _refuse(send: Send, error: RequestRefused) -> None:
    told = {"code": error.code, "message": error.message, "hint": error.hint}
    more = [(b"retry-after", b"%d" % error.retry_after)] if isinstance(error, Unavailable) else []
    await _answer(send, HTTP_STATUS[type(error)], told, more)


async def _answer(
    send: Send, status: int, error: dict[str, Any], more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


BODY_BYTES_MAX = 16 * 2**20
BODY_SECONDS = 20
"""How long a client may pause while it sends a body."""

BODIES_BYTES_MAX = 16 * BODY_BYTES_MAX
"""All bodies in a process together: many large ones must not take its memory."""


class BodyBudget:
    """The bodies that a process holds now."""

    def __init__(self) -> None:
        self.held = 0


class LimitedBody:
    """One of them, as it comes: stands in for the request's `receive`."""

    def __init__(self, receive: Receive, among: BodyBudget) -> None:
        self._receive = receive
        self._among = among
        self._received = 0
        self._whole = False

    async def receive(self) -> Message:
        """The next piece. Raises TooLarge, Slow, Busy."""
        if self._whole:  # what is waited for now is that the client hangs up
            return await self._receive()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await self._receive()
        except TimeoutError as error:
            raise BodyTimeout(
                "body_too_slow",
                f"no part of the body came for {BODY_SECONDS} seconds",
                hint="send it again, in one piece",
            ) from error
        self._whole = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self._received += size
        self._among.held += size
        if self._received > BODY_BYTES_MAX:
            raise too_large()
        if self._among.held > BODIES_BYTES_MAX:
            raise Unavailable(
                "bodies_full", "too many large requests at once", hint="send it again"
            )
        return message

    def done(self) -> None:
        """The request is over."""
        self._among.held -= self._received


def too_large() -> TooLarge:
    return TooLarge(
        "body_too_large",
        f"the body is larger than {BODY_BYTES_MAX} bytes",
        hint="send fewer or shorter messages in one request",
    )
