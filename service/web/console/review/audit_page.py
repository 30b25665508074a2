"""Audit page: blind review of kept conversations; the model's score is shown afterwards."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from learning.estimation.audit_sampling import kappa
from service.outcomes import audit_tasks, record_outcome
from service.outcomes.audit_tasks import DAY_SECONDS
from service.outcomes.verdict import Verdict
from service.runtime.errors import HTTP_STATUS, Contradiction, NotFound, RequestRefused
from service.store.conversations.batch import Batch
from service.store.labels import audit_rows, outcome_rows, review_rows
from service.web.console.rendering import page
from service.web.console.signed_in_user import Actor, SessionUser, Viewer
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id, NoteText

router = APIRouter(prefix="/audits")
Answer = Literal["missed", "fine", "unknowable"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How many wait for this reviewer, how many they did today of how many; how reviewers agree."""

    waiting: int
    done: int
    most: int
    pairs: int
    agreed: int
    kappa: float | None


@router.get("")
async def get_audit(
    request: Request,
    baton: AppDependency,
    visitor: Viewer,
    answered: Annotated[Id | None, Query()] = None,
) -> Any:
    """The next conversation to review, this reviewer's for a while; and what came of the last."""
    return await _render_audit(request, baton, visitor, answered)


@router.post("/{audit_id}/outcome")
async def post_answer(
    request: Request,
    audit_id: Id,
    baton: AppDependency,
    visitor: Actor,
    verdict: Annotated[Answer, Form()],
    since: Annotated[Id | None, Form()] = None,
    note: Annotated[NoteText, Form()] = "",
) -> Any:
    """Record the reviewer's verdict; a turn is named only for a missed conversation."""
    given_verdict = _verdict(visitor, verdict, since, note)
    given_verdict = await baton.redacted(visitor.workspace, given_verdict)

    def action(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.answer(batch, visitor.workspace, audit_id, given_verdict)

    return await _run_action(request, baton, visitor, action, audit_id)


@router.post("/{audit_id}/skip")
async def skip_audit(request: Request, audit_id: Id, baton: AppDependency, visitor: Actor) -> Any:
    """Pass it on to other reviewers."""

    def action(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.skip(batch, visitor.workspace, audit_id, visitor.name)

    return await _run_action(request, baton, visitor, action)


@router.post("/{audit_id}/change")
async def change_answer(
    request: Request,
    audit_id: Id,
    baton: AppDependency,
    visitor: Actor,
    verdict: Annotated[Answer, Form()],
) -> Any:
    """Correct one's own answer: agreement is still measured by the first, blind one."""
    given_verdict = _verdict(visitor, verdict, None, "")

    def action(batch: Batch) -> Mapping[str, Any]:
        own = review_rows.answered_audit(
            batch.connection, visitor.workspace, audit_id, visitor.name
        )
        held = own and outcome_rows.current(
            batch.connection, visitor.workspace, own.conversation_id, None
        )
        if not held or held.agent != visitor.name:
            raise NotFound(
                "no_review",
                "there is no review of yours that decides about this conversation",
                hint="what a colleague found stands; tell them",
            )
        return record_outcome.correct(batch, visitor.workspace, held.id, given_verdict)

    return await _run_action(request, baton, visitor, action, audit_id)


def _verdict(visitor: SessionUser, verdict: str, since: str | None, note: str) -> Verdict:
    named = since if verdict == "missed" else None
    return Verdict(verdict, "audit", visitor.name, named, note=note.strip() or None)


async def _run_action(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    action: Any,
    answered: str | None = None,
) -> Any:
    try:
        await baton.engine.run(visitor.workspace, action)
    except (Contradiction, NotFound) as refusal:
        return await _render_audit(request, baton, visitor, answered, refusal)
    return RedirectResponse(f"/console/audits{f'?answered={answered}' if answered else ''}", 303)


async def _render_audit(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    answered: str | None,
    refusal: RequestRefused | None = None,
) -> Any:
    workspace, name = visitor.workspace, visitor.name
    policy = (await baton.engine.model_state(workspace)).policy.audits

    def action(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.offer(batch, workspace, name, policy)

    def look(connection: Connection) -> tuple[Progress, Any]:
        last = answered and review_rows.answered_audit(connection, workspace, answered, name)
        return _progress(connection, visitor, policy.per_reviewer_per_day), last

    offered = await baton.engine.run(workspace, action, appends=False)
    progress, last = await baton.read(look)
    return page(
        request,
        visitor,
        "audits.html",
        200 if refusal is None else HTTP_STATUS[type(refusal)],
        audit=offered["audit"],
        why=offered.get("why"),
        progress=progress,
        last=last,
        refusal=refusal,
    )


def _progress(connection: Connection, visitor: SessionUser, most: int) -> Progress:
    pairs = audit_rows.double_reviews(connection, visitor.workspace)
    since = time.time() - DAY_SECONDS
    return Progress(
        review_rows.count_waiting_for(connection, visitor.workspace, visitor.name),
        review_rows.count_done_since(connection, visitor.workspace, visitor.name, since),
        most,
        len(pairs),
        sum(first == second for first, second in pairs),
        kappa(pairs),
    )
