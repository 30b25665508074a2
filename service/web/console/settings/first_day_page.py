"""First-day page: how to connect a bot, what has happened so far, what comes next; for admins."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection

from service.store.ledger import entries
from service.store.reports import counts
from service.web.console.rendering import page
from service.web.console.signed_in_user import Admin
from service.web.request_context import AppDependency

router = APIRouter(prefix="/start")


@router.get("")
async def get_first_day(request: Request, baton: AppDependency, visitor: Admin) -> Any:
    """The steps of the first day, those that are done marked."""
    workspace = visitor.workspace

    def look(connection: Connection) -> dict[str, Any]:
        return {
            "has_conversation": counts.any_conversation(connection, workspace),
            "has_outcome": entries.nth_newest_outcome(connection, workspace, entries.EVER, 1) > 0,
            "mode": getattr(entries.workspace(connection, workspace), "mode", "live"),
        }

    state = await baton.read(look)
    where = str(request.base_url).removesuffix("/").removesuffix("/console")
    return page(request, visitor, "start.html", where=where, home=baton.settings.home, **state)
