"""create_app: the API process, built by a factory and a lifespan; nothing at import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service.quality.quality_report import is_large
from service.quality.report_cache import AsyncCache
from service.runtime.errors import RequestRefused
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.scoring.decision_replay import DecisionReplay
from service.scoring.engine import Engine
from service.scoring.live_models import ENTRIES_PER_BATCH
from service.store.database.transactions import DatabaseError, SchemaMismatchError, Store
from service.web.access.keys import KeyAuthenticator
from service.web.api import (
    conversations,
    events,
    handoffs,
    outcomes,
    policy,
    quality,
    score,
    versions,
    workspaces,
)
from service.web.console.routes import site
from service.web.event_stream.broadcast import EventBroadcaster
from service.web.middleware import RequestMiddleware
from service.web.request_context import AppDependency, AppState, Keyed, misshapen, refused, unrouted

DESCRIPTION = """Baton decides when a support bot should hand a conversation to a person, and learns
from what people say was true. Send each message to `POST /v1/score`; say what was true with
`POST /v1/handoffs/{id}/outcome`. Keys: `Authorization: Bearer <key>`."""

# The conversations' own routes take any path, so more particular ones come before them.
_ROUTERS = (
    score.router,
    handoffs.router,
    events.router,
    outcomes.router,
    outcomes.audits,
    conversations.router,
    versions.router,
    policy.router,
    quality.router,
    workspaces.router,
)


def create_app(settings: Settings) -> FastAPI:
    """The API as an ASGI application; its lifespan opens the database and starts the engine."""
    measures = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = Store(settings.database_url)
        engine = Engine(store, settings, measures)
        feed = EventBroadcaster(store)
        try:
            await engine.start()
            app.state.baton = AppState(
                settings,
                store,
                engine,
                KeyAuthenticator(store),
                measures,
                DecisionReplay(store),
                feed,
                AsyncCache(is_large),
            )
            yield
        finally:
            await feed.stop()
            await engine.stop()
            store.close()

    app = FastAPIOffline(title="Baton", version="1", description=DESCRIPTION, lifespan=lifespan)
    for router in _ROUTERS:
        app.include_router(router, prefix="/v1", dependencies=[Keyed])
    app.include_router(health)
    app.mount("/console", site(app.state))
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_exception_handler(RequestRefused, refused)
    app.add_exception_handler(RequestValidationError, misshapen)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_middleware(score.Shortcut)
    app.add_middleware(
        RequestMiddleware, measures=measures, verbose=settings.log_level.lower() == "debug"
    )
    return app


async def _home() -> RedirectResponse:
    return RedirectResponse("/console/queue", 307)


health = APIRouter(tags=["health"])


@health.head("/healthz", include_in_schema=False)
@health.get("/healthz")
async def alive() -> Any:
    """This process runs."""
    return JSONResponse({"status": "ok"})


@health.head("/readyz", include_in_schema=False)
@health.get("/readyz", responses={503: {"description": "not ready; `why` tells"}})
async def ready(baton: AppDependency) -> Any:
    """The database is reached and has this build's schema, and every standing is within one batch
    of the ledger's end.

    Workspaces that are `broken` are named and hold up nobody: all others are served.
    """
    why = []
    try:
        await asyncio.to_thread(baton.store.check)
    except SchemaMismatchError as error:
        why.append(str(error))
    except DatabaseError as error:
        why.append(f"the database does not answer: {error.orig}")
    lag = baton.engine.lag()
    why += [
        f"workspace {name} is {entries} entries behind"
        for name, entries in lag.items()
        if entries > ENTRIES_PER_BATCH
    ]
    status = 503 if why else 200
    headers = {"Retry-After": "1"} if why else None
    said: dict[str, Any] = {"ready": not why, "why": why}
    if broken := baton.engine.broken():
        said["broken"] = broken
    return JSONResponse(said, status_code=status, headers=headers)


@health.get("/metrics", response_class=Response)
async def metrics(baton: AppDependency) -> Any:
    """Measures in Prometheus' text format."""
    baton.measures.set_lags(baton.engine.lag())
    return Response(baton.measures.render(), media_type="text/plain; version=0.0.4")
