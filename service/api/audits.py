"""Audits: kept conversations to review, without being told what the model thought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import model_validator

from service import audits
from service.api.context import ERRORS, Agent, Parts
from service.api.shapes import Id, Note, Shape, moment
from service.batch import Batch
from service.found import Found

router = APIRouter(prefix="/audits", tags=["audits"], responses=ERRORS)


class Review(Shape):
    """Did this kept conversation need a person, and since which message?"""

    verdict: Literal["missed", "fine", "unknowable"]
    first_needed_message_id: Id | None = None
    note: Note | None = None

    @model_validator(mode="after")
    def _since_only_if_missed(self) -> Review:
        if self.first_needed_message_id is not None and self.verdict != "missed":
            raise ValueError("first_needed_message_id goes only with verdict missed")
        return self


@router.get("/next")
async def offered(baton: Parts, principal: Agent) -> Any:
    """The next kept conversation to review, this reviewer's for a while. No score shown."""
    workspace, reviewer = principal.workspace, principal.name
    policy = (await baton.engine.served(workspace)).policy.audits

    def do(batch: Batch) -> Mapping[str, Any]:
        return audits.offer(batch, workspace, reviewer, policy)

    found = dict(await baton.engine.run(workspace, do, appends=False))
    if found["audit"] is not None:
        audit = found["audit"]
        audit["offered_until"] = moment(audit["offered_until"])
        audit["transcript"] = [turn | {"at": moment(turn["at"])} for turn in audit["transcript"]]
    return JSONResponse(found)


@router.post("/{audit_id}/outcome")
async def answer(audit_id: Id, asked: Review, baton: Parts, principal: Agent) -> Any:
    """The reviewer's verdict; only the answer shows what the model had said."""
    workspace = principal.workspace
    found = Found(
        asked.verdict,
        "audit",
        principal.name,
        asked.first_needed_message_id,
        note=asked.note,
    )

    def do(batch: Batch) -> Mapping[str, Any]:
        return audits.answer(batch, workspace, audit_id, found)

    return JSONResponse(dict(await baton.engine.run(workspace, do)))


@router.post("/{audit_id}/skip")
async def skip(audit_id: Id, baton: Parts, principal: Agent) -> Any:
    """Pass an audit on to other reviewers."""
    workspace, reviewer = principal.workspace, principal.name

    def do(batch: Batch) -> Mapping[str, Any]:
        return audits.skip(batch, workspace, audit_id, reviewer)

    return JSONResponse(dict(await baton.engine.run(workspace, do, appends=False)))
