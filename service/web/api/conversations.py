"""Conversations: turns without a score, closing, and the transcript."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field, field_validator

from service.handoffs import lifecycle
from service.runtime.errors import Contradiction
from service.scoring.decide import new_turns, with_timestamp
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, no_conversation
from service.store.handoffs import handoff_rows
from service.store.labels import outcome_rows
from service.web.request_context import ERRORS, AppDependency, Bot
from service.web.schemas import HISTORY_MAX, Id, RequestModel, Turn, message, timed

router = APIRouter(tags=["conversations"], responses=ERRORS)


class MessagesRequest(RequestModel):
    """Turns of the bot, an agent or the system, in their order."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=HISTORY_MAX)]

    @field_validator("messages")
    @classmethod
    def _none_of_the_customer(cls, turns: list[Turn]) -> list[Turn]:
        for turn in turns:
            if turn.author == "user":
                raise ValueError(
                    f"message {turn.id!r} is the customer's: send it to POST /v1/score, "
                    "or in its history"
                )
        return turns


class CloseRequest(RequestModel):
    resolution: Literal["resolved", "abandoned", "unknown"]


@router.post("/conversations/{conversation_id:path}/messages")
async def append(
    conversation_id: Id, asked: MessagesRequest, baton: AppDependency, principal: Bot
) -> Any:
    """Append turns of the bot, an agent or the system without scoring them."""
    workspace = principal.workspace
    turns = tuple(message(turn, turn.bot) for turn in asked.messages)
    standing = await baton.engine.model_state(workspace)
    seconds = standing.policy.claim_seconds

    def do(batch: Batch) -> Mapping[str, Any]:
        working = batch.conversation(workspace, conversation_id)
        fresh = new_turns(working, turns)
        batch.require_room(working, len(fresh))
        for turn in fresh:
            batch.append(working, with_timestamp(turn, batch.now))
        if any(turn.author == "agent" for turn in fresh):
            lifecycle.extend_claim(batch, working, seconds)
        return {
            "conversation_id": conversation_id,
            "appended": len(fresh),
            "length": working.length,
            "human_active": working.handoff_id is not None,
        }

    needs = {conversation_id: [turn.id for turn in turns]}
    answer = await baton.engine.run(workspace, do, needs=needs)
    return JSONResponse(dict(answer))


@router.post("/conversations/{conversation_id:path}/close")
async def close(
    conversation_id: Id, asked: CloseRequest, baton: AppDependency, principal: Bot
) -> Any:
    """The conversation is over; a handoff that still waits is abandoned."""
    workspace = principal.workspace

    def do(batch: Batch) -> Mapping[str, Any]:
        working = batch.begun(workspace, conversation_id)
        if working.status == "closed" and working.resolution != asked.resolution:
            raise Contradiction(
                "closed_otherwise",
                f"conversation {conversation_id!r} was closed as {working.resolution}",
                field="resolution",
                hint="a new message opens it again",
            )
        if working.status == "open":
            if working.handoff_id is not None:
                row = handoff_rows.handoff(batch.connection, workspace, working.handoff_id)
                if row is not None and row.status == "waiting":
                    lifecycle.close(batch, row._asdict(), "abandoned")
            working.status, working.resolution = "closed", asked.resolution
            working.closed_at = batch.now
            batch.change(working)
        return {
            "conversation_id": conversation_id,
            "status": working.status,
            "resolution": working.resolution,
        }

    needs = conversation_rows.lock_targets(workspace, conversation_id)
    return JSONResponse(dict(await baton.engine.run(workspace, do, needs=needs)))


@router.get("/conversations/{conversation_id:path}")
async def conversation(conversation_id: Id, baton: AppDependency, principal: Bot) -> Any:
    """A conversation: its state, transcript, decisions and handoffs; for agents, its outcomes."""
    workspace = principal.workspace

    def look(connection: Any) -> dict[str, Any]:
        row = conversation_rows.conversation(connection, workspace, conversation_id)
        if row is None:
            raise no_conversation(conversation_id)
        found = {
            "messages": conversation_rows.messages(connection, workspace, conversation_id),
            "decisions": conversation_rows.decisions(connection, workspace, conversation_id),
            "handoffs": handoff_rows.of_conversation(connection, workspace, conversation_id),
        }
        if principal.role != "bot":
            outcomes = outcome_rows.of_conversation(connection, workspace, conversation_id)
            found["outcomes"] = outcomes
        parts = {name: [_shown(one) for one in ones] for name, ones in found.items()}
        return _shown(row) | {"human_active": row.handoff_id is not None} | parts

    return JSONResponse(await baton.read(look))


def _shown(row: Any) -> dict[str, Any]:
    hidden = ("workspace", "fingerprint", "fired")
    return timed({name: value for name, value in row._asdict().items() if name not in hidden})
