"""Inbound routes: what other systems tell, verified by their signature instead of a key."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from service.connections.connection_secrets import SecretReferenceError
from service.connections.inbox.called_turn import decide_turn
from service.connections.inbox.receive import inbox_rows_of, receive
from service.connections.kinds.contract import Arrived, Respond
from service.connections.known_connections import KnownConnection
from service.runtime.errors import NotFound, Unavailable
from service.runtime.sealing import UnsealError
from service.store.conversations.batch import Batch
from service.store.ledger import inbox_rows
from service.web.error_responses import ERRORS
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id, about

router = APIRouter(prefix="/connect", tags=["connections"], responses=ERRORS)


class Received(BaseModel):
    """It is stored; what follows from it is on its way."""

    received: Annotated[int, about("Events that had not come before.", 1)] = 0


@router.head("/{connection_id}", include_in_schema=False)
async def probe(connection_id: Id, baton: AppDependency) -> Response:
    """Whether somebody is here: some systems ask before they send."""
    await require_known(baton, connection_id)
    return Response()


@router.post("/{connection_id}", response_model=Received)
async def receive_events(connection_id: Id, request: Request, baton: AppDependency) -> Any:
    """Another system's events: verified on the raw body, stored once, then answered.

    A repeat is 200, too. Who signs, and how, is of the connection's kind. Systems that call at each
    turn (Rasa, Dialogflow) are answered with the decision, in their own words.
    """
    known = await require_known(baton, connection_id)
    bucket = baton.limits.enter(known.id)
    try:
        raw, now = await request.body(), time.time()
        arrived = receive(known, dict(request.headers), raw, now)
        if known.kind.respond is not None:
            return await _answer_turn(baton, known, known.kind.respond, arrived)
        rows = inbox_rows_of(known, arrived, now)
        if rows:

            def add(batch: Batch) -> list[Any]:
                return inbox_rows.add_new(batch.connection, known.id, rows)

            fresh = await baton.engine.run(known.workspace, add, appends=False)
            baton.inbox.push(fresh)
            rows = fresh
    finally:
        baton.limits.leave(bucket)
    return JSONResponse(dict(arrived.answer) or {"received": len(rows)})


async def _answer_turn(
    baton: AppState, known: KnownConnection, respond: Respond, arrived: Arrived
) -> JSONResponse:
    """Answer a system that calls at each turn, and waits for the decision."""
    for arrival in arrived.arrivals:
        decision = await decide_turn(baton.engine, known, arrival)
        status, body = respond(arrival.event, decision)
        return JSONResponse(dict(body), status_code=status)
    return JSONResponse({})


async def require_known(baton: AppState, connection_id: str) -> KnownConnection:
    """The connection. Raises NotFound, Unavailable."""
    try:
        known = await baton.connections.get(connection_id)
    except (UnsealError, SecretReferenceError) as error:
        raise Unavailable("secret_missing", str(error), hint="mend it, then send again") from error
    if known is None:
        raise NotFound(
            "no_connection",
            f"there is no connection {connection_id!r}, or it is off",
            hint="GET /v1/connections lists those of a workspace",
        )
    return known
