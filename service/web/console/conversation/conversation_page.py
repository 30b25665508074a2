"""Conversation page: the context packet of a handoff, and an ETag that open pages poll."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from sqlalchemy import Connection

from learning.decision.policy import Policy
from service.handoffs import brief, label_requests
from service.handoffs.status import OPEN
from service.runtime.errors import HTTP_STATUS, NotFound, RequestRefused
from service.runtime.ids import new_id
from service.scoring import learned_effect
from service.store import access
from service.store.conversations import original_rows
from service.store.handoffs import canned_reply_rows, handoff_rows
from service.store.labels import outcome_rows
from service.web.access import sessions
from service.web.console.conversation import transcript_view
from service.web.console.conversation.customer_view import CustomerView, customer_view
from service.web.console.language.names import N_
from service.web.console.language.translations import gettext
from service.web.console.rendering import page
from service.web.console.signed_in_user import NotSignedIn, SessionUser, Viewer, cookie_of
from service.web.event_stream import presence
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id

router = APIRouter(prefix="/handoffs/{handoff_id}")
REASONS = (
    N_("the bot gave a wrong answer"),
    N_("the bot did not understand"),
    N_("only a person may do this"),
    N_("the customer wanted a person"),
    N_("the bot could have done this"),
)
"""Reasons that agents give most often, as suggestions; they may write anything else."""

TURNS_SHOWN = 300
"""Of a longer conversation the last turns are shown, and the rest when asked for."""

UNDO_SECONDS = 10
"""How long the undo button is shown after an answer; later it can still be corrected."""


@router.get("")
async def get_conversation(
    request: Request,
    handoff_id: Id,
    baton: AppDependency,
    visitor: Viewer,
    whole: bool = False,
    undone: Literal["gone", "at_rebuild"] | None = None,
) -> Any:
    """The whole context of a handoff on one page; of a very long one the last turns at first.
    `undone`: what became of an answer that was just taken back.
    """
    taken_back = undone and learned_effect.RETRACTED[undone]
    return await render_conversation(
        request, baton, visitor, handoff_id, whole=whole, taken_back=taken_back
    )


@router.get("/state")
async def get_state(request: Request, handoff_id: Id, baton: AppDependency) -> Any:
    """ETag of the rendered page, as text: an open page polls it to decide whether to reload.

    The session is looked up in the same read, since every open page asks again and again.
    """
    cookie = cookie_of(request)

    def look(connection: Connection) -> str:
        principal = sessions.session_holder(connection, cookie)
        if principal is None:
            raise NotSignedIn
        principal.require("agent")
        where = (connection, principal.workspace, handoff_id)
        tag = _page_tag(*where, presence.looking(*where, principal.name))
        baton.presence.see(principal.workspace, principal.name, handoff_id)
        return tag

    return PlainTextResponse(await baton.read(look), headers={"Cache-Control": "no-store"})


def address(handoff_id: str, place: str = "") -> str:
    """Path of a handoff's page."""
    return f"/console/handoffs/{handoff_id}{place}"


async def render_conversation(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    handoff_id: str,
    refusal: RequestRefused | None = None,
    *,
    whole: bool = False,
    taken_back: str | None = None,
    typed: Mapping[str, str] | None = None,
    shown: Mapping[str, str] | None = None,
) -> Any:
    """The page of a handoff, with a refusal on top if there is one, what was `typed`, and the
    originals of messages that are `shown`.
    """
    workspace, agent = visitor.workspace, visitor.name
    policy = (await baton.engine.model_state(workspace)).policy
    now = time.time()

    context = await baton.read(
        lambda connection: _load_context(connection, workspace, handoff_id, agent, policy)
    )
    outcome, handoff, packet = context["outcome"], context["handoff"], context["packet"]
    baton.presence.see(workspace, agent, handoff_id)
    baton.recorder.record("transcript_read", agent, handoff["conversation_id"], workspace=workspace)
    mine = handoff["claimed_by"] == agent
    tells = bool(outcome or mine or handoff["ended_at"])
    return page(
        request,
        visitor,
        "conversation.html",
        200 if refusal is None else HTTP_STATUS[type(refusal)],
        **context,
        **_view(packet, handoff, tells),
        tells=tells,
        whole=whole,
        taken_back=taken_back,
        earlier=0 if whole else max(0, len(packet["transcript"]) - TURNS_SHOWN),
        mine=mine,
        claimable=_is_claimable(handoff, agent, now),
        typed=typed or {},
        shown=shown or {},
        reply_id=new_id("m"),
        effect=await learned_effect.learned_effect_json(baton.engine, outcome) if outcome else None,
        expired=(handoff["claim_expires_at"] or now) < now,
        teams=policy.team_names,
        usual=[gettext(reason) for reason in REASONS],
        undo_seconds=UNDO_SECONDS,
        refusal=refusal,
    )


def _load_context(
    connection: Connection, workspace: str, handoff_id: str, agent: str, policy: Policy
) -> dict[str, Any]:
    """All that the page shows of a handoff, in one read."""
    handoff = _handoff(connection, workspace, handoff_id)
    looking = presence.looking(connection, workspace, handoff_id, agent)
    state = _page_tag(connection, workspace, handoff_id, looking)
    packet = brief.context_packet(connection, workspace, handoff)
    summary = packet["outcome"]
    outcome = summary and outcome_rows.outcome(connection, workspace, summary["id"])
    requests = label_requests.open_label_requests(
        connection, workspace, agent, policy.questions, time.time()
    )
    customer = customer_view(
        connection, workspace, handoff["conversation_id"], packet["attributes"]
    )
    return {
        "customer": customer,
        "canned": _canned(connection, workspace, customer, agent),
        "colleagues": _colleagues(connection, workspace, handoff, agent),
        "handoff": handoff,
        "looking": looking,
        "state": state,
        "originals": _originals(connection, workspace, handoff, policy),
        "packet": packet,
        "outcome": outcome and outcome._asdict(),
        "asked": requests,
        "question": _label_request(requests, handoff_id),
    }


def _originals(
    connection: Connection, workspace: str, handoff: Mapping[str, Any], policy: Policy
) -> set[str]:
    """The messages whose originals are kept, where the policy lets agents read them."""
    if policy.redaction.originals != "agents":
        return set()
    return set(original_rows.sealed(connection, workspace, handoff["conversation_id"]))


def require_conversation(connection: Connection, workspace: str, handoff_id: str) -> str:
    """The conversation of a handoff. Raises NotFound."""
    return str(_handoff(connection, workspace, handoff_id)["conversation_id"])


def _is_claimable(handoff: Mapping[str, Any], agent: str, now: float) -> bool:
    """Whether an agent may have it: it waits, or waited in vain, or nobody holds it any longer."""
    held = handoff["status"] == "claimed" and handoff["claimed_by"] != agent
    expired = (handoff["claim_expires_at"] or now) < now
    return handoff["status"] in (*OPEN, "unanswered") and (not held or expired)


def _canned(
    connection: Connection, workspace: str, customer: CustomerView, agent: str
) -> list[dict[str, str]]:
    """The workspace's canned replies, with the customer's and the agent's name put in."""
    return [
        {
            "name": row.name,
            "text": row.text.replace("{customer}", customer.name or "").replace("{agent}", agent),
        }
        for row in canned_reply_rows.of_workspace(connection, workspace)
    ]


def _colleagues(
    connection: Connection, workspace: str, handoff: Mapping[str, Any], agent: str
) -> list[str]:
    """Whom a handoff may be given to: people of the workspace, besides who has it and who asks."""
    users = access.users(connection, workspace)
    besides = (agent, handoff["claimed_by"])
    return [row.id for row in users if row.role != "connector" and row.id not in besides]


def _handoff(connection: Connection, workspace: str, name: str) -> dict[str, Any]:
    row = handoff_rows.handoff(connection, workspace, name)
    if row is None:
        raise _no_handoff(name)
    handoff: dict[str, Any] = row._asdict()
    return handoff


def _page_tag(connection: Connection, workspace: str, name: str, looking: Sequence[str]) -> str:
    etag_columns = handoff_rows.etag_columns(connection, workspace, name)
    if etag_columns is None:
        raise _no_handoff(name)
    return hashlib.sha256(repr((etag_columns, looking)).encode()).hexdigest()[:16]


def _no_handoff(name: str) -> NotFound:
    return NotFound("no_handoff", f"there is no handoff {name!r}", hint="start from the queue")


def _view(packet: Mapping[str, Any], handoff: Mapping[str, Any], tells: bool) -> dict[str, Any]:
    seqs = {turn["id"]: turn["seq"] for turn in packet["transcript"]}
    span = range(handoff["begins"], handoff["seq"] + 1) if tells else range(0)
    return {
        "seqs": seqs,
        "turns": transcript_view.turns(packet, handoff["seq"], span),
        "reasons": transcript_view.reasons(packet, seqs),
        "mood": transcript_view.mood(packet),
        "route": transcript_view.route(packet, handoff["team"]),
    }


def _label_request(requests: Mapping[str, Any], handoff_id: str) -> Mapping[str, Any] | None:
    """The label request about this handoff, if it is among those worth asking."""
    for request in requests["questions"]:
        if request["handoff_id"] == handoff_id:
            return dict(request)
    return None
