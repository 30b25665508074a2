"""Error responses: every refusal of the API in one JSON shape, with its HTTP status and headers.

`error_response` is the one place that answers a refused request, a 503 with Retry-After among
them; whatever else goes wrong (a body out of shape, an unknown path) is made a refusal first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.runtime.errors import (
    HTTP_STATUS,
    BodyTimeout,
    Invalid,
    RateLimited,
    RequestRefused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from service.web.schemas import ErrorAnswer

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The body is not JSON, or not UTF-8."},
    401: {"model": ErrorAnswer, "description": "No key, or one that is unknown or revoked."},
    403: {"model": ErrorAnswer, "description": "The key's role or workspace does not reach this."},
    404: {"model": ErrorAnswer, "description": "There is no such thing in this workspace."},
    408: {"model": ErrorAnswer, "description": "The body did not come in time."},
    409: {"model": ErrorAnswer, "description": "It contradicts what is already recorded."},
    413: {
        "model": ErrorAnswer,
        "description": "The body is larger than 1 MiB (a batch: 4 MiB).",
    },
    422: {"model": ErrorAnswer, "description": "A field is missing, unknown or out of bounds."},
    429: {"model": ErrorAnswer, "description": "The key asks too often: RateLimit-* tell."},
    431: {"model": ErrorAnswer, "description": "The headers are larger than 64 KiB."},
    503: {"model": ErrorAnswer, "description": "Not now: send it again after Retry-After seconds."},
}
"""What every route may answer besides its own, for its OpenAPI description."""


def error_response(error: RequestRefused) -> JSONResponse:
    """A refusal as an HTTP response: its status, its headers, and what to do about it."""
    headers = retry_headers(error)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, (TooLarge, BodyTimeout)):
        headers["Connection"] = "close"
    return JSONResponse(error_json(error), status_code=HTTP_STATUS[type(error)], headers=headers)


def retry_headers(error: RequestRefused) -> dict[str, str]:
    """Retry-After, where waiting helps, and the rate limit that was reached."""
    if not isinstance(error, Unavailable):
        return {}
    headers = {"Retry-After": str(error.retry_after)}
    if isinstance(error, RateLimited) and error.limit is not None:
        headers |= rate_limit_headers(error.limit)
    return headers


def rate_limit_headers(limit: tuple[int, int, int]) -> dict[str, str]:
    """`RateLimit-*`: the limit, what is left, and the seconds until all is there again."""
    names = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
    return dict(zip(names, map(str, limit), strict=True))


def error_json(error: RequestRefused) -> dict[str, Any]:
    """A refusal's body: `{"error": {code, message, field?, hint?}}`."""
    hint = error.hint or _LOOK_UP.get(error.code)
    parts = {"code": error.code, "message": error.message, "field": error.field, "hint": hint}
    return {"error": {name: value for name, value in parts.items() if value is not None}}


def handle_refused(_request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler of refusals."""
    assert isinstance(error, RequestRefused)
    return error_response(error)


def handle_invalid(_request: Request, error: Any) -> JSONResponse:
    """FastAPI's handler of bodies and parameters out of shape: the first fault, with its field."""
    return invalid_response(error.errors())


def invalid_response(errors: Sequence[Any]) -> JSONResponse:
    """Pydantic's errors as an HTTP response: 422 with the first of them, or 400 for no JSON."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return _not_json(first.get("ctx", {}).get("error", first["msg"]))
    return error_response(validation_error(errors))


def validation_error(errors: Sequence[Any]) -> Invalid:
    """Pydantic's errors as a refusal: the first fault, and how many more there are."""
    first = errors[0]
    place = [str(part) for part in first["loc"]]
    if place and place[0] in ("body", "query", "path", "header"):
        place = place[1:]
    field = ".".join(part for part in place if part != "[key]") or "body"
    sentence = _SENTENCES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    message = f"{field}: {sentence}"
    if len(errors) > 1:
        message += f" (and {len(errors) - 1} more)"
    hint = _HINTS.get(first["type"], "see /docs for this route's shape")
    return Invalid(first["type"], message, field=field, hint=hint)


def handle_http_exception(_request: Request, error: Any) -> JSONResponse:
    """An unknown path or method, or a body that FastAPI could not read, in the same shape."""
    assert isinstance(error, HTTPException)
    cause = error.__cause__
    if isinstance(cause, RequestRefused):
        return error_response(cause)
    if cause is not None:
        return _not_json(_UNREADABLE.get(type(cause), str(cause)))
    code = {404: "no_route", 405: "method_not_allowed"}.get(error.status_code, "refused")
    hint = "GET /openapi.json lists the routes and their methods"
    body = {"error": {"code": code, "message": str(error.detail), "hint": hint}}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _not_json(why: str) -> JSONResponse:
    body = {
        "code": "not_json",
        "message": f"the body is not JSON: {why}",
        "hint": "send a JSON object, UTF-8, with Content-Type: application/json",
    }
    return JSONResponse({"error": body}, status_code=400)


_UNREADABLE = {
    UnicodeDecodeError: "it is not UTF-8",
    RecursionError: "it nests too deeply",
}
_SENTENCES = {
    "missing": "is required",
    "extra_forbidden": "is not a field here",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_LOOK_UP = {
    "no_audit": "GET /v1/audits/next offers one, with its id",
    "no_challenger": "GET /v1/versions lists the challengers",
    "no_decision": "its id is `decision_id` of what POST /v1/score answered",
    "no_delivery": "GET /v1/webhooks/{id}/deliveries lists those of a webhook",
    "no_handoff": "GET /v1/handoffs lists those of this workspace",
    "no_key": "GET /v1/keys lists those of this workspace",
    "no_outcome": "its id is in the answer that recorded it, and in GET /v1/conversations/{id}",
    "no_version": "GET /v1/versions lists those of this workspace",
    "no_webhook": "GET /v1/webhooks lists those of this workspace",
    "no_workspace": "POST /v1/workspaces makes one",
}
"""Where the id of what is not there is found; other errors bring their own hint."""

_TIME_HINT = "send ISO 8601 such as 2026-01-31T12:00:00Z, or seconds since 1970"
_HINTS = {
    "missing": "add this field",
    "extra_forbidden": "remove this field, or correct its name; unknown fields are refused",
    "string_too_long": "shorten it to the limit named, or send the rest as another message",
    "too_long": "send fewer of them in one request",
    "texts_too_long": "send them in several requests, the oldest first",
    "string_type": "send a string",
    "model_attributes_type": "send a JSON object with Content-Type: application/json",
    "model_type": "send a JSON object",
    "dict_type": "send a JSON object",
    "list_type": "send a JSON list",
    "literal_error": "send one of the values named",
    "greater_than": "send a number within the bound named",
    "greater_than_equal": "send a number within the bound named",
    "less_than": "send a number within the bound named",
    "less_than_equal": "send a number within the bound named",
    "int_parsing": "send a whole number",
    "string_pattern_mismatch": "choose one of the characters and length named",
    "finite_number": "send a number that is not NaN or infinite",
    "datetime_type": _TIME_HINT,
    "datetime_parsing": _TIME_HINT,
    "datetime_from_date_parsing": _TIME_HINT,
    "datetime_object_invalid": _TIME_HINT,
    "string_unicode": "send valid Unicode without lone surrogates",
}
