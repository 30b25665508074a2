"""The API's OpenAPI description, beyond what FastAPI reads from the routes: what the ids in their
paths are, and whose key each route takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

PATH_PARAMETERS = {
    "decision_id": ("The decision's id.", "d19ab2c3d4e5f60718293a4"),
    "handoff_id": ("The handoff's id.", "h19ab2c3d4e5f60718293a4"),
    "outcome_id": ("The outcome's id.", "o19ab2c3d4e5f60718293a4"),
    "audit_id": ("The audit's id.", "a19ab2c3d4e5f60718293a4"),
    "conversation_id": ("The conversation's id, as you chose it.", "c-17"),
    "message_id": ("The message's id, as you chose it.", "m-3"),
    "challenger_id": ("The challenger's id.", "c19ab2c3d4e5f60718293a4"),
    "number": ("The version's number.", 3),
    "workspace": ("The workspace's id.", "shop"),
    "key_id": ("The key's id, not its secret.", "k19ab2c3d4e5f60718293a4"),
    "customer_id": ("The customer, as `attributes.customer_id` names them.", "u-4711"),
    "webhook_id": ("The webhook's id.", "w19ab2c3d4e5f60718293a4"),
    "delivery_id": ("The delivery's id.", "y19ab2c3d4e5f60718293a4"),
    "connection_id": ("The connection's id.", "x19ab2c3d4e5f60718293a4"),
}
"""Description and example of each path parameter."""


def describe(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Complete the description at /openapi.json and /docs, when it is first asked for; `routers`
    are those whose routes take keys.
    """
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            routes = [route for router in routers for route in router.routes]
            roles = {route.name: _role(route) for route in routes if isinstance(route, APIRoute)}
            for methods in generated()["paths"].values():
                for operation in methods.values():
                    _complete(operation, roles.get(operation["operationId"]))
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], role: str | None) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            description, example = PATH_PARAMETERS[parameter["name"]]
            parameter |= {"description": description, "example": example}
    if role is not None:
        operation["description"] += f"\n\nRole: `{role}`, or one that includes it."


def _role(route: APIRoute) -> str:
    """The role that a route's key needs; the shortcut's routes and the events ask for bot's."""
    dependencies = route.dependant.dependencies
    roles = (getattr(dependency.call, "role", None) for dependency in dependencies)
    return next((role for role in roles if role is not None), "bot")
