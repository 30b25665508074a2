"""Where a conversation can be read, by its id alone: what other programs' pages link to."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from service.api.context import Parts
from service.api.shapes import Id
from service.console import conversation, missed
from service.console.visitor import Viewer
from service.store import handoffs

router = APIRouter(prefix="/transcript")


@router.get("")
async def find(baton: Parts, visitor: Viewer, name: Annotated[Id, Query(alias="id")]) -> Any:
    """To the page of its newest handoff; to that of kept conversations where it had none."""

    def look(connection: Connection) -> str:
        held = handoffs.of_conversation(connection, visitor.workspace, name)
        return conversation.address(held[-1].id) if held else missed.address(name)

    return RedirectResponse(await baton.read(look), 303)
