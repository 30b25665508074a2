"""Form actions on a handoff from its page: claim, note, transfer, return, resolve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse

from service.handoffs import claims, lifecycle, notes, transfers
from service.runtime.errors import Contradiction, NotFound, RequestRefused
from service.store.conversations.batch import Batch
from service.web.console import queue_page
from service.web.console.conversation.conversation_page import address, render_conversation
from service.web.console.signed_in_user import Actor, SessionUser
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id, NoteText, RequiredNote, ShortText

router = APIRouter(prefix="/handoffs/{handoff_id}")
Action = Callable[[Batch], Mapping[str, Any]]


@router.post("/claim")
async def claim(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Actor,
    team: Annotated[ShortText | None, Form()] = None,
    back: Annotated[str, Form()] = "",
) -> Any:
    """Claim a handoff; one claimed by a colleague says by whom, on this page or in the queue."""
    workspace = visitor.workspace
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds

    def action(batch: Batch) -> Mapping[str, Any]:
        return claims.claim(batch, workspace, handoff_id, visitor.name, seconds)

    if back != "queue":
        return await run_action(request, baton, visitor, handoff_id, action)
    try:
        await baton.engine.run(
            workspace, action, needs=lifecycle.lock_targets(workspace, handoff_id)
        )
    except (Contradiction, NotFound) as refusal:
        return await queue_page.render_queue(request, baton, visitor, team, 1, refusal)
    return RedirectResponse(address(handoff_id), 303)


@router.post("/resolve")
async def resolve(request: Request, handoff_id: Id, baton: AppDependency, visitor: Actor) -> Any:
    """Resolve: the person settled it."""
    return await _end(request, baton, visitor, handoff_id, "resolved")


@router.post("/return")
async def return_handoff(
    request: Request, handoff_id: Id, baton: AppDependency, visitor: Actor
) -> Any:
    """Return: the bot goes on with it."""
    return await _end(request, baton, visitor, handoff_id, "returned")


async def _end(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    handoff_id: str,
    status: lifecycle.Ended,
) -> Any:
    def action(batch: Batch) -> Mapping[str, Any]:
        return lifecycle.end(batch, visitor.workspace, handoff_id, visitor.name, status)

    return await run_action(request, baton, visitor, handoff_id, action, "#teach")


@router.post("/transfer")
async def transfer(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Actor,
    team: Annotated[ShortText, Form()],
    note: Annotated[NoteText, Form()] = "",
) -> Any:
    """Transfer: let it wait for another team."""
    workspace = visitor.workspace
    policy = (await baton.engine.model_state(workspace)).policy

    def action(batch: Batch) -> Mapping[str, Any]:
        move = (handoff_id, visitor.name, team, note.strip() or None)
        return transfers.transfer(batch, policy, workspace, *move)

    return await run_action(request, baton, visitor, handoff_id, action)


@router.post("/note")
async def note(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Actor,
    text: Annotated[RequiredNote, Form()],
) -> Any:
    """Keep a note for colleagues."""
    workspace = visitor.workspace
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds

    def action(batch: Batch) -> Mapping[str, Any]:
        return notes.add_note(batch, workspace, handoff_id, visitor.name, text, seconds)

    return await run_action(request, baton, visitor, handoff_id, action, "#notes")


async def run_action(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    handoff_id: str,
    action: Action,
    place: str = "",
) -> Any:
    """Do something with a handoff and show its page anew; a refusal stands at its top."""
    needs = lifecycle.lock_targets(visitor.workspace, handoff_id)
    try:
        await baton.engine.run(visitor.workspace, action, needs=needs)
    except NotFound:
        raise
    except RequestRefused as refusal:
        return await render_conversation(request, baton, visitor, handoff_id, refusal)
    return RedirectResponse(address(handoff_id, place), 303)
