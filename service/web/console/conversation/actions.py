"""Form actions on a handoff from its page: claim, assign, reply, note, transfer, return, end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from learning.conversation.state import Message
from service.handoffs import claims, lifecycle, notes, replies, transfers
from service.privacy import originals
from service.runtime.errors import Contradiction, Forbidden, Invalid, NotFound, RequestRefused
from service.store import access
from service.store.conversations.batch import Batch
from service.web.console.conversation import queue_page
from service.web.console.conversation.conversation_page import (
    address,
    render_conversation,
    require_conversation,
)
from service.web.console.signed_in_user import Actor, SessionUser
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id, NoteText, RequiredNote, ShortText, Text

router = APIRouter(prefix="/handoffs/{handoff_id}")
Action = Callable[[Batch], Mapping[str, Any]]


@router.post("/claim")
async def claim(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Actor,
    team: Annotated[ShortText | None, Form()] = None,
    mine: Annotated[bool, Form()] = False,
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
        scope = queue_page.Scope(team, mine)
        return await queue_page.render_queue(request, baton, visitor, scope, 1, refusal)
    return RedirectResponse(address(handoff_id), 303)


@router.post("/assign")
async def assign(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Actor,
    user: Annotated[ShortText, Form()],
) -> Any:
    """Give it to a colleague; a lead takes it from whoever has it, for themselves too."""
    workspace = visitor.workspace
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds

    def action(batch: Batch) -> Mapping[str, Any]:
        if access.user(batch.connection, workspace, user) is None:
            raise Invalid("unknown_user", f"there is no user {user!r} in this workspace")
        people, forced = (user, visitor.name), visitor.may("lead")
        return claims.assign(batch, workspace, handoff_id, *people, seconds, forced=forced)

    return await run_action(request, baton, visitor, handoff_id, action)


@router.post("/reply")
async def reply(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Actor,
    text: Annotated[Text, Form()] = "",
    message_id: Annotated[Id | None, Form()] = None,
    then: Annotated[Literal["", "resolve"], Form()] = "",
) -> Any:
    """Write to the customer, which claims it; `then` it may be resolved at once."""
    workspace, words = visitor.workspace, text.strip()
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds

    turn = await baton.engine.prepare_reply(
        workspace, Message(message_id or "", "agent", words, 0.0)
    )

    def action(batch: Batch) -> Mapping[str, Any]:
        if not words:
            raise Invalid("empty_reply", "the reply says nothing", hint="write to the customer")
        sent = replies.reply(batch, workspace, handoff_id, visitor.name, turn, seconds)
        if then == "resolve":
            return lifecycle.end(batch, workspace, handoff_id, visitor.name, "resolved")
        return sent

    place, typed = "#teach" if then else "#reply", {"reply": text}
    return await run_action(request, baton, visitor, handoff_id, action, place, typed)


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
    words = await baton.engine.redact_text(workspace, note.strip() or None)

    def action(batch: Batch) -> Mapping[str, Any]:
        move = (handoff_id, visitor.name, team, words)
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

    words = await baton.engine.redact_text(workspace, text) or ""

    def action(batch: Batch) -> Mapping[str, Any]:
        return notes.add_note(batch, workspace, handoff_id, visitor.name, words, seconds)

    return await run_action(request, baton, visitor, handoff_id, action, "#notes", {"note": text})


@router.post("/original")
async def original(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Actor,
    message_id: Annotated[Id, Form()],
) -> Any:
    """Show what a redacted message said, where the policy lets agents read it; it is recorded."""
    workspace = visitor.workspace
    try:
        originals.require_shown((await baton.engine.model_state(workspace)).policy)
    except Forbidden as refusal:
        return await render_conversation(request, baton, visitor, handoff_id, refusal)

    def look(connection: Connection) -> tuple[str, str]:
        name = require_conversation(connection, workspace, handoff_id)
        settings = baton.settings
        return name, originals.original(connection, settings, workspace, name, message_id)

    name, text = await baton.read(look)
    baton.recorder.record(
        "original_read", visitor.name, f"{name} {message_id}", workspace=workspace
    )
    shown = {message_id: text}
    return await render_conversation(request, baton, visitor, handoff_id, whole=True, shown=shown)


async def run_action(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    handoff_id: str,
    action: Action,
    place: str = "",
    typed: Mapping[str, str] | None = None,
) -> Any:
    """Do something with a handoff and show its page anew; a refusal stands at its top, and what
    was `typed` where it was.
    """
    needs = lifecycle.lock_targets(visitor.workspace, handoff_id)
    try:
        await baton.engine.run(visitor.workspace, action, needs=needs)
    except NotFound:
        raise
    except RequestRefused as refusal:
        return await render_conversation(request, baton, visitor, handoff_id, refusal, typed=typed)
    return RedirectResponse(address(handoff_id, place), 303)
