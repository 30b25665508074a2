"""Application factory of the API process: routers, middleware, lifespan, health routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Lifespan

from service.connections.inbox.worker import InboxWorker
from service.connections.known_connections import KnownConnections
from service.connections.mcp.endpoint import PATH as MCP_PATH
from service.connections.mcp.endpoint import McpEndpoint
from service.quality.quality_report import is_large
from service.quality.report_cache import AsyncCache
from service.runtime.errors import RequestRefused
from service.runtime.metrics import CONTENT_TYPE, Metrics
from service.runtime.settings import Settings
from service.runtime.tracing import tracing_of
from service.scoring.decision_replay import DecisionReplay
from service.scoring.engine import Engine
from service.scoring.live_models import ENTRIES_PER_BATCH, NEWER_BUILD
from service.store.database.transactions import (
    DatabaseError,
    DiskFullError,
    SchemaMismatchError,
    Store,
)
from service.web.access.keys import KeyAuthenticator
from service.web.access.private_pages import PrivatePages, roles_by_path
from service.web.access.rate_limits import Rate, RateLimits
from service.web.access.security_events import SecurityRecorder
from service.web.api import (
    conversations,
    handoffs,
    outcomes,
    policy,
    quality,
    score,
    versions,
    workspaces,
)
from service.web.api.connections import events, inbound, systems
from service.web.console.routes import site
from service.web.error_responses import handle_http_exception, handle_invalid, handle_refused
from service.web.event_stream.broadcast import EventBroadcaster
from service.web.event_stream.presence_recorder import PresenceRecorder
from service.web.middleware import RequestMiddleware
from service.web.request_context import AppDependency, AppState, Keyed
from service.web.schemas import BATCH_TEXTS_CHARS_MAX, about

DESCRIPTION = """Baton decides when a support bot should hand a conversation to a person, and learns
from what people say was true. Send each message to `POST /v1/score`; say what was true with
`POST /v1/handoffs/{id}/outcome`. Keys: `Authorization: Bearer <key>`."""

TAGS = {
    "score": "Send each message; tell the customer's answer to an offer.",
    "conversations": "Turns that are not scored, the end of a conversation, its transcript.",
    "handoffs": "The queue of conversations that wait for a person, and what an agent does.",
    "outcomes": "Say what was true: the model learns it at once.",
    "audits": "Review conversations that the bot kept, without their score.",
    "events": "What happens, as it happens.",
    "webhooks": "Where events are sent, signed, and what came of it.",
    "connections": "Other systems that Baton hears from and acts on.",
    "quality": "Rates with intervals, calibration, and whose labels can be trusted.",
    "policy": "Costs, rules and waiting times, and what another policy would have done.",
    "versions": "Model versions, promotion, rollback, challengers.",
    "workspaces": "Workspaces and keys.",
    "people": "All that is stored of a person, and its erasure with a receipt.",
    "health": "For load balancers and Prometheus.",
}
"""The API's parts, in the order in which they are used."""

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

# The conversations' own routes take any path, so more particular ones come before them.
_ROUTERS = (
    score.router,
    handoffs.router,
    events.router,
    events.webhooks,
    systems.router,
    outcomes.router,
    outcomes.audits,
    conversations.router,
    versions.router,
    policy.router,
    quality.router,
    workspaces.router,
    workspaces.people,
)


def _lifespan(settings: Settings, metrics: Metrics, limits: RateLimits) -> Lifespan[FastAPI]:
    """What opens a process's parts, and closes them in the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = Store(settings.database_url)
        engine = Engine(store, settings, metrics)
        broadcaster = EventBroadcaster(store, settings)
        connections = KnownConnections(store, settings)
        inbox = InboxWorker(engine, store, connections)
        recorder = SecurityRecorder(store)
        presence = PresenceRecorder(store, broadcaster)
        app.state.tracing = engine.tracing = tracing_of(settings, "serve")
        try:
            await engine.start()
            app.state.baton = AppState(
                settings,
                store,
                engine,
                KeyAuthenticator(store, recorder),
                metrics,
                DecisionReplay(store),
                broadcaster,
                AsyncCache(is_large),
                limits,
                recorder,
                connections,
                inbox,
                presence,
            )
            recorder.start()
            presence.start()
            inbox.start()
            yield
        finally:
            await app.state.mcp.stop()
            await presence.stop()
            await broadcaster.stop()
            await inbox.stop()
            await engine.stop()
            await recorder.stop()
            if engine.tracing is not None:
                await asyncio.to_thread(engine.tracing.stop)
            store.close()

    return lifespan


def create_app(settings: Settings) -> FastAPI:
    """The API as an ASGI application; its lifespan opens the database and starts the engine."""
    metrics = Metrics()
    limits = _rate_limits(settings)

    app = FastAPIOffline(
        title="Baton",
        version="1",
        description=DESCRIPTION,
        lifespan=_lifespan(settings, metrics, limits),
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        generate_unique_id_function=lambda route: route.name,
    )
    for router in _ROUTERS:
        app.include_router(router, prefix="/v1", dependencies=[Keyed])
    app.include_router(inbound.router)
    app.include_router(health)
    app.state.openid = _openid_provider(settings)
    app.mount("/console", site(app.state))
    app.state.mcp = McpEndpoint(app)
    app.router.routes.append(Route(MCP_PATH, app.state.mcp, include_in_schema=False))
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_exception_handler(RequestRefused, handle_refused)
    app.add_exception_handler(RequestValidationError, handle_invalid)
    app.add_exception_handler(HTTPException, handle_http_exception)
    _add_middleware(app, settings, metrics, limits)
    _describe(app, _ROUTERS)
    return app


def _openid_provider(settings: Settings) -> Any:
    """Where people sign in to the console besides by key; None where the settings name nowhere."""
    if not settings.oidc_issuer:
        return None
    from service.web.access.oidc import OpenIdProvider

    return OpenIdProvider(settings)


def _rate_limits(settings: Settings) -> RateLimits:
    """Twice the rate is saved up; the largest batch can always be sent."""
    requests, chars = settings.requests_per_second, settings.chars_per_second
    return RateLimits(
        Rate(requests, 2 * requests), Rate(chars, max(2 * chars, BATCH_TEXTS_CHARS_MAX))
    )


def _add_middleware(app: FastAPI, settings: Settings, metrics: Metrics, limits: RateLimits) -> None:
    """What stands around every request, the innermost first."""
    app.add_middleware(score.ScoreShortcut)
    if roles := roles_by_path(settings):
        app.add_middleware(PrivatePages, roles=roles)
    app.add_middleware(
        RequestMiddleware,
        metrics=metrics,
        limits=limits,
        verbose=settings.log_level.lower() == "debug",
    )


def _describe(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Complete the description at /openapi.json and /docs, when it is first asked for; `routers`
    are those whose routes take keys.
    """
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            routes = [route for router in routers for route in router.routes]
            roles = {route.name: _role_of(route) for route in routes if isinstance(route, APIRoute)}
            for methods in generated()["paths"].values():
                for operation in methods.values():
                    _complete_operation(operation, roles.get(operation["operationId"]))
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete_operation(operation: dict[str, Any], role: str | None) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            description, example = PATH_PARAMETERS[parameter["name"]]
            parameter |= {"description": description, "example": example}
    if role is not None:
        operation["description"] += f"\n\nRole: `{role}`, or one that includes it."


def _role_of(route: APIRoute) -> str:
    """The role that a route's key needs; the shortcut's routes and the events ask for bot's."""
    dependencies = route.dependant.dependencies
    roles = (getattr(dependency.call, "role", None) for dependency in dependencies)
    return next((role for role in roles if role is not None), "bot")


async def _home() -> RedirectResponse:
    return RedirectResponse("/console/queue", 307)


health = APIRouter(tags=["health"])


class Alive(BaseModel):
    """This process runs."""

    status: Annotated[str, about("Always ok.", "ok")]


class Readiness(BaseModel):
    """Whether this process can serve."""

    ready: Annotated[bool, about("Whether it can.", True)]
    why: Annotated[list[str], about("Why it cannot.", ["the database does not answer"])]


@health.head("/healthz", include_in_schema=False)
@health.get("/healthz", response_model=Alive)
async def get_liveness() -> Any:
    """Liveness: this process runs."""
    return JSONResponse({"status": "ok"})


@health.head("/readyz", include_in_schema=False)
@health.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Not ready; `why` tells."}},
)
async def get_readiness(baton: AppDependency) -> Any:
    """Readiness: the database is reached and has this build's schema, and every model is within a
    batch of its ledger's end.

    A process that meets an entry or a recipe of a newer build is no longer ready.
    Workspaces that are `broken` are named and hold up nobody: all others are served.
    """
    why = []
    try:
        await asyncio.to_thread(baton.store.check)
    except (SchemaMismatchError, DiskFullError) as error:
        why.append(str(error))
    except DatabaseError as error:
        why.append(f"the database does not answer: {error.orig}")
    why += [
        f"workspace {name} is {entries} entries behind"
        for name, entries in baton.engine.lag().items()
        if entries > ENTRIES_PER_BATCH
    ]
    why += [
        f"workspace {name}: {reason}; {NEWER_BUILD}"
        for name, reason in baton.engine.outdated().items()
    ]
    status = 503 if why else 200
    headers = {"Retry-After": "1"} if why else None
    said: dict[str, Any] = {"ready": not why, "why": why}
    if broken := baton.engine.broken():
        said["broken"] = broken
    return JSONResponse(said, status_code=status, headers=headers)


@health.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Counters and gauges.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
)
async def get_metrics(baton: AppDependency) -> Any:
    """Metrics in Prometheus' render format."""
    baton.metrics.set_lags(baton.engine.lag())
    baton.metrics.set_subscribers(len(baton.broadcaster))
    return Response(baton.metrics.render(), media_type=CONTENT_TYPE)
