"""Queue page: handoffs that wait, the most urgent first, claimed with a click."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection

from service.handoffs import queue
from service.runtime.errors import HTTP_STATUS, RequestRefused
from service.web.console.rendering import page
from service.web.console.signed_in_user import SessionUser, Viewer
from service.web.event_stream import changes
from service.web.request_context import AppDependency, AppState
from service.web.schemas import ShortText

router = APIRouter()


@router.get("/queue")
async def get_queue(
    request: Request,
    baton: AppDependency,
    visitor: Viewer,
    team: Annotated[ShortText | None, Query()] = None,
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Any:
    """Handoffs that wait, by priority and age; and who has claimed what."""
    return await render_queue(request, baton, visitor, team, number)


async def render_queue(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    team: str | None,
    number: int,
    refusal: RequestRefused | None = None,
) -> Any:
    """The queue's page, with a refusal on top if there is one."""

    def look(connection: Connection) -> tuple[changes.EventCursor, queue.QueuePage]:
        cursor = changes.now_of(connection, visitor.workspace)
        return cursor, queue.load_queue(connection, visitor.workspace, visitor.name, team, number)

    cursor, rows = await baton.read(look)
    policy = (await baton.engine.model_state(visitor.workspace)).policy
    return page(
        request,
        visitor,
        "queue.html",
        200 if refusal is None else HTTP_STATUS[type(refusal)],
        queue=rows,
        cursor=cursor,
        most=queue.PAGE_SIZE,
        team=team,
        unavailable_teams=queue.unavailable_teams(policy, rows.teams, time.time()),
        refusal=refusal,
    )
