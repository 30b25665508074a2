"""Alive, ready, and measures. Load balancers may ask by HEAD."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from service.api.context import Parts
from service.serving import ENTRIES_PER_BATCH
from service.store.database import DatabaseError

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def alive() -> Any:
    """This process runs."""
    return JSONResponse({"status": "ok"})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "not ready; `why` tells"}})
async def ready(baton: Parts) -> Any:
    """The database is reached, and every standing is within one batch of the ledger's end."""
    why = []
    try:
        await asyncio.to_thread(baton.store.check)
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
    return JSONResponse({"ready": not why, "why": why}, status_code=status, headers=headers)


@router.get("/metrics", response_class=Response)
async def metrics(baton: Parts) -> Any:
    """Measures in Prometheus' text format."""
    baton.measures.lags(baton.engine.lag())
    return Response(baton.measures.text(), media_type="text/plain; version=0.0.4")
