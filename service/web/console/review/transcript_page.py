"""Permanent link of a conversation by its id: redirects to the page that shows it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from service.store.handoffs import handoff_rows
from service.web.console.conversation import conversation_page
from service.web.console.review import missed_page
from service.web.console.signed_in_user import Viewer
from service.web.request_context import AppDependency
from service.web.schemas import Id

router = APIRouter(prefix="/transcript")


@router.get("")
async def redirect_to_page(
    baton: AppDependency, visitor: Viewer, name: Annotated[Id, Query(alias="id")]
) -> Any:
    """To the page of its newest handoff; to that of kept conversations where it had none."""

    def look(connection: Connection) -> str:
        handoffs = handoff_rows.of_conversation(connection, visitor.workspace, name)
        return conversation_page.address(handoffs[-1].id) if handoffs else missed_page.address(name)

    return RedirectResponse(await baton.read(look), 303)
