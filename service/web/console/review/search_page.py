"""Search over everything: conversations of any state, by id, words, or what customers are."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection

from service.store.conversations import conversation_rows, search
from service.store.handoffs import handoff_rows
from service.web.console.rendering import page
from service.web.console.review.missed_page import Words
from service.web.console.signed_in_user import Viewer
from service.web.request_context import AppDependency

router = APIRouter(prefix="/search")
SHOWN = 50


@router.get("")
async def search_everything(
    request: Request,
    baton: AppDependency,
    visitor: Viewer,
    text: Annotated[Words, Query(alias="q")] = "",
) -> Any:
    """What waits, what is with somebody, and what the bot kept; the last heard of first."""

    def look(connection: Connection) -> dict[str, Any]:
        where = (connection, visitor.workspace)
        found = search.conversations(*where, text=text, most=SHOWN)
        rows = list(found.rows)
        exact = text and conversation_rows.conversation(*where, text)
        if exact and exact.id not in {row.id for row in rows}:
            rows.insert(0, exact)
        names = [row.id for row in rows]
        return {
            "found": rows,
            "more": found.after is not None,
            "handoffs": handoff_rows.newest_of(*where, names),
            "said": search.excerpts(*where, names, text),
        }

    context = await baton.read(look)
    return page(request, visitor, "search.html", q=text, reach=search.SCANNED_MAX, **context)
