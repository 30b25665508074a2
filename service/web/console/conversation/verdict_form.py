"""An agent's word on a handoff: told with one key, taken back, corrected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from pydantic import ValidationError

from service.outcomes import record_outcome
from service.runtime.errors import NotFound
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows
from service.store.labels import outcome_rows
from service.web.console.conversation.actions import acted
from service.web.console.signed_in_user import Actor
from service.web.error_responses import validation_error
from service.web.request_context import AppDependency
from service.web.schemas import HandoffOutcome, Id

router = APIRouter(prefix="/handoffs/{handoff_id}")


@router.post("/outcome")
async def tell(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Actor,
    verdict: Annotated[str, Form()],
    since: Annotated[str, Form()] = "",
    team: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
) -> Any:
    """Was a person needed? Told again, it corrects what was told before."""
    try:
        asked = HandoffOutcome(
            verdict=verdict,  # type: ignore[arg-type]
            first_needed_message_id=since if since and verdict == "needed" else None,
            team=team or None,
            reason=reason.strip() or None,
            note=note.strip() or None,
        )
    except ValidationError as error:
        raise validation_error(error.errors()) from error
    workspace, found = visitor.workspace, asked.verdict_of(visitor.principal)

    def do(batch: Batch) -> Mapping[str, Any]:
        held = _held(batch, workspace, handoff_id)
        if held is None:
            return record_outcome.of_handoff(batch, workspace, handoff_id, found)
        return record_outcome.correct(batch, workspace, held, found, found.team)

    return await acted(request, baton, visitor, handoff_id, do, "#teach")


@router.post("/undo")
async def undo(request: Request, handoff_id: Id, baton: AppDependency, visitor: Actor) -> Any:
    """Take back what was told; nothing is told then."""
    workspace = visitor.workspace

    def do(batch: Batch) -> Mapping[str, Any]:
        held = _held(batch, workspace, handoff_id)
        return {} if held is None else record_outcome.retract(batch, workspace, held, visitor.name)

    return await acted(request, baton, visitor, handoff_id, do, "#teach")


def _held(batch: Batch, workspace: str, handoff_id: str) -> str | None:
    """The id of the outcome that stands for a handoff, if one does."""
    handoff = handoff_rows.handoff(batch.connection, workspace, handoff_id)
    if handoff is None:
        raise NotFound("no_handoff", f"there is no handoff {handoff_id!r}")
    row = outcome_rows.standing_for(
        batch.connection, workspace, handoff.conversation_id, handoff_id
    )
    return None if row is None else row.id
