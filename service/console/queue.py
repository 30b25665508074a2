"""The queue: who waits for a person, the most urgent first; one of them is taken with a click."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse

from service import handoffs, queue
from service.api.context import Baton, Parts
from service.api.shapes import Id, Short
from service.batch import Batch
from service.console.pages import page
from service.console.visitor import Actor, Viewer, Visitor
from service.errors import STATUS, Contradiction, Missing, Refusal

router = APIRouter()


@router.get("/queue")
async def show(
    request: Request,
    baton: Parts,
    visitor: Viewer,
    team: Annotated[Short | None, Query()] = None,
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Any:
    """Those that wait, by priority and age; and who has claimed what."""
    return await _show(request, baton, visitor, team, number)


@router.post("/handoffs/{handoff_id}/claim")
async def claim(
    request: Request,
    handoff_id: Id,
    baton: Parts,
    visitor: Actor,
    team: Annotated[Short | None, Form()] = None,
) -> Any:
    """Take one; somebody else's says whose it is."""
    workspace = visitor.workspace
    seconds = (await baton.engine.served(workspace)).policy.claim_seconds

    def do(batch: Batch) -> Mapping[str, Any]:
        return handoffs.claim(batch, workspace, handoff_id, visitor.name, seconds)

    try:
        await baton.engine.run(workspace, do, needs=handoffs.whose(workspace, handoff_id))
    except (Contradiction, Missing) as refusal:
        return await _show(request, baton, visitor, team, 1, refusal)
    return RedirectResponse("/console/queue", 303)


async def _show(
    request: Request,
    baton: Baton,
    visitor: Visitor,
    team: str | None,
    number: int,
    refusal: Refusal | None = None,
) -> Any:
    found = await baton.read(
        lambda connection: queue.look(connection, visitor.workspace, visitor.name, team, number)
    )
    policy = (await baton.engine.served(visitor.workspace)).policy
    return page(
        request,
        visitor,
        "queue.html",
        200 if refusal is None else STATUS[type(refusal)],
        queue=found,
        team=team,
        priorities=queue.PRIORITIES,
        absences=queue.absences(policy, found.teams, time.time()),
        refusal=refusal,
    )
