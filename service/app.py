"""create_app: the API process, built by a factory and a lifespan; nothing at import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service.api import (
    audits,
    conversations,
    events,
    handoffs,
    health,
    outcomes,
    policy,
    quality,
    score,
    versions,
    workspaces,
)
from service.api.context import Baton, Keyed, misshapen, refused, unrouted
from service.auth import Doorkeeper
from service.console.site import site
from service.engine import Engine
from service.errors import Refusal
from service.feed import Feed
from service.measures import Measures
from service.quality import is_large
from service.replay import Replayer
from service.reused import Reused
from service.settings import Settings
from service.store.database import Store
from service.wire import Wire

DESCRIPTION = """Baton decides when a support bot should hand a conversation to a person, and learns
from what people say was true. Send each message to `POST /v1/score`; say what was true with
`POST /v1/handoffs/{id}/outcome`. Keys: `Authorization: Bearer <key>`."""

# The conversations' own routes take any path, so more particular ones come before them.
_ROUTERS = (
    score.router,
    handoffs.router,
    events.router,
    outcomes.router,
    audits.router,
    conversations.router,
    versions.router,
    policy.router,
    quality.router,
    workspaces.router,
)


def create_app(settings: Settings) -> FastAPI:
    """The API as an ASGI application; its lifespan opens the database and starts the engine."""
    measures = Measures()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = Store(settings.database_url)
        engine = Engine(store, settings, measures)
        feed = Feed(store)
        try:
            await engine.start()
            app.state.baton = Baton(
                settings,
                store,
                engine,
                Doorkeeper(store),
                measures,
                Replayer(store),
                feed,
                Reused(is_large),
            )
            yield
        finally:
            await feed.stop()
            await engine.stop()
            store.close()

    app = FastAPIOffline(title="Baton", version="1", description=DESCRIPTION, lifespan=lifespan)
    for router in _ROUTERS:
        app.include_router(router, prefix="/v1", dependencies=[Keyed])
    app.include_router(health.router)
    app.mount("/console", site(app.state))
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(RequestValidationError, misshapen)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_middleware(score.Shortcut)
    app.add_middleware(Wire, measures=measures, verbose=settings.log_level.lower() == "debug")
    return app


async def _home() -> RedirectResponse:
    return RedirectResponse("/console/queue", 307)
