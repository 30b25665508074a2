"""Verdict form of a handoff: outcome, undo, correction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from service.outcomes import record_outcome, retraction
from service.runtime.errors import NotFound
from service.scoring import learned_effect
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows
from service.store.labels import outcome_rows
from service.web.console.conversation.actions import run_action
from service.web.console.conversation.conversation_page import address
from service.web.console.signed_in_user import Actor
from service.web.error_responses import validation_error
from service.web.request_context import AppDependency
from service.web.schemas import HandoffOutcome, Id

router = APIRouter(prefix="/handoffs/{handoff_id}")


@router.post("/outcome")
async def post_verdict(
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
    """Record whether a person was needed; given again, it corrects the outcome before."""
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
    workspace, verdict_given = visitor.workspace, asked.verdict_of(visitor.principal.name)
    verdict_given = await baton.redacted(workspace, verdict_given)

    def action(batch: Batch) -> Mapping[str, Any]:
        outcome_id = _outcome_id(batch, workspace, handoff_id)
        if outcome_id is None:
            return record_outcome.record_for_handoff(batch, workspace, handoff_id, verdict_given)
        return record_outcome.correct(
            batch, workspace, outcome_id, verdict_given, verdict_given.team
        )

    return await run_action(request, baton, visitor, handoff_id, action, "#teach")


@router.post("/undo")
async def undo_verdict(
    request: Request, handoff_id: Id, baton: AppDependency, visitor: Actor
) -> Any:
    """Retract the outcome, and what it taught; there is none then."""
    workspace = visitor.workspace
    effects: list[str] = []

    def action(batch: Batch) -> Mapping[str, Any]:
        outcome_id = _outcome_id(batch, workspace, handoff_id)
        if outcome_id is None:
            return {}
        outcome = retraction.retract_and_unlearn(batch, workspace, outcome_id, visitor.name)
        effects.append(outcome["effect"])
        return outcome

    answer = await run_action(request, baton, visitor, handoff_id, action, "#teach")
    await learned_effect.wait_for_head(baton.engine, workspace)
    if effects and isinstance(answer, RedirectResponse):
        return RedirectResponse(address(handoff_id, f"?undone={effects[-1]}#teach"), 303)
    return answer


def _outcome_id(batch: Batch, workspace: str, handoff_id: str) -> str | None:
    """The id of the outcome that stands for a handoff, if one does."""
    handoff = handoff_rows.handoff(batch.connection, workspace, handoff_id)
    if handoff is None:
        raise NotFound("no_handoff", f"there is no handoff {handoff_id!r}")
    row = outcome_rows.current(batch.connection, workspace, handoff.conversation_id, handoff_id)
    return None if row is None else row.id
