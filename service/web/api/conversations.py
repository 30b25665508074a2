"""Conversation routes: list and search, append turns, close, transcript; all conversations of a
person, and their erasure.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, field_validator
from sqlalchemy import Connection

from learning.conversation.state import unread_chars
from service.handoffs import lifecycle
from service.handoffs.brief import SHOWN_CHARS_MAX, oldest_within
from service.handoffs.takeover import standing, take_over
from service.privacy import originals
from service.privacy.message_removal import ATTEMPTS_MAX as REMOVAL_ATTEMPTS_MAX
from service.privacy.message_removal import Removal
from service.runtime.errors import Contradiction, Invalid
from service.runtime.sealing import Sealer
from service.runtime.settings import Settings
from service.scoring.decide import ScoreCommand, new_turns, with_timestamp
from service.scoring.decision_response import DecisionResponse
from service.scoring.texts.incoming_texts import text_chars
from service.store.conversations import conversation_rows, search
from service.store.conversations.batch import Batch, no_conversation
from service.store.handoffs import handoff_rows
from service.store.labels import outcome_rows
from service.store.ledger import outbox_rows
from service.web.api.handoffs import HandoffResponse
from service.web.api.outcomes import OutcomeResponse
from service.web.api.score import StoredDecision
from service.web.error_responses import ERRORS
from service.web.request_context import Agent, AppDependency, Bot, once
from service.web.schemas import (
    HISTORY_MAX,
    EditedMessage,
    Id,
    RequestModel,
    ShortText,
    Turn,
    about,
    message,
    require_texts,
    timed,
)

router = APIRouter(tags=["conversations"], responses=ERRORS)
Status = Literal["open", "closed"]
Resolution = Literal["resolved", "abandoned", "unknown"]


class MessagesRequest(RequestModel):
    """Turns of the bot, an agent or the system, in their order."""

    messages: Annotated[
        list[Turn],
        Field(min_length=1, max_length=HISTORY_MAX),
        about("The turns, oldest first; the customer's own go to POST /v1/score."),
    ]

    @field_validator("messages")
    @classmethod
    def _none_of_the_customer(cls, turns: list[Turn]) -> list[Turn]:
        for turn in turns:
            if turn.author == "user":
                raise ValueError(
                    f"message {turn.id!r} is the customer's: send it to POST /v1/score, "
                    "or in its history"
                )
        require_texts(turn.text for turn in turns)
        return turns


class MessagesResponse(BaseModel):
    """How many turns are new, and where the conversation stands."""

    conversation_id: Annotated[str, about("The conversation.", "c-17")]
    appended: Annotated[int, about("Turns that it did not have yet.", 2)]
    length: Annotated[int, about("Turns that it has now.", 9)]
    human_active: Annotated[bool, about("A person has it: the bot stays silent.", False)]


class RemovalResponse(BaseModel):
    """A message whose words are gone."""

    conversation_id: Annotated[str, about("The conversation.", "c-17")]
    message_id: Annotated[str, about("The message.", "m-3")]
    position: Annotated[int, about("The ledger entry that says so.", 203)]


class CloseRequest(RequestModel):
    """How the conversation ended."""

    resolution: Annotated[
        Resolution, about("How it ended; unknown where the customer just went.", "resolved")
    ]


class CloseResponse(BaseModel):
    """The conversation as it is closed."""

    conversation_id: Annotated[str, about("The conversation.", "c-17")]
    status: Annotated[Status, about("Closed; a new message opens it again.", "closed")]
    resolution: Annotated[str | None, about("How it ended.", "resolved")]


class ConversationResponse(BaseModel):
    """A conversation's state."""

    id: Annotated[str, about("Its id.", "c-17")]
    length: Annotated[int, about("How many turns it has.", 9)]
    begins: Annotated[int, about("The first turn after the last return of a person, from 1.", 1)]
    status: Annotated[Status, about("Open, or closed.", "open")]
    resolution: Annotated[str | None, about("How it ended, once closed.", "resolved")]
    handoff_id: Annotated[str | None, about("Its open handoff, if one is.", "h19ab2c3d4e5")]
    human_active: Annotated[bool, about("A person has it: the bot stays silent.", False)]
    escalated: Annotated[bool, about("Whether a person ever had it.", False)]
    opened_at: Annotated[datetime, about("When it began.", "2026-11-28T09:30:00+00:00")]
    last_at: Annotated[datetime, about("When it was last heard of.", "2026-11-28T09:36:00+00:00")]
    closed_at: Annotated[datetime | None, about("When it ended.", "2026-11-28T09:40:00+00:00")]
    language: Annotated[str | None, about("The language of its first message.", "en")]
    version: Annotated[int | None, about("The model version that it is counted under.", 3)]
    team: Annotated[str | None, about("The team that it is counted under.", "support")]
    tossed: Annotated[bool, about("Whether it was drawn for an audit or passed over.", False)]
    spoken: Annotated[str | None, about("The language it is in, declared or recognised.", "en")]
    holdout: Annotated[
        float | None,
        about("The chance with which it was drawn to be held out; null: nothing was drawn.", None),
    ]
    held_out: Annotated[bool, about("Whether rules alone decide in it.", False)]
    offer_id: Annotated[
        str | None,
        about("The decision to offer a person that waits for its answer.", "d19ab2c3d4e5f607"),
    ]


class ConversationList(BaseModel):
    """A page of conversations, the last heard of first."""

    conversations: Annotated[list[ConversationResponse], about("Those of this page.")]
    next: Annotated[
        str | None,
        about("Give it as `after` for the next page; null at the end.", "1764322200.25:c-17"),
    ]


class MessageResponse(BaseModel):
    """A turn as it is stored."""

    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    seq: Annotated[int, about("Its place in the conversation, from 1.", 3)]
    id: Annotated[str, about("Its id.", "m-3")]
    author: Annotated[str, about("user, bot, agent or system.", "user")]
    text: Annotated[str, about("What was said.", "I want to talk to a person")]
    at: Annotated[datetime, about("When.", "2026-11-28T09:30:00+00:00")]
    language: Annotated[str | None, about("Its language tag, where one was given.", "en")]
    bot: Annotated[
        dict[str, Any] | None, about("What the bot reported at it.", {"intent": "refund_status"})
    ]
    attributes: Annotated[
        dict[str, Any] | None, about("What was known of the customer with it.", {"plan": "pro"})
    ]
    event: Annotated[
        str | None, about("What a turn of the system records, such as handed_over.", "handed_over")
    ]
    scored: Annotated[bool, about("Whether it was decided about.", True)]
    agent: Annotated[str | None, about("The person who spoke, where it was told.", "Ana")]
    format: Annotated[str | None, about("text, html, markdown or email, where told.", "email")]
    attachments: Annotated[
        list[dict[str, Any]] | None, about("What came with it.", [{"type": "image", "name": None}])
    ]
    advice: Annotated[
        dict[str, float] | None, about("What others said of it, by name.", {"judge": 0.7})
    ]
    edits: Annotated[str | None, about("The message that it is a newer version of.", "m-3")]
    removed: Annotated[
        int | None, about("The ledger entry by which its words were removed, if they were.", 203)
    ]
    redacted: Annotated[
        str | None, about("Kinds of personal data that were replaced in its text.", "card email")
    ]


class OriginalResponse(BaseModel):
    """What a redacted message said."""

    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    message_id: Annotated[str, about("Its id.", "m-3")]
    text: Annotated[str, about("Its text before redaction.", "my card is 5500 0000 0000 0004")]


class TranscriptHandoff(HandoffResponse):
    """A handoff of this conversation."""

    changed_at: Annotated[datetime, about("When it last changed.", "2026-11-28T09:33:00+00:00")]


class Transcript(ConversationResponse):
    """A conversation with all that belongs to it."""

    messages: Annotated[list[MessageResponse], about("Its turns, in their order.")]
    decisions: Annotated[list[StoredDecision], about("The decisions in it, in their order.")]
    handoffs: Annotated[list[TranscriptHandoff], about("Its handoffs, the oldest first.")]
    outcomes: Annotated[
        list[OutcomeResponse] | None, about("Its outcomes; left out for a bot's key.")
    ] = None
    next: Annotated[
        int | None, about("`after` of the turns that follow, where these are very long.", 40)
    ]


@router.get("/conversations", response_model=ConversationList)
async def list_conversations(
    baton: AppDependency,
    principal: Agent,
    customer: Annotated[
        ShortText | None, Query(description="Only this customer's (`attributes.customer_id`).")
    ] = None,
    status: Annotated[Status | None, Query(description="Only those open, or closed.")] = None,
    text: Annotated[
        ShortText | None, Query(description="Words that stand in one of its messages or its id.")
    ] = None,
    after: Annotated[
        str | None, Query(max_length=300, description="`next` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="At most so many.")] = 50,
) -> Any:
    """Conversations, the last heard of first, a page at a time.

    With `text` or `customer`, a page looks through the newest 2000 from `after` on: it may hold
    fewer than `limit`, and `next` goes on where it stopped.
    """
    begin = None if after is None else _cursor(after)

    def look(connection: Connection) -> dict[str, Any]:
        page = search.conversations(
            connection,
            principal.workspace,
            status=status,
            text=text or "",
            customer=customer,
            after=begin,
            most=limit,
        )
        return {
            "conversations": [_conversation_json(row) for row in page.rows],
            "next": page.after and f"{page.after[0]!r}:{page.after[1]}",
        }

    return JSONResponse(await baton.read(look))


@router.post("/conversations/{conversation_id:path}/messages", response_model=MessagesResponse)
async def append_messages(
    conversation_id: Id, asked: MessagesRequest, baton: AppDependency, principal: Bot
) -> Any:
    """Append turns of the bot, an agent or the system without scoring them.

    An agent who speaks, or to whom it was assigned, takes the conversation over.
    """
    workspace = principal.workspace
    sent = [message(turn, turn.bot) for turn in asked.messages]
    baton.limits.take_chars(principal.key_id, [text_chars(sent)])
    turns = await baton.engine.read_texts(workspace, conversation_id, sent)
    model_state = await baton.engine.model_state(workspace)

    def append(batch: Batch) -> Mapping[str, Any]:
        conversation = batch.conversation(workspace, conversation_id)
        fresh = new_turns(conversation, turns)
        batch.require_room(conversation, len(fresh))
        appended = [with_timestamp(turn, batch.now) for turn in fresh]
        for turn in appended:
            batch.append(conversation, turn)
        take_over(batch, conversation, appended, standing(batch, workspace, model_state))
        return {
            "conversation_id": conversation_id,
            "appended": len(fresh),
            "length": conversation.length,
            "human_active": conversation.handoff_id is not None,
        }

    needs = {conversation_id: [turn.id for turn in turns]}
    chars = unread_chars(turns)
    answer = await baton.engine.run(workspace, append, needs=needs, chars=chars)
    return JSONResponse(dict(answer))


@router.put(
    "/conversations/{conversation_id:path}/messages/{message_id:path}",
    response_model=DecisionResponse,
)
async def edit_message(
    conversation_id: Id, message_id: Id, asked: EditedMessage, baton: AppDependency, principal: Bot
) -> Any:
    """The customer edited a message: it is decided anew, as a newer version at the end.

    The same text again gets the same decision. The earlier version stays in the transcript.
    """
    edited = message(asked, asked.bot, edits=message_id)
    baton.limits.take_chars(principal.key_id, [text_chars([edited])])
    command = ScoreCommand(principal.workspace, conversation_id, edited)
    return JSONResponse(dict(await baton.engine.score(command)))


@router.delete(
    "/conversations/{conversation_id:path}/messages/{message_id:path}",
    response_model=RemovalResponse,
)
async def remove_message(
    conversation_id: Id, message_id: Id, baton: AppDependency, principal: Bot
) -> Any:
    """The customer removed a message: the words of all its versions go, and what they taught.

    A handoff that it led to stays. Decisions keep their action, and quote nothing any more.
    """
    removal = Removal(principal.workspace, conversation_id, message_id, principal.name)
    for _ in range(REMOVAL_ATTEMPTS_MAX):
        saved = await asyncio.to_thread(removal.prepare, baton.store)
        answer = await baton.engine.run(
            removal.workspace, partial(removal.remove, saved=saved), needs=removal.needs
        )
        if answer is not None:
            return JSONResponse(dict(answer))
    raise Contradiction(
        "busy_conversation",
        f"outcomes of conversation {conversation_id!r} keep coming",
        hint="send it again",
    )


@router.post("/conversations/{conversation_id:path}/close", response_model=CloseResponse)
async def close_conversation(
    request: Request,
    conversation_id: Id,
    asked: CloseRequest,
    baton: AppDependency,
    principal: Bot,
) -> Any:
    """Close a conversation; a handoff that still waits is abandoned.

    Sent again after a new message, it closes again, unless the Idempotency-Key is the same.
    """
    workspace = principal.workspace

    def close(batch: Batch) -> Mapping[str, Any]:
        conversation = batch.require_started(workspace, conversation_id)
        if conversation.status == "closed" and conversation.resolution != asked.resolution:
            raise Contradiction(
                "closed_otherwise",
                f"conversation {conversation_id!r} was closed as {conversation.resolution}",
                field="resolution",
                hint="a new message opens it again",
            )
        lifecycle.close_conversation(batch, conversation, asked.resolution)
        return {
            "conversation_id": conversation_id,
            "status": conversation.status,
            "resolution": conversation.resolution,
        }

    needs = conversation_rows.lock_targets(workspace, conversation_id)
    do_once = once(request, principal, asked.model_dump(), close)
    return JSONResponse(dict(await baton.engine.run(workspace, do_once, needs=needs)))


@router.get(
    "/conversations/{conversation_id:path}/messages/{message_id:path}/original",
    response_model=OriginalResponse,
)
async def get_original(
    conversation_id: Id, message_id: Id, baton: AppDependency, principal: Agent
) -> Any:
    """What a redacted message said, where the policy lets agents read it (`redaction.originals`).

    Each reading is an event of the security log.
    """
    workspace = principal.workspace
    originals.require_shown((await baton.engine.model_state(workspace)).policy)
    text = await baton.read(
        lambda connection: originals.original(
            connection, baton.settings, workspace, conversation_id, message_id
        )
    )
    subject = f"{conversation_id} {message_id}"
    baton.recorder.record("original_read", principal.name, subject, workspace=workspace)
    return JSONResponse(
        {"conversation_id": conversation_id, "message_id": message_id, "text": text}
    )


@router.get(
    "/conversations/{conversation_id:path}",
    response_model=Transcript,
    responses={304: {"description": "Nothing changed since the answer with this ETag."}},
)
async def get_conversation(
    conversation_id: Id,
    baton: AppDependency,
    principal: Bot,
    after: Annotated[
        int, Query(ge=0, le=2**31 - 1, description="Only turns and decisions after this place.")
    ] = 0,
    if_none_match: Annotated[
        str, Header(max_length=200, description="ETag of the answer that you have.")
    ] = "",
) -> Any:
    """A conversation: its state, transcript, decisions and handoffs; for agents, its outcomes.

    With `after`, the `seq` of the last turn you know, only what is newer, and all handoffs. Of
    more than a million characters the first are the answer, and `next` is where to go on.
    """
    workspace = principal.workspace

    def look(connection: Connection) -> dict[str, Any]:
        row = conversation_rows.conversation(connection, workspace, conversation_id)
        if row is None:
            raise no_conversation(conversation_id)
        decisions = conversation_rows.decisions(connection, workspace, conversation_id)
        turns = conversation_rows.messages(connection, workspace, conversation_id, after=after)
        shown = oldest_within(turns, SHOWN_CHARS_MAX)
        rows: dict[str, Any] = {
            "messages": turns[:shown],
            "decisions": [decision for decision in decisions if decision.seq > after],
            "handoffs": handoff_rows.of_conversation(connection, workspace, conversation_id),
        }
        if principal.role != "bot":
            outcomes = outcome_rows.of_conversation(connection, workspace, conversation_id)
            rows["outcomes"] = outcomes
        parts = {name: [_row_json(part) for part in listed] for name, listed in rows.items()}
        if principal.role == "bot":
            _say_replies(connection, baton.settings, workspace, conversation_id, parts["messages"])
        following = turns[shown - 1].seq if shown < len(turns) else None
        return _conversation_json(row) | parts | {"next": following}

    response = JSONResponse(await baton.read(look))
    if principal.role != "bot":
        baton.recorder.record(
            "transcript_read", principal.name, conversation_id, workspace=workspace
        )
    etag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    if etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",")):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return response


def _say_replies(
    connection: Connection,
    settings: Settings,
    workspace: str,
    conversation_id: str,
    messages: Sequence[dict[str, Any]],
) -> None:
    """Put what agents wrote in the place of what is kept of it: their bot says it."""
    if not any(turn["author"] == "agent" and turn["redacted"] for turn in messages):
        return
    written = outbox_rows.replies(connection, workspace, conversation_id, Sealer.of(settings))
    for turn in messages:
        turn["text"] = written.get(turn["seq"], turn["text"])


def _cursor(text: str) -> tuple[float, str]:
    """From `next` of a page. Raises Invalid."""
    at, _, name = text.partition(":")
    try:
        return float(at), name
    except ValueError as error:
        hint = "give `next` of the page before as it is, or leave it out"
        raise Invalid(
            "unknown_cursor", "after is no cursor of a page", field="after", hint=hint
        ) from error


def _conversation_json(row: Any) -> dict[str, Any]:
    return _row_json(row) | {"human_active": row.handoff_id is not None}


def _row_json(row: Any) -> dict[str, Any]:
    hidden = ("workspace", "fingerprint", "fired")
    return timed({name: value for name, value in row._asdict().items() if name not in hidden})
