"""Outcome and audit routes: post, correct and retract verdicts; review kept conversations blind;
label requests (active learning); the learned effect of an outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, model_validator
from sqlalchemy import Connection

from service.handoffs import label_requests, lifecycle
from service.outcomes import audit_tasks, record_outcome, retraction
from service.outcomes.verdict import OWN_SOURCES, Verdict
from service.runtime.errors import NotFound
from service.scoring import learned_effect
from service.scoring.request_queue import LockTargets
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.labels import outcome_rows
from service.web.access.keys import Principal
from service.web.error_responses import ERRORS
from service.web.request_context import Agent, AppDependency, AppState, Bot
from service.web.schemas import (
    Acting,
    HandoffOutcome,
    Id,
    NoteText,
    RequestModel,
    ShortText,
    about,
    moment,
    timed,
)

router = APIRouter(tags=["outcomes"], responses=ERRORS)
audits = APIRouter(prefix="/audits", tags=["audits"], responses=ERRORS)
LABELS_MAX = 2000
_AS_KEPT = {"needed": "missed", "not_needed": "fine"}


class Label(RequestModel):
    """One message's own label."""

    message_id: Annotated[Id, about("The customer's message.", "m-3")]
    label: Annotated[
        Annotated[float, Field(ge=0, le=1)],
        about("0 nobody was needed, 1 a person was, or a share in between.", 1.0),
    ]
    weight: Annotated[
        Annotated[float, Field(gt=0, le=100)], about("How much it counts as a lesson.", 1.0)
    ] = 1.0


class ConversationOutcome(Acting):
    """A missed or rightly kept conversation; or, with an engineer's key, labels of messages."""

    verdict: Annotated[
        Literal["missed", "fine", "needed", "not_needed", "unknowable"] | None,
        about("missed: it needed a person and had none; fine: it rightly had none.", "missed"),
    ] = None
    first_needed_message_id: Annotated[
        Id | None, about("The customer's message since which a person was needed.", "m-3")
    ] = None
    source: Annotated[
        ShortText | None,
        about("Where you know it from: complaint, ...; agent or bot if left out.", "complaint"),
    ] = None
    reason: Annotated[ShortText | None, about("Why, in a few words.", "wrong answer")] = None
    note: Annotated[NoteText | None, about("Anything else.", "wrote to us the next day")] = None
    labels: Annotated[
        Annotated[list[Label], Field(min_length=1, max_length=LABELS_MAX)] | None,
        about("Labels of messages, in place of a verdict."),
    ] = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> ConversationOutcome:
        if (self.verdict is None) == (self.labels is None):
            raise ValueError("give either verdict or labels")
        late = self.verdict in ("missed", "needed")
        if self.first_needed_message_id is not None and not late:
            raise ValueError("first_needed_message_id goes only with verdict missed")
        if len({label.message_id for label in self.labels or ()}) < len(self.labels or ()):
            raise ValueError("labels must name each message once")
        if self.source in OWN_SOURCES:
            raise ValueError(
                f"sources {', '.join(OWN_SOURCES)} are Baton's own: say where you know it from"
            )
        return self

    def verdict_of(self, principal: Principal) -> Verdict:
        """The verdict as this person gives it. Raises Forbidden: labels are an engineer's."""
        if self.labels is not None:
            principal.require("engineer")
        if self.source == "agent":
            principal.require("agent")
        own = "bot" if principal.role == "bot" else "agent"
        return Verdict(
            "labels" if self.verdict is None else _AS_KEPT.get(self.verdict, self.verdict),
            self.source or own,
            principal.acting_for(self.agent),
            self.first_needed_message_id,
            None,
            self.reason,
            self.note,
            tuple((label.message_id, label.label, label.weight) for label in self.labels or ()),
        )


class Correction(ConversationOutcome):
    """The right outcome in place of a mistaken one, of a handoff or of a conversation."""

    team: Annotated[ShortText | None, about("Whose work it was.", "billing")] = None


class Review(Acting):
    """Did this kept conversation need a person, and since which message?"""

    verdict: Annotated[
        Literal["missed", "fine", "unknowable"],
        about("missed: a person was needed; fine: nobody was.", "fine"),
    ]
    first_needed_message_id: Annotated[
        Id | None, about("The customer's message since which a person was needed.", "m-3")
    ] = None
    note: Annotated[NoteText | None, about("Anything else.", "hard to say")] = None

    @model_validator(mode="after")
    def _since_only_if_missed(self) -> Review:
        if self.first_needed_message_id is not None and self.verdict != "missed":
            raise ValueError("first_needed_message_id goes only with verdict missed")
        return self


class OutcomeResponse(BaseModel):
    """An outcome: what a person found true, as it stands now."""

    id: Annotated[str, about("Its id.", "o19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    handoff_id: Annotated[
        str | None, about("Its handoff; null where the bot kept it.", "h19ab2c3d4e5f607")
    ]
    verdict: Annotated[
        str, about("needed, not_needed, missed, fine, unknowable or labels.", "needed")
    ]
    first_needed_message_id: Annotated[str | None, about("Since which message.", "m-3")]
    source: Annotated[str, about("Where it is known from.", "agent")]
    agent: Annotated[str, about("Who found it.", "dana")]
    team: Annotated[str | None, about("Whose work it was.", "billing")]
    reason: Annotated[str | None, about("Why.", "only a person may do this")]
    note: Annotated[str | None, about("Anything else.", "asked for a refund twice")]
    position: Annotated[int, about("Its ledger position; the model learns it from there.", 203)]
    at: Annotated[datetime, about("When it was told.", "2026-11-28T09:45:00+00:00")]
    retracted_at: Annotated[
        datetime | None, about("When it was taken back.", "2026-11-28T09:50:00+00:00")
    ]
    asked: Annotated[
        float | None,
        about(
            "The chance with which its handoff was drawn to be asked about; null: not drawn.", 0.2
        ),
    ] = None
    effect: Annotated[
        Literal["learned", "waiting", "gone", "at_rebuild"] | None,
        about(
            "Of a bot's: whether it teaches, or waits beyond the day's bound. Of one taken back: "
            "whether what it taught is gone, or leaves at a rebuild.",
            "learned",
        ),
    ] = None


class EffectResponse(BaseModel):
    """What the model gave the last message that an outcome teaches about."""

    outcome_id: Annotated[str, about("The outcome.", "o19ab2c3d4e5f60718293a4")]
    position: Annotated[int, about("Its ledger position.", 203)]
    message_id: Annotated[str | None, about("The message.", "m-3")]
    before: Annotated[float | None, about("Its probability before the lesson.", 0.31)]
    after: Annotated[float | None, about("Its probability after it.", 0.47)]
    why: Annotated[
        str | None, about("Why there are no figures.", "this process has yet to learn it")
    ]


class LabelRequest(BaseModel):
    """A handoff of yours of which an answer would teach much."""

    handoff_id: Annotated[str, about("The handoff.", "h19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    message_id: Annotated[str, about("The message that led to it.", "m-3")]
    status: Annotated[str, about("Where the handoff stands.", "resolved")]
    opened_at: Annotated[datetime, about("When it was opened.", "2026-11-28T09:30:00+00:00")]
    probability: Annotated[float | None, about("What the model gave it.", 0.52)]
    drawn: Annotated[bool, about("Whether it was drawn at random: answers speak of all.", False)]
    value: Annotated[float, about("How much an answer would teach, from 0 to 1.5.", 0.93)]


class LabelRequestList(BaseModel):
    """What is asked of you today."""

    limit: Annotated[int, about("Answers that an agent is asked for in a day.", 20)]
    answered: Annotated[int, about("Answers that you gave within a day.", 3)]
    left: Annotated[int, about("How many more may be asked.", 17)]
    questions: Annotated[
        list[LabelRequest], about("Those drawn at random, then the most valuable.")
    ]


class AuditTurn(BaseModel):
    """A turn of a conversation under review; no score is shown."""

    id: Annotated[str, about("Its id.", "m-3")]
    author: Annotated[str, about("user, bot, agent or system.", "user")]
    text: Annotated[str, about("What was said.", "where is my order")]
    at: Annotated[datetime, about("When.", "2026-11-28T09:30:00+00:00")]
    event: Annotated[str | None, about("What a turn of the system records.", "declined")]
    scored: Annotated[bool, about("Whether it was decided about.", True)]


class AuditTask(BaseModel):
    """A kept conversation to review, yours for a while."""

    id: Annotated[str, about("The audit's id.", "a19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("The conversation.", "c-17")]
    offered_until: Annotated[
        datetime, about("Until when it is yours.", "2026-11-28T10:00:00+00:00")
    ]
    transcript: Annotated[
        list[AuditTurn], about("Its turns, in their order; the newest million characters.")
    ]


class NextAudit(BaseModel):
    """The next audit, or why there is none."""

    audit: Annotated[AuditTask | None, about("The audit; null where there is none.")]
    why: Annotated[str | None, about("Why there is none.", "nothing waits for review")] = None


class AuditAnswer(BaseModel):
    """A review on record, and what the model had said, which is only shown now."""

    audit_id: Annotated[str, about("The audit.", "a19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("The conversation.", "c-17")]
    status: Annotated[str, about("waiting for a second reviewer, or answered.", "answered")]
    probability: Annotated[float, about("The highest probability in it.", 0.08)]
    threshold: Annotated[float, about("What it would have had to reach.", 0.1)]
    version: Annotated[int, about("The model version that gave it.", 3)]
    propensity: Annotated[float, about("With which probability it was drawn.", 0.05)]


class SkippedAudit(BaseModel):
    """An audit that was passed on."""

    audit_id: Annotated[str, about("The audit.", "a19ab2c3d4e5f60718293a4")]
    status: Annotated[str, about("It waits for others.", "waiting")]


@router.post("/handoffs/{handoff_id}/outcome", response_model=OutcomeResponse)
async def judge_handoff(
    handoff_id: Id, asked: HandoffOutcome, baton: AppDependency, principal: Agent
) -> Any:
    """Say what was true of an escalation: the model learns it at once."""
    verdict = await baton.redacted(
        principal.workspace, asked.verdict_of(principal.acting_for(asked.agent))
    )
    return await _record(
        baton,
        principal,
        lambda batch: record_outcome.record_for_handoff(
            batch, principal.workspace, handoff_id, verdict
        ),
        lifecycle.lock_targets(principal.workspace, handoff_id),
    )


@router.post("/conversations/{conversation_id:path}/outcome", response_model=OutcomeResponse)
async def judge_conversation(
    conversation_id: Id, asked: ConversationOutcome, baton: AppDependency, principal: Bot
) -> Any:
    """Say that a kept conversation needed a person after all, or rightly had none."""
    workspace = principal.workspace
    verdict = await baton.redacted(workspace, asked.verdict_of(principal))
    terms = (await baton.engine.model_state(workspace)).policy.bot_outcomes

    def record(batch: Batch) -> Mapping[str, Any]:
        if principal.role == "bot":
            return record_outcome.record_by_bot(batch, workspace, conversation_id, verdict, terms)
        return record_outcome.record_for_conversation(batch, workspace, conversation_id, verdict)

    return await _record(
        baton,
        principal,
        record,
        conversation_rows.lock_targets(principal.workspace, conversation_id),
    )


@router.put("/outcomes/{outcome_id}", response_model=OutcomeResponse)
async def correct_outcome(
    outcome_id: Id, asked: Correction, baton: AppDependency, principal: Agent
) -> Any:
    """Correct an outcome: a new ledger entry, never an edit."""
    workspace = principal.workspace
    verdict = await baton.redacted(workspace, asked.verdict_of(principal))

    def correct(batch: Batch) -> Mapping[str, Any]:
        return record_outcome.correct(batch, workspace, outcome_id, verdict, asked.team)

    needs = record_outcome.lock_targets(workspace, outcome_id)
    return await _record(baton, principal, correct, needs)


@router.delete("/outcomes/{outcome_id}", response_model=OutcomeResponse)
async def retract_outcome(outcome_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """Take an outcome back: a new ledger entry, never an edit. What it taught is `gone` when this
    answers, or leaves the model `at_rebuild` where a checkpoint has learned it already.
    """
    workspace, agent = principal.workspace, principal.name
    answer = await _record(
        baton,
        principal,
        lambda batch: retraction.retract_and_unlearn(batch, workspace, outcome_id, agent),
        record_outcome.lock_targets(workspace, outcome_id),
    )
    await learned_effect.wait_for_head(baton.engine, workspace)
    return answer


@router.get("/outcomes/{outcome_id}/effect", response_model=EffectResponse)
async def get_outcome_effect(outcome_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """What the model gave the last message that an outcome teaches about, before and after it
    learned it, in the process that answers; or why that cannot be told.
    """
    workspace = principal.workspace

    def look(connection: Connection) -> dict[str, Any]:
        row = outcome_rows.outcome(connection, workspace, outcome_id)
        if row is None:
            raise NotFound("no_outcome", f"there is no outcome {outcome_id!r} in this workspace")
        outcome = row._asdict()
        return outcome | {"effect": retraction.effect_of(connection, workspace, outcome)}

    outcome = await baton.read(look)
    return JSONResponse(await learned_effect.learned_effect_json(baton.engine, outcome))


@router.get("/questions", response_model=LabelRequestList)
async def list_label_requests(baton: AppDependency, principal: Agent) -> Any:
    """The handoffs you had of which an answer would teach most, as many as may be asked today."""
    policy = (await baton.engine.model_state(principal.workspace)).policy
    requests = await baton.read(
        lambda connection: label_requests.open_label_requests(
            connection, principal.workspace, principal.name, policy.questions, time.time()
        )
    )
    return JSONResponse(requests | {"questions": [timed(row) for row in requests["questions"]]})


async def _record(
    baton: AppState,
    principal: Principal,
    record: Callable[[Batch], Mapping[str, Any]],
    needs: Callable[[Connection], LockTargets],
) -> JSONResponse:
    row = await baton.engine.run(principal.workspace, record, needs=needs)
    return JSONResponse(timed(dict(row)))


@audits.get("/next", response_model=NextAudit)
async def next_audit(baton: AppDependency, principal: Agent) -> Any:
    """The next kept conversation to review, this reviewer's for a while. No score shown."""
    workspace, reviewer = principal.workspace, principal.name
    policy = (await baton.engine.model_state(workspace)).policy.audits

    def offer(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.offer(batch, workspace, reviewer, policy)

    answer = dict(await baton.engine.run(workspace, offer, appends=False))
    if answer["audit"] is not None:
        audit = answer["audit"]
        audit["offered_until"] = moment(audit["offered_until"])
        audit["transcript"] = [timed(turn) for turn in audit["transcript"]]
    return JSONResponse(answer)


@audits.post("/{audit_id}/outcome", response_model=AuditAnswer)
async def answer_audit(audit_id: Id, asked: Review, baton: AppDependency, principal: Agent) -> Any:
    """Give the reviewer's verdict; only the answer shows what the model had said."""
    workspace = principal.workspace
    since, note = asked.first_needed_message_id, asked.note
    reviewer = principal.acting_for(asked.agent)
    verdict = Verdict(asked.verdict, "audit", reviewer, since, note=note)
    verdict = await baton.redacted(workspace, verdict)

    def answer(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.answer(batch, workspace, audit_id, verdict)

    return JSONResponse(dict(await baton.engine.run(workspace, answer)))


@audits.post("/{audit_id}/skip", response_model=SkippedAudit)
async def skip_audit(audit_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """Pass an audit on to other reviewers."""
    workspace, reviewer = principal.workspace, principal.name

    def skip(batch: Batch) -> Mapping[str, Any]:
        return audit_tasks.skip(batch, workspace, audit_id, reviewer)

    return JSONResponse(dict(await baton.engine.run(workspace, skip, appends=False)))
