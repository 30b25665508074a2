"""Try-it page: chat as a customer with a scripted bot, and watch what Baton decides and why.

It happens in a workspace of its own beside the real one, by that one's policy: nothing in it is
learned, counted, published, or waits in the queue, and the page has the agent's side, too. In a
demo it happens in the workspace itself, whose queue then has the handoff.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import Field
from sqlalchemy import Connection

from learning.conversation.state import Message
from service.handoffs import lifecycle, replies
from service.handoffs.status import OPEN
from service.runtime.errors import HTTP_STATUS, Contradiction, Invalid, NotFound, RequestRefused
from service.runtime.ids import new_id
from service.scoring.decide import ScoreCommand
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows
from service.store.ledger import entries
from service.versions.switches import begin_workspace
from service.web.console.rendering import page
from service.web.console.settings import scripted_bot
from service.web.console.signed_in_user import Actor, SessionUser, Viewer
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id

router = APIRouter(prefix="/try")
PATH = "/console/try"
TURNS_MAX = 200
TryId = Annotated[str, Field(pattern=r"^try-[0-9a-f]{16}$")]
Words = Annotated[str, Form(max_length=2000)]


@router.get("")
async def get_try(
    request: Request,
    baton: AppDependency,
    visitor: Viewer,
    chat: Annotated[TryId | None, Query(alias="c")] = None,
) -> Any:
    """The chat, its decisions, and the agent's side where it is not in the queue."""
    return await _render(request, baton, visitor, chat)


@router.post("")
async def say(
    request: Request,
    baton: AppDependency,
    visitor: Actor,
    text: Words = "",
    chat: Annotated[TryId | None, Form(alias="c")] = None,
    message_id: Annotated[Id | None, Form()] = None,
) -> Any:
    """The customer writes: Baton decides, and the bot does as it says."""
    chat, words = chat or f"try-{secrets.token_hex(8)}", text.strip()
    message_id = message_id or new_id("m")
    baton.limits.take(visitor.principal.key_id, 1)
    try:
        if not words:
            raise Invalid("empty_message", "the message says nothing", hint="write as a customer")
        workspace = await _prepared(baton, visitor)
        await _require_room(baton, workspace, chat)
        said = Message(message_id, "user", words, 0.0)
        decision = await baton.engine.score(ScoreCommand(workspace, chat, said))
        turn = scripted_bot.turn_after(decision, words, f"{message_id}-bot")
        if turn is not None:
            await _append(baton, workspace, chat, turn)
    except RequestRefused as refusal:
        return await _render(request, baton, visitor, chat, refusal, words)
    return _back(chat)


@router.post("/answer")
async def answer_offer(
    request: Request,
    baton: AppDependency,
    visitor: Actor,
    chat: Annotated[TryId, Form(alias="c")],
    decision_id: Annotated[Id, Form()],
    answer: Annotated[Literal["yes", "no"], Form()],
) -> Any:
    """The customer answers the offer of a person."""
    workspace, accepted = trial_of(baton, visitor), answer == "yes"
    policy = (await baton.engine.model_state(workspace)).policy

    def record(batch: Batch) -> Mapping[str, Any]:
        row = conversation_rows.decision(batch.connection, workspace, decision_id)
        if row is None or row.conversation_id != chat:
            raise NotFound("no_decision", f"there is no decision {decision_id!r} in this chat")
        batch.open(workspace, {chat: ()})
        decision = row._asdict()
        return lifecycle.answer_offer(
            batch, workspace, decision, accepted, live=True, policy=policy
        )

    try:
        await baton.engine.run(workspace, record, needs={chat: []})
        words = scripted_bot.SAYS["accepted" if accepted else "declined"]
        await _append(baton, workspace, chat, Message(f"{decision_id}-bot", "bot", words, 0.0))
    except RequestRefused as refusal:
        return await _render(request, baton, visitor, chat, refusal)
    return _back(chat)


@router.post("/person")
async def act_as_person(
    request: Request,
    baton: AppDependency,
    visitor: Actor,
    chat: Annotated[TryId, Form(alias="c")],
    handoff_id: Annotated[Id, Form()],
    text: Words = "",
    then: Annotated[Literal["", "return"], Form()] = "",
) -> Any:
    """The agent writes to the customer, or gives the conversation back to the bot."""
    workspace, words = trial_of(baton, visitor), text.strip()
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds

    def act(batch: Batch) -> Mapping[str, Any]:
        row = handoff_rows.handoff(batch.connection, workspace, handoff_id)
        if row is None or row.conversation_id != chat:
            raise NotFound("no_handoff", f"there is no handoff {handoff_id!r} in this chat")
        if then == "return":
            return lifecycle.end(batch, workspace, handoff_id, visitor.name, "returned")
        if not words:
            raise Invalid("empty_reply", "the reply says nothing", hint="write to the customer")
        said = Message("", "agent", words, 0.0)
        return replies.reply(batch, workspace, handoff_id, visitor.name, said, seconds)

    try:
        await baton.engine.run(workspace, act, needs=lifecycle.lock_targets(workspace, handoff_id))
        if then == "return":
            back = Message(f"{handoff_id}-back", "bot", scripted_bot.SAYS["returned"], 0.0)
            await _append(baton, workspace, chat, back)
    except RequestRefused as refusal:
        return await _render(request, baton, visitor, chat, refusal)
    return _back(chat)


def trial_of(baton: AppState, visitor: SessionUser) -> str:
    """Where the chat happens: no workspace that a request makes can be named so."""
    return visitor.workspace if baton.settings.demo else visitor.workspace + entries.TRIAL


async def _prepared(baton: AppState, visitor: SessionUser) -> str:
    """The workspace to chat in, made where there is none, under the policy of the real one."""
    workspace = trial_of(baton, visitor)
    if workspace == visitor.workspace:
        return workspace
    policy = (await baton.engine.model_state(visitor.workspace)).policy

    def begin(batch: Batch) -> None:
        begin_workspace(batch.connection, workspace, "live", visitor.name, baton.settings.recipe)

    if await baton.read(lambda connection: entries.workspace(connection, workspace)) is None:
        await baton.engine.run(visitor.workspace, begin, appends=False)
    if (await baton.engine.model_state(workspace)).policy != policy:

        def copy(batch: Batch) -> None:
            entries.lock_head(batch.connection, workspace)
            body = policy.model_dump(mode="json")
            entries.append(batch.connection, workspace, "policy", body, visitor.name)

        await baton.engine.run(workspace, copy)
    return workspace


async def _require_room(baton: AppState, workspace: str, chat: str) -> None:
    row = await baton.read(lambda c: conversation_rows.conversation(c, workspace, chat))
    if row is not None and row.length >= TURNS_MAX:
        raise Contradiction("chat_full", f"this chat has {TURNS_MAX} turns", hint="begin a new one")


async def _append(baton: AppState, workspace: str, chat: str, turn: Message) -> None:
    """The bot's turn, once."""

    def append(batch: Batch) -> None:
        conversation = batch.conversation(workspace, chat)
        if turn.id not in conversation.messages:
            batch.append(conversation, replace(turn, at=batch.now))

    await baton.engine.run(workspace, append, needs={chat: [turn.id]})


def _back(chat: str) -> RedirectResponse:
    return RedirectResponse(f"{PATH}?c={chat}#newest", 303)


async def _render(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    chat: str | None,
    refusal: RequestRefused | None = None,
    typed: str = "",
) -> Any:
    workspace = trial_of(baton, visitor)

    def look(connection: Connection) -> dict[str, Any]:
        if chat is None:
            return {"turns": [], "decisions": {}, "last": None, "handoff": None}
        decisions = conversation_rows.decisions(connection, workspace, chat)
        handoffs = handoff_rows.of_conversation(connection, workspace, chat)
        messages = conversation_rows.messages(connection, workspace, chat)
        return {
            "turns": [row for row in messages if row.author != "system"],
            "decisions": {row.message_id: row for row in decisions},
            "last": decisions[-1] if decisions else None,
            "handoff": next((row for row in handoffs if row.status in OPEN), None),
        }

    status = 200 if refusal is None else HTTP_STATUS[type(refusal)]
    context = await baton.read(look)
    shown: dict[str, Any] = {
        "chat": chat,
        "typed": typed,
        "message_id": new_id("m"),
        "demo": workspace == visitor.workspace,
        "refusal": refusal,
    }
    return page(request, visitor, "try.html", status, **shown, **context)
