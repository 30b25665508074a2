"""ASGI middleware around every request: its id, body limits, metrics, log line, and an answer to
whatever broke.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import structlog
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.runtime.errors import (
    BodyTimeout,
    RequestRefused,
    TooLarge,
    Unavailable,
    database_unavailable,
    schema_mismatch,
)
from service.runtime.metrics import Metrics
from service.store.database.transactions import SchemaError, UnavailableError
from service.web.error_responses import error_response

_ID_CHARS_MAX = 100
_log = structlog.get_logger("baton.request")


class RequestMiddleware:
    """Request id, limits, metrics and logging as pure ASGI, which costs a fraction of Starlette's
    middleware base class.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, verbose: bool = False) -> None:
        self._app = app
        self._verbose = verbose
        self._metrics = metrics
        self._bodies = BodyBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        client_id = headers.get(b"x-request-id", b"").decode("latin-1")
        is_usable = client_id.isprintable() and 0 < len(client_id) <= _ID_CHARS_MAX
        request = client_id if is_usable else secrets.token_hex(8)
        started, status = time.perf_counter(), 0
        body = LimitedBody(receive, self._bodies)

        async def send_with_id(message: Message) -> None:
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
            await self._app(scope, body.receive, send_with_id)
        except RequestRefused as error:
            await _close_with(error_response(error), scope, receive, send_with_id)
        except (SchemaError, *UnavailableError) as error:
            fits = not isinstance(error, SchemaError)
            what = "database_away" if fits else "schema"
            _log.error(what, path=scope["path"], why=str(error.orig))
            if status:
                raise
            refusal = database_unavailable() if fits else schema_mismatch()
            await _close_with(error_response(refusal), scope, receive, send_with_id)
        except Exception:
            _log.exception("request_broke", method=scope["method"], path=scope["path"])
            if status:
                raise
            text = f"something broke in Baton; the log has it as request {request}"
            broken = JSONResponse({"error": {"code": "broken", "message": text}}, status_code=500)
            await _close_with(broken, scope, receive, send_with_id)
        finally:
            body.done()
            self._metrics.count_response(status)
            if self._verbose:
                _log.debug(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(1000 * (time.perf_counter() - started), 2),
                )
            structlog.contextvars.unbind_contextvars("request")


BODY_BYTES_MAX = 16 * 2**20
BODY_SECONDS = 20
"""How long a client may pause while it sends a body."""

BODIES_BYTES_MAX = 16 * BODY_BYTES_MAX
"""All bodies in a process together: many large ones must not take its memory."""


async def _close_with(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer and close the connection: what is left of the body is not read."""
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


class BodyBudget:
    """Bytes of all the bodies that a process holds now."""

    def __init__(self) -> None:
        self.held = 0


class LimitedBody:
    """A request's body with a limit of size, time and memory: stands in for `receive`."""

    def __init__(self, receive: Receive, budget: BodyBudget) -> None:
        self._receive = receive
        self._budget = budget
        self._received = 0
        self._complete = False

    async def receive(self) -> Message:
        """The next piece. Raises TooLarge, BodyTimeout, Unavailable."""
        if self._complete:  # what is waited for now is that the client hangs up
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
        self._complete = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self._received += size
        self._budget.held += size
        if self._received > BODY_BYTES_MAX:
            raise too_large()
        if self._budget.held > BODIES_BYTES_MAX:
            raise Unavailable(
                "bodies_full", "too many large requests at once", hint="send it again"
            )
        return message

    def done(self) -> None:
        """The request is over."""
        self._budget.held -= self._received


def too_large() -> TooLarge:
    return TooLarge(
        "body_too_large",
        f"the body is larger than {BODY_BYTES_MAX} bytes",
        hint="send fewer or shorter messages in one request",
    )
