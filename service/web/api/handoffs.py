"""Handoff routes: opening, queue, context packet, claim, note, transfer, return and resolve."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from learning.conversation.state import Message
from service.handoffs import brief, claims, lifecycle, notes, replies, takeover, transfers
from service.handoffs.status import require_handoff
from service.runtime.errors import Invalid, NotFound
from service.scoring.decision_response import LanguageResponse, ReasonResponse, TriggerResponse
from service.store import access
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows
from service.web.access.keys import Principal, require_not_reserved
from service.web.api.score import RouteResponse
from service.web.error_responses import ERRORS
from service.web.request_context import Agent, AppDependency, AppState, Bot, once
from service.web.schemas import (
    Acting,
    Id,
    NoteText,
    RequestModel,
    RequiredNote,
    ShortText,
    Text,
    about,
    timed,
)

router = APIRouter(prefix="/handoffs", tags=["handoffs"], responses=ERRORS)
_HIDDEN = ("workspace", "changed_at", "fired")
Status = Literal["waiting", "claimed", "resolved", "returned", "unanswered", "abandoned"]


class HandoffRequest(RequestModel):
    """A conversation that a person is to have, by the bot's or a person's own word."""

    conversation_id: Annotated[Id, about("The conversation, which has begun.", "c-17")]
    reason: Annotated[takeover.Reason, about("Why.", "stuck")]
    summary: Annotated[NoteText | None, about("What it is about.", "order lost twice")] = None
    team: Annotated[ShortText | None, about("A team that the policy speaks of.", "billing")] = None
    priority: Annotated[
        Annotated[int, Field(ge=1, le=4)] | None, about("1 is served first, 4 last.", 2)
    ] = None
    taken_by: Annotated[
        ShortText | None, about("The person who has it from now on, if one has.", "Ana")
    ] = None


class ClaimRequest(Acting):
    """Who takes it, and whether from whoever has it."""

    take_over: Annotated[bool, about("Take it from a colleague who has it; for leads.", False)] = (
        False
    )


class NoteRequest(Acting):
    """What one agent tells the others; the customer and the bot never see it."""

    text: Annotated[RequiredNote, about("The note.", "I have asked the warehouse")]


class TransferRequest(Acting):
    """The team that it belongs to, and what they should know."""

    team: Annotated[ShortText, about("A team that the policy speaks of.", "billing")]
    note: Annotated[NoteText | None, about("What they should know.", "wants two refunds")] = None


class ReplyRequest(Acting):
    """What an agent says to the customer."""

    text: Annotated[
        Text,
        Field(min_length=1),
        about("What is said.", "I have sent you a new parcel"),
    ]
    id: Annotated[
        Id | None, about("The message's id; one is made up where it is left out.", "m-9")
    ] = None


class ReplyResponse(BaseModel):
    """The message as it is on its way to the customer."""

    handoff_id: Annotated[str, about("The handoff.", "h19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    message_id: Annotated[str, about("The message's id, on every way the same.", "m-9")]
    seq: Annotated[int, about("Its place in the conversation, from 1.", 6)]
    agent: Annotated[str, about("Who wrote it.", "dana")]


class AssignRequest(Acting):
    """The colleague who is to have it."""

    user: Annotated[ShortText, about("The id of a user of this workspace.", "dana")]


class HandoffResponse(BaseModel):
    """A handoff: an episode with a person."""

    id: Annotated[str, about("Its id.", "h19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    decision_id: Annotated[
        str | None, about("The decision that led to it, if one did.", "d19ab2c3d4e5f60718293a4")
    ]
    begins: Annotated[int, about("The first turn that belongs to it, from 1.", 1)]
    seq: Annotated[int, about("The turn that led to it.", 3)]
    by_rule: Annotated[
        bool,
        about("Whether a rule, a request, or another's word led to it: not for the model.", True),
    ]
    version: Annotated[int, about("The model version that decided.", 3)]
    team: Annotated[str, about("The team that it is for.", "support")]
    priority: Annotated[int, about("1 is served first, 4 last.", 2)]
    status: Annotated[Status, about("Where it stands.", "waiting")]
    claimed_by: Annotated[str | None, about("The agent who has it.", "dana")]
    opened_at: Annotated[datetime, about("When it was opened.", "2026-11-28T09:30:00+00:00")]
    claimed_at: Annotated[
        datetime | None, about("When it was claimed.", "2026-11-28T09:32:00+00:00")
    ]
    claim_expires_at: Annotated[
        datetime | None,
        about("When the claim ends unless its agent writes.", "2026-11-28T09:47:00+00:00"),
    ]
    ended_at: Annotated[datetime | None, about("When it ended.", "2026-11-28T09:45:00+00:00")]
    promised_at: Annotated[
        datetime | None,
        about("When its team gets to it, where not at once.", "2026-11-30T08:00:00+00:00"),
    ]
    opened_by: Annotated[
        Literal["decision", "bot", "person"], about("By whose word it was opened.", "decision")
    ]
    reason: Annotated[str | None, about("Why, where no decision led to it.", "stuck")]
    opening_note: Annotated[str | None, about("What its request said.", "order lost twice")]
    raised_at: Annotated[
        datetime | None,
        about("When something urgent was last said in it.", "2026-11-28T09:31:00+00:00"),
    ]


class HandoffList(BaseModel):
    """Handoffs, the most urgent and oldest first."""

    handoffs: Annotated[list[HandoffResponse], about("Those asked for.")]


class NoteResponse(BaseModel):
    """A note by an agent, or a move to another team."""

    agent: Annotated[str, about("Who wrote it.", "dana")]
    team: Annotated[str | None, about("The team that it was moved to, if it was.", "billing")]
    text: Annotated[str | None, about("The note, if there is one.", "I have asked the warehouse")]
    at: Annotated[datetime, about("When.", "2026-11-28T09:33:00+00:00")]


class StoredNote(NoteResponse):
    """A note with its place."""

    id: Annotated[str, about("Its id.", "n19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    handoff_id: Annotated[str, about("Its handoff.", "h19ab2c3d4e5f60718293a4")]


class BriefAttachment(BaseModel):
    """Something that came with a turn; Baton does not have it."""

    type: Annotated[str, about("What it is.", "image")]
    name: Annotated[str | None, about("Its name.", "receipt.jpg")]


class BriefTurn(BaseModel):
    """A turn of the transcript."""

    seq: Annotated[int, about("Its place in the conversation, from 1.", 3)]
    id: Annotated[str, about("Its id.", "m-3")]
    author: Annotated[str, about("user, bot, agent or system.", "user")]
    text: Annotated[str, about("What was said.", "I want to talk to a person")]
    at: Annotated[datetime, about("When.", "2026-11-28T09:30:00+00:00")]
    event: Annotated[str | None, about("What a turn of the system records.", "handed_over")]
    scored: Annotated[bool, about("Whether it was decided about.", True)]
    edits: Annotated[str | None, about("The message that it is a newer version of.", "m-3")]
    removed: Annotated[bool, about("Whether the customer removed its words.", False)]
    agent: Annotated[str | None, about("The person who spoke, where it is known.", "dana")]
    attachments: Annotated[list[BriefAttachment], about("What came with it.")]


class Attempt(BaseModel):
    """What automation tried at a turn, and how it failed."""

    message_id: Annotated[str, about("The turn.", "m-2")]
    tried: Annotated[str | None, about("What it tried.", "looked up the order")]
    confidence: Annotated[float | None, about("How sure it was.", 0.42)]
    fallback: Annotated[bool, about("It did not understand.", False)]
    tool_error: Annotated[str | None, about("What failed.", "order system timed out")]
    failed: Annotated[bool, about("Whether the attempt failed.", True)]
    failure: Annotated[str | None, about("How, in words.", "a tool failed: order system")]


class Evidence(BaseModel):
    """The characters of a message that show something."""

    message_id: Annotated[str, about("The message.", "m-3")]
    start: Annotated[int, about("The first character, from 0.", 7)]
    stop: Annotated[int, about("The one after the last.", 26)]
    signal: Annotated[str, about("What they show.", "request")]
    led: Annotated[bool, about("Whether a trigger of the handoff went by them.", True)]


class SentimentPoint(BaseModel):
    """The sentiment of one of the customer's messages."""

    message_id: Annotated[str, about("The message.", "m-3")]
    sentiment: Annotated[float, about("From -1 (bad) to 1 (good).", -0.4)]


class CustomerFact(BaseModel):
    """A fact that the customer already gave, in their own writing."""

    kind: Annotated[str, about("What it is: email, phone, order, ...", "order")]
    value: Annotated[str, about("As they wrote it.", "A-1042")]
    message_id: Annotated[str, about("Where.", "m-1")]
    start: Annotated[int, about("Its first character there, from 0.", 12)]
    stop: Annotated[int, about("The one after its last.", 18)]


class SummaryLine(BaseModel):
    """A sentence that says most, as the customer wrote it."""

    text: Annotated[str, about("The sentence.", "my order has not come")]
    message_id: Annotated[str, about("Where.", "m-1")]
    start: Annotated[int, about("Its first character there, from 0.", 0)]
    stop: Annotated[int, about("The one after its last.", 21)]


class BriefOutcome(BaseModel):
    """What an agent found true of this handoff."""

    id: Annotated[str, about("The outcome's id.", "o19ab2c3d4e5f60718293a4")]
    verdict: Annotated[str, about("needed, not_needed or unknowable.", "needed")]
    first_needed_message_id: Annotated[str | None, about("Since which message.", "m-3")]
    team: Annotated[str | None, about("Whose work it was.", "billing")]
    reason: Annotated[str | None, about("Why.", "only a person may do this")]
    note: Annotated[str | None, about("Anything else.", "asked for a refund twice")]
    agent: Annotated[str, about("Who found it.", "dana")]
    at: Annotated[datetime, about("When.", "2026-11-28T09:45:00+00:00")]
    position: Annotated[int, about("Its ledger position.", 203)]


class HandoffBrief(HandoffResponse):
    """A handoff with its context packet: what an agent needs to go on where automation stopped."""

    earlier: Annotated[int, about("Turns before these, left out where all are very long.", 0)]
    transcript: Annotated[
        list[BriefTurn], about("Its turns, in their order; the newest million characters.")
    ]
    attempts: Annotated[list[Attempt], about("What automation tried.")]
    reasons: Annotated[list[ReasonResponse], about("Why a person was asked for, in words.")]
    triggers: Annotated[list[TriggerResponse], about("What spoke for a person.")]
    evidence: Annotated[list[Evidence], about("The words that show it.")]
    probability: Annotated[float | None, about("That a person was needed.", 0.81)]
    uncertainty: Annotated[float | None, about("Variance of its log odds.", 0.04)]
    message_id: Annotated[str | None, about("The message that led to it.", "m-3")]
    sentiment: Annotated[list[SentimentPoint], about("Sentiment over time.")]
    suggested_team: Annotated[str, about("The team that the decision named.", "support")]
    route: Annotated[RouteResponse | None, about("Whose word chose the team.")]
    language: Annotated[
        LanguageResponse | None, about("The customer's language, as its decision found it.")
    ]
    facts: Annotated[list[CustomerFact], about("What the customer already gave.")]
    summary: Annotated[list[SummaryLine], about("The sentences that say most.")]
    attributes: Annotated[
        dict[str, Any], about("What the bot said of the customer.", {"plan": "pro"})
    ]
    remarks: Annotated[list[NoteResponse], about("Notes of agents, and moves between teams.")]
    outcome: Annotated[BriefOutcome | None, about("What was found true, if anybody said.")]


@router.get("", response_model=HandoffList)
async def list_handoffs(
    baton: AppDependency,
    principal: Agent,
    status: Annotated[Status | None, Query(description="Only those that stand there.")] = None,
    team: Annotated[ShortText | None, Query(description="Only those of this team.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 200,
) -> Any:
    """The queue: handoffs, the most urgent and oldest first."""
    rows = await baton.read(
        lambda connection: handoff_rows.queue(
            connection, principal.workspace, status=status, team=team, most=limit
        )
    )
    return JSONResponse({"handoffs": [_handoff_json(row._asdict()) for row in rows]})


@router.post("", response_model=HandoffResponse)
async def open_handoff(
    request: Request, asked: HandoffRequest, baton: AppDependency, principal: Bot
) -> Any:
    """Hand a conversation over without a decision, or take it over (`taken_by`: claimed at once).

    Where a handoff is open, that one is the answer, as it is. Sent again after its end, it opens
    another one, unless the Idempotency-Key is the same.
    """
    workspace = principal.workspace
    if asked.taken_by is not None:
        require_not_reserved(asked.taken_by, "taken_by")
    model_state = await baton.engine.model_state(workspace)
    opened_by: takeover.OpenedBy = "bot" if principal.role == "bot" else "person"
    wanted = takeover.HandoffRequest(
        "person" if asked.taken_by else opened_by,
        asked.reason,
        await baton.engine.redact_text(workspace, asked.summary),
        asked.team,
        asked.priority,
        asked.taken_by,
    )

    def open_(batch: Batch) -> Mapping[str, Any]:
        conversation = batch.require_started(workspace, asked.conversation_id)
        batch.require_room(conversation, 1)
        row = takeover.hand_over(
            batch, conversation, wanted, takeover.standing(batch, workspace, model_state)
        )
        return _handoff_json(dict(row))

    do_once = once(request, principal, asked.model_dump(), open_)
    needs = conversation_rows.lock_targets(workspace, asked.conversation_id)
    return JSONResponse(dict(await baton.engine.run(workspace, do_once, needs=needs)))


@router.get("/{handoff_id}", response_model=HandoffBrief)
async def get_handoff(handoff_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """The whole context of a handoff: the customer repeats nothing."""
    workspace = principal.workspace

    def look(connection: Connection) -> dict[str, Any]:
        row = handoff_rows.handoff(connection, workspace, handoff_id)
        if row is None:
            raise NotFound("no_handoff", f"there is no handoff {handoff_id!r} in this workspace")
        packet = brief.context_packet(connection, workspace, row._asdict())
        for name in ("transcript", "remarks"):
            packet[name] = [timed(part) for part in packet[name]]
        packet["outcome"] = packet["outcome"] and timed(packet["outcome"])
        return _handoff_json(row._asdict()) | packet

    return JSONResponse(await baton.read(look))


@router.post("/{handoff_id}/claim", response_model=HandoffResponse)
async def claim_handoff(
    handoff_id: Id, baton: AppDependency, principal: Agent, asked: ClaimRequest | None = None
) -> Any:
    """Take a handoff for yourself, or keep it: a claim ends when its agent goes quiet.

    409 tells who has it; a lead may take it from them with `take_over`.
    """
    asked = asked or ClaimRequest()
    workspace, agent = principal.workspace, principal.acting_for(asked.agent)
    forced = asked.take_over
    if forced:
        principal.require("lead")
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds

    def claim(batch: Batch) -> Mapping[str, Any]:
        return claims.claim(batch, workspace, handoff_id, agent, seconds, forced=forced)

    needs = lifecycle.lock_targets(workspace, handoff_id)
    row = await baton.engine.run(workspace, claim, needs=needs)
    return JSONResponse(_handoff_json(dict(row)))


@router.post("/{handoff_id}/note", response_model=StoredNote)
async def add_note(
    handoff_id: Id, asked: NoteRequest, baton: AppDependency, principal: Agent
) -> Any:
    """Keep a note for other agents; it stands in the context and is no turn to the bot."""
    workspace, agent = principal.workspace, principal.acting_for(asked.agent)
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds
    text = await baton.engine.redact_text(workspace, asked.text) or ""

    def add(batch: Batch) -> Mapping[str, Any]:
        return notes.add_note(batch, workspace, handoff_id, agent, text, seconds)

    needs = lifecycle.lock_targets(workspace, handoff_id)
    return JSONResponse(timed(dict(await baton.engine.run(workspace, add, needs=needs))))


@router.post("/{handoff_id}/transfer", response_model=HandoffResponse)
async def transfer_handoff(
    request: Request, handoff_id: Id, asked: TransferRequest, baton: AppDependency, principal: Agent
) -> Any:
    """Let a handoff wait for another team, which the policy must speak of."""
    workspace, agent = principal.workspace, principal.acting_for(asked.agent)
    policy = (await baton.engine.model_state(workspace)).policy
    note = await baton.engine.redact_text(workspace, asked.note)

    def transfer(batch: Batch) -> Mapping[str, Any]:
        move = (handoff_id, agent, asked.team, note)
        return _handoff_json(transfers.transfer(batch, policy, workspace, *move))

    do_once = once(request, principal, asked.model_dump(), transfer)
    needs = lifecycle.lock_targets(workspace, handoff_id)
    return JSONResponse(dict(await baton.engine.run(workspace, do_once, needs=needs)))


@router.post("/{handoff_id}/reply", response_model=ReplyResponse)
async def reply_to_customer(
    request: Request, handoff_id: Id, asked: ReplyRequest, baton: AppDependency, principal: Agent
) -> Any:
    """Write to the customer: the bot is told to say it, by event or webhook, under this id.

    It takes a handoff that waits, and renews a claim.
    """
    workspace, agent = principal.workspace, principal.acting_for(asked.agent)
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds
    written = Message(asked.id or "", "agent", asked.text, 0.0)
    turn = await baton.engine.prepare_reply(workspace, written)

    def reply(batch: Batch) -> Mapping[str, Any]:
        return replies.reply(batch, workspace, handoff_id, agent, turn, seconds)

    do_once = once(request, principal, asked.model_dump(), reply)
    needs = lifecycle.lock_targets(workspace, handoff_id)
    return JSONResponse(dict(await baton.engine.run(workspace, do_once, needs=needs)))


@router.post("/{handoff_id}/assign", response_model=HandoffResponse)
async def assign_handoff(
    handoff_id: Id, asked: AssignRequest, baton: AppDependency, principal: Agent
) -> Any:
    """Give a handoff to a colleague; a lead may take it from whoever has it."""
    workspace, agent = principal.workspace, principal.acting_for(asked.agent)
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds

    def assign(batch: Batch) -> Mapping[str, Any]:
        require_handoff(batch, workspace, handoff_id)
        if access.user(batch.connection, workspace, asked.user) is None:
            raise Invalid(
                "unknown_user",
                f"there is no user {asked.user!r} in this workspace",
                field="user",
                hint="give the id of a user who has a key",
            )
        people = (asked.user, agent)
        forced = principal.reaches("lead")
        return claims.assign(batch, workspace, handoff_id, *people, seconds, forced=forced)

    needs = lifecycle.lock_targets(workspace, handoff_id)
    row = await baton.engine.run(workspace, assign, needs=needs)
    return JSONResponse(_handoff_json(dict(row)))


@router.post("/{handoff_id}/return", response_model=HandoffResponse)
async def return_handoff(
    handoff_id: Id, baton: AppDependency, principal: Agent, asked: Acting | None = None
) -> Any:
    """Give the conversation back to the bot."""
    return await _end(handoff_id, baton, principal, asked, "returned")


@router.post("/{handoff_id}/resolve", response_model=HandoffResponse)
async def resolve_handoff(
    handoff_id: Id, baton: AppDependency, principal: Agent, asked: Acting | None = None
) -> Any:
    """The person settled it; later messages are the bot's again."""
    return await _end(handoff_id, baton, principal, asked, "resolved")


async def _end(
    handoff_id: str,
    baton: AppState,
    principal: Principal,
    asked: Acting | None,
    status: lifecycle.Ended,
) -> JSONResponse:
    workspace = principal.workspace
    agent = principal.acting_for(asked.agent if asked else None)

    def end(batch: Batch) -> Mapping[str, Any]:
        return lifecycle.end(batch, workspace, handoff_id, agent, status)

    needs = lifecycle.lock_targets(workspace, handoff_id)
    row = await baton.engine.run(workspace, end, needs=needs)
    return JSONResponse(_handoff_json(dict(row)))


def _handoff_json(row: dict[str, Any]) -> dict[str, Any]:
    return timed({name: value for name, value in row.items() if name not in _HIDDEN})
