"""What a route is given: the process's parts, who asks, and how errors are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from service.quality.report_cache import AsyncCache
from service.runtime.errors import (
    HTTP_STATUS,
    BodyTimeout,
    Contradiction,
    Invalid,
    RequestRefused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from service.runtime.ids import fingerprint
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.scoring.decision_replay import DecisionReplay
from service.scoring.engine import Engine
from service.store import access
from service.store.conversations.batch import Batch
from service.store.database.transactions import Store
from service.web.access.keys import KeyAuthenticator, Principal
from service.web.event_stream.broadcast import EventBroadcaster
from service.web.schemas import ErrorAnswer

T = TypeVar("T")
IDEMPOTENCY_KEY_MAX = 200


@dataclass(frozen=True, slots=True)
class AppState:
    """The parts of a running process."""

    settings: Settings
    store: Store
    engine: Engine
    doorkeeper: KeyAuthenticator
    measures: Metrics
    replayer: DecisionReplay
    feed: EventBroadcaster
    counts: AsyncCache[dict[str, Any]]

    async def read(self, look: Callable[[Connection], T]) -> T:
        """Look something up, off the event loop's thread."""

        def read() -> T:
            with self.store.read() as connection:
                return look(connection)

        return await asyncio.to_thread(read)


async def _baton(request: Request) -> AppState:
    found: AppState = request.app.state.baton
    return found


AppDependency = Annotated[AppState, Depends(_baton)]
_bearer = HTTPBearer(auto_error=False, description="A key made by `baton key create`")


def admit(request: Request, role: str) -> Principal:
    """Who asks, if their role reaches `role`. Raises Unauthenticated, Forbidden."""
    baton: AppState = request.app.state.baton
    principal = baton.doorkeeper.admit(request.headers.get("authorization"))
    principal.require(role)
    return principal


def _holder(role: str) -> Any:
    async def holder(request: Request) -> Principal:
        return admit(request, role)

    return holder


Bot = Annotated[Principal, Depends(_holder("bot"))]
Agent = Annotated[Principal, Depends(_holder("agent"))]
Engineer = Annotated[Principal, Depends(_holder("engineer"))]
Admin = Annotated[Principal, Depends(_holder("admin"))]
Keyed = Depends(_bearer)

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 409, 413, 422, 503)
}


def once(
    request: Request, principal: Principal, body: Any, do: Callable[[Batch], Mapping[str, Any]]
) -> Callable[[Batch], Mapping[str, Any]]:
    """Make an operation answer a repeated Idempotency-Key as it did the first time.

    The answer is remembered in the very transaction that does the work.
    """
    name = request.headers.get("idempotency-key")
    if not name:
        return do
    if len(name) > IDEMPOTENCY_KEY_MAX:
        raise Invalid(
            "idempotency_key_too_long",
            f"Idempotency-Key has more than {IDEMPOTENCY_KEY_MAX} characters",
            field="Idempotency-Key",
            hint="a random UUID is enough",
        )
    asked = fingerprint([request.method, request.url.path, principal.key_id, body])

    def do_once(batch: Batch) -> Mapping[str, Any]:
        row = access.idempotency_record(batch.connection, principal.workspace, name)
        if row is not None:
            if row.fingerprint != asked:
                raise Contradiction(
                    "idempotency_key_reused",
                    f"Idempotency-Key {name!r} was used for another request",
                    field="Idempotency-Key",
                    hint="give each request a key of its own",
                )
            remembered: Mapping[str, Any] = row.answer
            return remembered
        answer = do(batch)
        access.add_idempotency_record(
            batch.connection,
            {
                "workspace": principal.workspace,
                "key": name,
                "fingerprint": asked,
                "answer": dict(answer),
                "at": batch.now,
            },
        )
        return answer

    return do_once


def refused(_request: Request, error: Exception) -> JSONResponse:
    """Any refusal, in the one shape of errors."""
    assert isinstance(error, RequestRefused)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Unavailable) else None
    if isinstance(error, Unauthenticated):
        headers = {"WWW-Authenticate": "Bearer"}
    if isinstance(error, (TooLarge, BodyTimeout)):
        headers = {"Connection": "close"}
    return JSONResponse(problem(error), status_code=HTTP_STATUS[type(error)], headers=headers)


def problem(error: RequestRefused) -> dict[str, Any]:
    found = {"code": error.code, "message": error.message, "field": error.field, "hint": error.hint}
    return {"error": {name: value for name, value in found.items() if value is not None}}


def misshapen(_request: Request, error: Any) -> JSONResponse:
    """A body or parameter out of shape: the first fault, with its field and what it takes."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _unreadable(first.get("ctx", {}).get("error", first["msg"]))
    return JSONResponse(problem(fault(error.errors())), status_code=422)


def fault(errors: Sequence[Any]) -> Invalid:
    """What Pydantic found, as a refusal: the first fault, and how many more there are."""
    first = errors[0]
    place = [str(part) for part in first["loc"]]
    if place and place[0] in ("body", "query", "path", "header"):
        place = place[1:]
    field = ".".join(part for part in place if part != "[key]") or "body"
    says = _SAYS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    message = f"{field}: {says}"
    if len(errors) > 1:
        message += f" (and {len(errors) - 1} more)"
    hint = _HINTS.get(first["type"], "see /docs for this route's shape")
    return Invalid(first["type"], message, field=field, hint=hint)


def _unreadable(why: str) -> JSONResponse:
    found = {
        "code": "not_json",
        "message": f"the body is not JSON: {why}",
        "hint": "send a JSON object, UTF-8, with Content-Type: application/json",
    }
    return JSONResponse({"error": found}, status_code=400)


_READING = {
    UnicodeDecodeError: "it is not UTF-8",
    RecursionError: "it nests too deeply",
}
_SAYS = {
    "missing": "is required",
    "extra_forbidden": "is not a field here",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_MOMENTS = "send ISO 8601 such as 2026-01-31T12:00:00Z, or seconds since 1970"
_HINTS = {
    "missing": "add this field",
    "extra_forbidden": "remove this field, or correct its name; unknown fields are refused",
    "string_too_long": "shorten it to the limit named, or send the rest as another message",
    "too_long": "send fewer of them in one request",
    "string_type": "send a string",
    "model_attributes_type": "send a JSON object with Content-Type: application/json",
    "model_type": "send a JSON object",
    "dict_type": "send a JSON object",
    "list_type": "send a JSON list",
    "literal_error": "send one of the values named",
    "finite_number": "send a number that is not NaN or infinite",
    "datetime_type": _MOMENTS,
    "datetime_parsing": _MOMENTS,
    "datetime_from_date_parsing": _MOMENTS,
    "datetime_object_invalid": _MOMENTS,
    "string_unicode": "send valid Unicode without lone surrogates",
}


def unrouted(_request: Request, error: Any) -> JSONResponse:
    """Unknown path or method, or a body that FastAPI could not read, in the same shape."""
    assert isinstance(error, HTTPException)
    cause = error.__cause__
    if isinstance(cause, RequestRefused):
        return refused(_request, cause)
    if cause is not None:
        return _unreadable(_READING.get(type(cause), str(cause)))
    code = {404: "no_route", 405: "method_not_allowed"}.get(error.status_code, "refused")
    hint = "GET /openapi.json lists the routes and their methods"
    found = {"error": {"code": code, "message": str(error.detail), "hint": hint}}
    return JSONResponse(found, status_code=error.status_code, headers=error.headers)
