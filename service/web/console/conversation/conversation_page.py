"""A conversation that a person takes over: its whole context on one page."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from sqlalchemy import Connection

from service.handoffs import brief, label_requests
from service.runtime.errors import HTTP_STATUS, NotFound, RequestRefused
from service.scoring import learned_effect
from service.store.handoffs import handoff_rows
from service.store.labels import outcome_rows
from service.web.access import sessions
from service.web.console.conversation import transcript_view
from service.web.console.rendering import page
from service.web.console.signed_in_user import NotSignedIn, SessionUser, Viewer, cookie_of
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id

router = APIRouter(prefix="/handoffs/{handoff_id}")
REASONS = (
    "the bot gave a wrong answer",
    "the bot did not understand",
    "only a person may do this",
    "the customer wanted a person",
    "the bot could have done this",
)
"""What agents say most often; they may say anything else."""

TURNS_SHOWN = 300
"""Of a longer conversation the last turns are shown, and the rest when asked for."""

UNDO_SECONDS = 10
"""How long after an answer its undoing lies under the hand; later it can still be corrected."""


@router.get("")
async def show(
    request: Request, handoff_id: Id, baton: AppDependency, visitor: Viewer, whole: bool = False
) -> Any:
    """The whole context of a handoff on one page; of a very long one the last turns at first."""
    return await shown(request, baton, visitor, handoff_id, whole=whole)


@router.get("/state")
async def state(request: Request, handoff_id: Id, baton: AppDependency) -> Any:
    """A word that is another when the page would be: an open page asks for it now and then.

    Who asks is found in the same look, for every open page asks again and again.
    """
    cookie = cookie_of(request)

    def look(connection: Connection) -> str:
        principal = sessions.session_holder(connection, cookie)
        if principal is None:
            raise NotSignedIn
        principal.require("agent")
        return _state(connection, principal.workspace, handoff_id)

    return PlainTextResponse(await baton.read(look), headers={"Cache-Control": "no-store"})


def address(handoff_id: str, place: str = "") -> str:
    """Where a handoff's page is."""
    return f"/console/handoffs/{handoff_id}{place}"


async def shown(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    handoff_id: str,
    refusal: RequestRefused | None = None,
    *,
    whole: bool = False,
) -> Any:
    """The page of a handoff, with what was refused if anything was."""
    workspace, agent = visitor.workspace, visitor.name
    policy = (await baton.engine.model_state(workspace)).policy
    now = time.time()

    def look(connection: Connection) -> dict[str, Any]:
        handoff = _handoff(connection, workspace, handoff_id)
        state = _state(connection, workspace, handoff_id)
        found = brief.context_packet(connection, workspace, handoff)
        told = found["outcome"]
        outcome = told and outcome_rows.outcome(connection, workspace, told["id"])
        asked = label_requests.open_label_requests(
            connection, workspace, agent, policy.questions, now
        )
        given = {"handoff": handoff, "state": state, "packet": found, "asked": asked}
        return given | {"outcome": outcome and outcome._asdict()}

    found = await baton.read(look)
    outcome, handoff = found["outcome"], found["handoff"]
    mine = handoff["claimed_by"] == agent
    return page(
        request,
        visitor,
        "conversation.html",
        200 if refusal is None else HTTP_STATUS[type(refusal)],
        **found,
        **_view(found["packet"], handoff, tells := bool(outcome or mine or handoff["ended_at"])),
        tells=tells,
        whole=whole,
        earlier=0 if whole else max(0, len(found["packet"]["transcript"]) - TURNS_SHOWN),
        mine=mine,
        effect=await learned_effect.learned_effect_json(baton.engine, outcome) if outcome else None,
        question=_question(found["asked"], handoff_id),
        expired=(handoff["claim_expires_at"] or now) < now,
        teams=policy.team_names,
        usual=REASONS,
        undo_seconds=UNDO_SECONDS,
        refusal=refusal,
    )


def _handoff(connection: Connection, workspace: str, name: str) -> dict[str, Any]:
    row = handoff_rows.handoff(connection, workspace, name)
    if row is None:
        raise _missing(name)
    found: dict[str, Any] = row._asdict()
    return found


def _state(connection: Connection, workspace: str, name: str) -> str:
    found = handoff_rows.etag_columns(connection, workspace, name)
    if found is None:
        raise _missing(name)
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def _missing(name: str) -> NotFound:
    return NotFound("no_handoff", f"there is no handoff {name!r}", hint="start from the queue")


def _view(context: Mapping[str, Any], handoff: Mapping[str, Any], tells: bool) -> dict[str, Any]:
    seqs = {turn["id"]: turn["seq"] for turn in context["transcript"]}
    span = range(handoff["begins"], handoff["seq"] + 1) if tells else range(0)
    return {
        "seqs": seqs,
        "turns": transcript_view.turns(context, handoff["seq"], span),
        "reasons": transcript_view.reasons(context, seqs),
        "mood": transcript_view.mood(context),
        "route": transcript_view.route(context, handoff["team"]),
    }


def _question(asked: Mapping[str, Any], handoff_id: str) -> Mapping[str, Any] | None:
    """The question that Baton asks about this handoff, if it is among those worth asking."""
    found = (one for one in asked["questions"] if one["handoff_id"] == handoff_id)
    question: Mapping[str, Any] | None = next(found, None)
    return question
