"""Outcomes: what a person found true, posted, corrected and retracted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field, model_validator
from sqlalchemy import Connection

from service.handoffs import label_requests, lifecycle
from service.outcomes import audit_tasks, record_outcome
from service.outcomes.verdict import OWN_SOURCES, Verdict
from service.runtime.errors import NotFound
from service.scoring import learned_effect
from service.scoring.request_queue import LockTargets
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.labels import outcome_rows
from service.web.access.keys import Principal
from service.web.request_context import ERRORS, Agent, AppDependency, AppState, Bot
from service.web.schemas import HandoffOutcome, Id, NoteText, RequestModel, ShortText, moment, timed

router = APIRouter(tags=["outcomes"], responses=ERRORS)
LABELS_MAX = 2000
_AS_KEPT = {"needed": "missed", "not_needed": "fine"}


class Label(RequestModel):
    """One message's own label: 0 nobody was needed, 1 a person was, or a share in between."""

    message_id: Id
    label: Annotated[float, Field(ge=0, le=1)]
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0


class ConversationOutcome(RequestModel):
    """A missed or rightly kept conversation; or, with an engineer's key, labels of messages."""

    verdict: Literal["missed", "fine", "needed", "not_needed", "unknowable"] | None = None
    first_needed_message_id: Id | None = None
    source: ShortText = "agent"
    reason: ShortText | None = None
    note: NoteText | None = None
    labels: Annotated[list[Label], Field(min_length=1, max_length=LABELS_MAX)] | None = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> ConversationOutcome:
        if (self.verdict is None) == (self.labels is None):
            raise ValueError("give either verdict or labels")
        late = self.verdict in ("missed", "needed")
        if self.first_needed_message_id is not None and not late:
            raise ValueError("first_needed_message_id goes only with verdict missed")
        if len({one.message_id for one in self.labels or ()}) < len(self.labels or ()):
            raise ValueError("labels must name each message once")
        if self.source in OWN_SOURCES:
            raise ValueError(
                "source audit, silence and returned are Baton's own: say where you know it from"
            )
        return self

    def found(self, principal: Principal) -> Verdict:
        if self.labels is not None:
            principal.require("engineer")
        return Verdict(
            "labels" if self.verdict is None else _AS_KEPT.get(self.verdict, self.verdict),
            self.source,
            principal.name,
            self.first_needed_message_id,
            None,
            self.reason,
            self.note,
            tuple((one.message_id, one.label, one.weight) for one in self.labels or ()),
        )


class Correction(ConversationOutcome):
    """The right outcome in place of a mistaken one, of a handoff or of a conversation."""

    team: ShortText | None = None


@router.post("/handoffs/{handoff_id}/outcome")
async def of_handoff(
    handoff_id: Id, asked: HandoffOutcome, baton: AppDependency, principal: Agent
) -> Any:
    """Say what was true of an escalation: the model learns it at once."""
    found = asked.found(principal)
    return await _run(
        baton,
        principal,
        lambda batch: record_outcome.record_for_handoff(
            batch, principal.workspace, handoff_id, found
        ),
        lifecycle.lock_targets(principal.workspace, handoff_id),
    )


@router.post("/conversations/{conversation_id:path}/outcome")
async def of_conversation(
    conversation_id: Id, asked: ConversationOutcome, baton: AppDependency, principal: Bot
) -> Any:
    """Say that a kept conversation needed a person after all, or rightly had none."""
    found = asked.found(principal)
    return await _run(
        baton,
        principal,
        lambda batch: record_outcome.record_for_conversation(
            batch, principal.workspace, conversation_id, found
        ),
        conversation_rows.lock_targets(principal.workspace, conversation_id),
    )


@router.put("/outcomes/{outcome_id}")
async def correct(outcome_id: Id, asked: Correction, baton: AppDependency, principal: Agent) -> Any:
    """Correct an outcome: a new ledger entry, never an edit."""
    workspace = principal.workspace
    found = asked.found(principal)

    def do(batch: Batch) -> Mapping[str, Any]:
        return record_outcome.correct(batch, workspace, outcome_id, found, asked.team)

    return await _run(baton, principal, do, record_outcome.lock_targets(workspace, outcome_id))


@router.delete("/outcomes/{outcome_id}")
async def retract(outcome_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """Take an outcome back."""
    workspace, agent = principal.workspace, principal.name
    return await _run(
        baton,
        principal,
        lambda batch: record_outcome.retract(batch, workspace, outcome_id, agent),
        record_outcome.lock_targets(workspace, outcome_id),
    )


@router.get("/outcomes/{outcome_id}/effect")
async def effect(outcome_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """What the model gave the last message that an outcome teaches about, before and after it
    learned it, in the process that answers; or why that cannot be told.
    """
    workspace = principal.workspace
    row = await baton.read(
        lambda connection: outcome_rows.outcome(connection, workspace, outcome_id)
    )
    if row is None:
        raise NotFound("no_outcome", f"there is no outcome {outcome_id!r} in this workspace")
    return JSONResponse(await learned_effect.learned_effect_json(baton.engine, row._asdict()))


@router.get("/questions")
async def asked(baton: AppDependency, principal: Agent) -> Any:
    """The handoffs you had of which an answer would teach most, as many as may be asked today."""
    policy = (await baton.engine.model_state(principal.workspace)).policy
    found = await baton.read(
        lambda connection: label_requests.open_label_requests(
            connection, principal.workspace, principal.name, policy.questions, time.time()
        )
    )
    shown = [timed(one) for one in found.pop("questions")]
    return JSONResponse(found | {"questions": shown})


async def _run(
    baton: AppState,
    principal: Principal,
    do: Callable[[Batch], Mapping[str, Any]],
    needs: Callable[[Connection], LockTargets],
) -> JSONResponse:
    answer = await baton.engine.run(principal.workspace, do, needs=needs)
    return JSONResponse(timed(dict(answer)))


audits = APIRouter(prefix="/audits", tags=["audits"], responses=ERRORS)


class Review(RequestModel):
    """Did this kept conversation need a person, and since which message?"""

    verdict: Literal["missed", "fine", "unknowable"]
    first_needed_message_id: Id | None = None
    note: NoteText | None = None

    @model_validator(mode="after")
    def _since_only_if_missed(self) -> Review:
        if self.first_needed_message_id is not None and self.verdict != "missed":
            raise ValueError("first_needed_message_id goes only with verdict missed")
        return self


@audits.get("/next")
async def offered(baton: AppDependency, principal: Agent) -> Any:
    """The next kept conversation to review, this reviewer's for a while. No score shown."""
    workspace, reviewer = principal.workspace, principal.name
    policy = (await baton.engine.model_state(workspace)).policy.audits

    def do(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.offer(batch, workspace, reviewer, policy)

    found = dict(await baton.engine.run(workspace, do, appends=False))
    if found["audit"] is not None:
        audit = found["audit"]
        audit["offered_until"] = moment(audit["offered_until"])
        audit["transcript"] = [turn | {"at": moment(turn["at"])} for turn in audit["transcript"]]
    return JSONResponse(found)


@audits.post("/{audit_id}/outcome")
async def answer(audit_id: Id, asked: Review, baton: AppDependency, principal: Agent) -> Any:
    """The reviewer's verdict; only the answer shows what the model had said."""
    workspace = principal.workspace
    found = Verdict(
        asked.verdict,
        "audit",
        principal.name,
        asked.first_needed_message_id,
        note=asked.note,
    )

    def do(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.answer(batch, workspace, audit_id, found)

    return JSONResponse(dict(await baton.engine.run(workspace, do)))


@audits.post("/{audit_id}/skip")
async def skip(audit_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """Pass an audit on to other reviewers."""
    workspace, reviewer = principal.workspace, principal.name

    def do(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.skip(batch, workspace, audit_id, reviewer)

    return JSONResponse(dict(await baton.engine.run(workspace, do, appends=False)))
