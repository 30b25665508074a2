"""Outcomes: what a person found true, posted, corrected and retracted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field, model_validator
from sqlalchemy import Connection

from service import effects, handoffs, outcomes, questions
from service.api.context import ERRORS, Agent, Baton, Bot, Parts
from service.api.shapes import Id, Note, Shape, Short, timed
from service.auth import Principal
from service.batch import Batch
from service.errors import Missing
from service.found import OWN, Found
from service.store import conversations
from service.store import outcomes as rows
from service.waiting import Needs

router = APIRouter(tags=["outcomes"], responses=ERRORS)
LABELS_MAX = 2000
_AS_KEPT = {"needed": "missed", "not_needed": "fine"}


class HandoffOutcome(Shape):
    """Was the escalation needed, and since which message?"""

    verdict: Literal["needed", "not_needed", "unknowable"]
    first_needed_message_id: Id | None = None
    team: Short | None = None
    reason: Short | None = None
    note: Note | None = None

    @model_validator(mode="after")
    def _since_only_if_needed(self) -> HandoffOutcome:
        if self.first_needed_message_id is not None and self.verdict != "needed":
            raise ValueError("first_needed_message_id goes only with verdict needed")
        return self

    def found(self, principal: Principal) -> Found:
        return Found(
            self.verdict,
            "agent",
            principal.name,
            self.first_needed_message_id,
            self.team,
            self.reason,
            self.note,
        )


class Label(Shape):
    """One message's own label: 0 nobody was needed, 1 a person was, or a share in between."""

    message_id: Id
    label: Annotated[float, Field(ge=0, le=1)]
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0


class ConversationOutcome(Shape):
    """A missed or rightly kept conversation; or, with an engineer's key, labels of messages."""

    verdict: Literal["missed", "fine", "needed", "not_needed", "unknowable"] | None = None
    first_needed_message_id: Id | None = None
    source: Short = "agent"
    reason: Short | None = None
    note: Note | None = None
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
        if self.source in OWN:
            raise ValueError(
                "source audit, silence and returned are Baton's own: say where you know it from"
            )
        return self

    def found(self, principal: Principal) -> Found:
        if self.labels is not None:
            principal.require("engineer")
        return Found(
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

    team: Short | None = None


@router.post("/handoffs/{handoff_id}/outcome")
async def of_handoff(handoff_id: Id, asked: HandoffOutcome, baton: Parts, principal: Agent) -> Any:
    """Say what was true of an escalation: the model learns it at once."""
    found = asked.found(principal)
    return await _run(
        baton,
        principal,
        lambda batch: outcomes.of_handoff(batch, principal.workspace, handoff_id, found),
        handoffs.whose(principal.workspace, handoff_id),
    )


@router.post("/conversations/{conversation_id:path}/outcome")
async def of_conversation(
    conversation_id: Id, asked: ConversationOutcome, baton: Parts, principal: Bot
) -> Any:
    """Say that a kept conversation needed a person after all, or rightly had none."""
    found = asked.found(principal)
    return await _run(
        baton,
        principal,
        lambda batch: outcomes.of_conversation(batch, principal.workspace, conversation_id, found),
        conversations.if_there(principal.workspace, conversation_id),
    )


@router.put("/outcomes/{outcome_id}")
async def correct(outcome_id: Id, asked: Correction, baton: Parts, principal: Agent) -> Any:
    """Correct an outcome: a new ledger entry, never an edit."""
    workspace = principal.workspace
    found = asked.found(principal)

    def do(batch: Batch) -> Mapping[str, Any]:
        return outcomes.correct(batch, workspace, outcome_id, found, asked.team)

    return await _run(baton, principal, do, outcomes.whose(workspace, outcome_id))


@router.delete("/outcomes/{outcome_id}")
async def retract(outcome_id: Id, baton: Parts, principal: Agent) -> Any:
    """Take an outcome back."""
    workspace, agent = principal.workspace, principal.name
    return await _run(
        baton,
        principal,
        lambda batch: outcomes.retract(batch, workspace, outcome_id, agent),
        outcomes.whose(workspace, outcome_id),
    )


@router.get("/outcomes/{outcome_id}/effect")
async def effect(outcome_id: Id, baton: Parts, principal: Agent) -> Any:
    """What the model gave the last message that an outcome teaches about, before and after it
    learned it, in the process that answers; or why that cannot be told.
    """
    workspace = principal.workspace
    row = await baton.read(lambda connection: rows.outcome(connection, workspace, outcome_id))
    if row is None:
        raise Missing("no_outcome", f"there is no outcome {outcome_id!r} in this workspace")
    return JSONResponse(await effects.effect(baton.engine, row._asdict()))


@router.get("/questions")
async def asked(baton: Parts, principal: Agent) -> Any:
    """The handoffs you had of which an answer would teach most, as many as may be asked today."""
    policy = (await baton.engine.served(principal.workspace)).policy
    found = await baton.read(
        lambda connection: questions.questions(
            connection, principal.workspace, principal.name, policy.questions, time.time()
        )
    )
    shown = [timed(one) for one in found.pop("questions")]
    return JSONResponse(found | {"questions": shown})


async def _run(
    baton: Baton,
    principal: Principal,
    do: Callable[[Batch], Mapping[str, Any]],
    needs: Callable[[Connection], Needs],
) -> JSONResponse:
    answer = await baton.engine.run(principal.workspace, do, needs=needs)
    return JSONResponse(timed(dict(answer)))
