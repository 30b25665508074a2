"""Today page: whether all is well, in ten seconds; for leads, engineers and admins."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from service.quality.dashboard_data import SPANS
from service.quality.today import load_today
from service.web.console.rendering import page
from service.web.console.signed_in_user import Lead
from service.web.request_context import AppDependency

router = APIRouter(prefix="/today")


@router.get("")
async def get_today(
    request: Request,
    baton: AppDependency,
    visitor: Lead,
    days: Annotated[int, Query(ge=1, le=30)] = 1,
) -> Any:
    """The last day, week or month: one sentence, five figures, and what to look at."""
    workspace, now = visitor.workspace, time.time()
    span = max(span for span in SPANS if span <= days)
    policy = (await baton.engine.model_state(workspace)).policy
    today = await baton.read(
        lambda connection: load_today(connection, workspace, policy, span, now)
    )
    return page(request, visitor, "today.html", today=today, spans=tuple(SPANS))
