"""ASGI middleware around every request: its id, its key, rate and body limits, metrics, log line,
and an answer to whatever broke.

Nothing of a body is read before the key of a request to /v1 was checked (authentication), and its
rate limit.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping

import structlog
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.connections.mcp.endpoint import PATH as MCP_PATH
from service.runtime.errors import (
    BodyTimeout,
    RequestRefused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    database_unavailable,
    schema_mismatch,
)
from service.runtime.metrics import Metrics
from service.runtime.tracing import Tracing
from service.store.database.transactions import SchemaError, UnavailableError
from service.web.access.keys import KeyAuthenticator, Principal
from service.web.access.rate_limits import Bucket, RateLimits
from service.web.access.security_events import SecurityRecorder
from service.web.error_responses import error_response

_ID_CHARS_MAX = 100
_log = structlog.get_logger("baton.request")


class RequestMiddleware:
    """Request id, limits, metrics and logging as pure ASGI, which costs a fraction of Starlette's
    middleware base class.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, limits: RateLimits, *, verbose: bool = False
    ) -> None:
        self._app = app
        self._verbose = verbose
        self._metrics = metrics
        self._limits = limits
        self._bodies = BodyBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracing: Tracing | None = getattr(scope["app"].state, "tracing", None)
        if tracing is None or scope["type"] != "http":
            await self._handle(scope, receive, send)
            return
        with tracing.request(method_label(scope), dict(scope["headers"])) as span:

            async def send_with_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span["status"] = message["status"]
                await send(message)

            await self._handle(scope, receive, send_with_status)
            span["route"] = route_template(scope)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        client_id = headers.get(b"x-request-id", b"").decode("latin-1")
        is_usable = client_id.isprintable() and 0 < len(client_id) <= _ID_CHARS_MAX
        request = client_id if is_usable else secrets.token_hex(8)
        started, status = time.perf_counter(), 0
        body = LimitedBody(receive, self._bodies, body_limit(scope["path"]))
        bucket: Bucket | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request.encode("latin-1")),
                    (b"x-content-type-options", b"nosniff"),
                    (b"x-frame-options", b"DENY"),
                    *_rate_limit(bucket, status),
                ]
            await send(message)

        structlog.contextvars.bind_contextvars(request=request)
        try:
            if needs_key(scope, headers):
                principal = scope["principal"] = authenticate(scope, headers)
                bucket = self._limits.enter(principal.key_id)
            body.check_length(headers.get(b"content-length", b"0"))
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
            if bucket is not None:
                self._limits.leave(bucket)
            self._metrics.count_response(status)
            self._observe(scope, status, time.perf_counter() - started)
            if self._verbose:
                _log.debug(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(1000 * (time.perf_counter() - started), 2),
                )
            structlog.contextvars.unbind_contextvars("request")

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Measure a request by its route; a stream lasts as long as its reader wants."""
        route = route_template(scope)
        if route not in STREAMS:
            self._metrics.observe_request(method_label(scope), route, status, seconds)


def _rate_limit(bucket: Bucket | None, status: int) -> list[tuple[bytes, bytes]]:
    """What is left of a key's requests; a refusal says itself which limit was reached."""
    if bucket is None or status == 429:
        return []
    limit, left, reset = bucket.requests.limit()
    return [
        (b"ratelimit-limit", b"%d" % limit),
        (b"ratelimit-remaining", b"%d" % left),
        (b"ratelimit-reset", b"%d" % reset),
    ]


STREAMS = frozenset({"/v1/events"})
_SHORTCUTS = frozenset({"/v1/score", "/v1/score/batch"})
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})


def method_label(scope: Scope) -> str:
    """The method as a metric's label: what nobody knows is one value, however it is spelt."""
    method: str = scope["method"]
    return method if method in _METHODS else "other"


def route_template(scope: Scope) -> str:
    """The template of the route that answered, such as `/v1/handoffs/{handoff_id}`."""
    path: str = scope["path"]
    route = scope.get("route")
    if route is None:
        return path if path in _SHORTCUTS else "none"
    mounted: str = scope.get("root_path", "").removeprefix(scope.get("app_root_path", ""))
    template = mounted + str(getattr(route, "path_format", getattr(route, "path", "")))
    is_bare = path.startswith("/v1/") and not template.startswith("/v1/")
    return f"/v1{template}" if is_bare else template


BODY_BYTES_MAX, BATCH_BYTES_MAX = 2**20, 4 * 2**20
"""A request's body; that of a batch."""

VALUES_MAX = 250_000
"""Commas and brackets in one body: what its JSON may cost to parse, whatever it holds. Far more
than any request within the other limits has.
"""

BODY_SECONDS = 20
"""How long a client may pause while it sends a body."""

BODIES_BYTES_MAX = 64 * 2**20
"""All bodies in a process together: many large ones must not take its memory."""

_BATCH_PATH = "/v1/score/batch"


def body_limit(path: str) -> int:
    """The most bytes of a body sent to a path."""
    return BATCH_BYTES_MAX if path == _BATCH_PATH else BODY_BYTES_MAX


def needs_key(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request is answered only by key: MCP, and all of /v1, but events that the console's
    session asks for.
    """
    path: str = scope["path"]
    if path == MCP_PATH:
        return True
    return path.startswith("/v1/") and (path != "/v1/events" or b"authorization" in headers)


def authenticate(scope: Scope, headers: Mapping[bytes, bytes]) -> Principal:
    """Whose key it is. Raises Unauthenticated."""
    baton = scope["app"].state.baton
    authenticator: KeyAuthenticator = baton.authenticator
    try:
        return authenticator.admit(headers.get(b"authorization", b"").decode("latin-1"))
    except Unauthenticated as refusal:
        recorder: SecurityRecorder = baton.recorder
        recorder.record("refused", refusal.code, address=(scope.get("client") or ("",))[0])
        raise


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

    def __init__(self, receive: Receive, budget: BodyBudget, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._values = 0
        self._budget = budget
        self._received = 0
        self._complete = False

    def check_length(self, length: bytes) -> None:
        """Refuse by the length that was announced. Raises TooLarge."""
        if length.isdigit() and int(length) > self._limit:
            raise too_large(self._limit)

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
        piece: bytes = message.get("body", b"")
        size = len(piece)
        self._received += size
        self._budget.held += size
        if self._received > self._limit:
            raise too_large(self._limit)
        self._values += piece.count(b",") + piece.count(b"[") + piece.count(b"{")
        if self._values > VALUES_MAX:
            raise TooLarge(
                "too_many_values",
                f"the body holds more than {VALUES_MAX} values",
                hint="send fewer of them in one request",
            )
        if self._budget.held > BODIES_BYTES_MAX:
            raise Unavailable(
                "bodies_full", "too many large requests at once", hint="send it again"
            )
        return message

    def done(self) -> None:
        """The request is over."""
        self._budget.held -= self._received


def too_large(limit: int) -> TooLarge:
    return TooLarge(
        "body_too_large",
        f"the body is larger than {limit} bytes",
        hint="send fewer or shorter messages in one request",
    )
