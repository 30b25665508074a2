"""Running the API under uvicorn."""

from __future__ import annotations

import uvicorn

from service import logs
from service.app import create_app
from service.installation import prepare
from service.settings import Settings
from service.store.database import Store


def serve(settings: Settings) -> None:
    """Serve until told to stop; what was taken is answered first."""
    logs.configure(settings.log_level, process="serve")
    store = Store(settings.database_url)
    prepare(settings, store)
    store.close()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=20,
        server_header=False,
    )
