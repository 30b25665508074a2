"""Queue page: handoffs that wait, the most urgent first, claimed by a click or as the next one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import Connection

from service.handoffs import claims, lifecycle, queue
from service.runtime.errors import HTTP_STATUS, Contradiction, NotFound, RequestRefused
from service.store import access
from service.store.conversations.batch import Batch
from service.web.console.language.reason_text import reason_text
from service.web.console.rendering import page
from service.web.console.signed_in_user import Actor, SessionUser, Viewer
from service.web.event_stream import changes, presence
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id, ShortText

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose work is shown: one team's, that of the agent's own teams (`mine`), or everybody's."""

    team: str | None = None
    mine: bool = False

    def teams(self, own: Sequence[str]) -> Sequence[str]:
        """The teams looked at, none for all."""
        if self.team is not None:
            return (self.team,)
        return own if self.mine else ()


@router.get("/queue")
async def get_queue(
    request: Request,
    baton: AppDependency,
    visitor: Viewer,
    team: Annotated[ShortText | None, Query()] = None,
    mine: bool = False,
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
    nothing: bool = False,
) -> Any:
    """Handoffs that wait, by priority and age; and who has claimed what. `nothing`: none was left
    to take.
    """
    return await render_queue(request, baton, visitor, Scope(team, mine), number, nothing=nothing)


@router.get("/queue/reasons")
async def get_reasons(
    baton: AppDependency,
    visitor: Viewer,
    names: Annotated[list[Id], Query(alias="id", max_length=queue.PAGE_SIZE)],
) -> Any:
    """First reasons in the page's language, of handoffs that an open page heard of in English."""
    found = await baton.read(
        lambda connection: queue.first_reasons(connection, visitor.workspace, names)
    )
    texts = {name: reason_text(reason) for name, reason in found.items()}
    return JSONResponse(texts, headers={"Cache-Control": "no-store"})


@router.post("/queue/next")
async def take_next(
    baton: AppDependency,
    visitor: Actor,
    team: Annotated[ShortText | None, Form()] = None,
    mine: Annotated[bool, Form()] = False,
) -> Any:
    """Claim the most urgent one that waits, and open it."""
    workspace, scope = visitor.workspace, Scope(team, mine)
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds
    names = await baton.read(
        lambda connection: queue.next_ones(
            connection, workspace, scope.teams(_own_teams(connection, visitor))
        )
    )
    for name in names:

        def claim(batch: Batch, name: str = name) -> None:
            claims.claim(batch, workspace, name, visitor.name, seconds)

        try:
            await baton.engine.run(workspace, claim, needs=lifecycle.lock_targets(workspace, name))
        except (Contradiction, NotFound):
            continue  # a colleague was quicker
        return RedirectResponse(f"/console/handoffs/{name}", 303)
    return RedirectResponse(f"/console/queue?nothing=1{_query(scope)}", 303)


def _query(scope: Scope) -> str:
    team = f"&team={quote(scope.team, safe='')}" if scope.team else ""
    return f"{team}&mine=1" if scope.mine else team


def _own_teams(connection: Connection, visitor: SessionUser) -> Sequence[str]:
    row = access.user(connection, visitor.workspace, visitor.name)
    return () if row is None else tuple(row.teams)


async def render_queue(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    scope: Scope,
    number: int,
    refusal: RequestRefused | None = None,
    *,
    nothing: bool = False,
) -> Any:
    """The queue's page, with a refusal on top if there is one."""

    def look(connection: Connection) -> dict[str, Any]:
        own, where = _own_teams(connection, visitor), (connection, visitor.workspace)
        teams = scope.teams(own)
        return {
            "cursor": changes.now_of(*where),
            "queue": queue.load_queue(*where, visitor.name, teams, number),
            "present": presence.present(*where),
            "own_teams": own,
            "shown_teams": list(teams),
        }

    context = await baton.read(look)
    policy = (await baton.engine.model_state(visitor.workspace)).policy
    every = context["queue"].teams
    return page(
        request,
        visitor,
        "queue.html",
        200 if refusal is None else HTTP_STATUS[type(refusal)],
        most=queue.PAGE_SIZE,
        team=scope.team,
        mine=scope.mine,
        unavailable_teams=queue.unavailable_teams(policy, every, time.time()),
        refusal=refusal,
        nothing=nothing,
        **context,
    )
