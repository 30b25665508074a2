"""Score routes: decide about a message or a batch of them, answer an offer, replay a decision."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_json
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.handoffs import lifecycle
from service.runtime.errors import HTTP_STATUS, Invalid, NotFound, RequestRefused
from service.scoring import late_advice
from service.scoring.decide import ScoreCommand
from service.scoring.decision_response import (
    DecisionResponse,
    HandoffSummary,
    LanguageResponse,
    ReasonResponse,
    TriggerResponse,
    WordsResponse,
)
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.ledger import entries
from service.versions import switch_history
from service.web.access.keys import Principal
from service.web.api.versions import SwitchResponse
from service.web.error_responses import (
    ERRORS,
    error_json,
    error_response,
    invalid_response,
    validation_error,
)
from service.web.request_context import Agent, AppDependency, AppState, Bot, admit
from service.web.schemas import (
    ATTRIBUTES_MAX,
    BATCH_MAX,
    BATCH_TEXTS_CHARS_MAX,
    HISTORY_MAX,
    TEXT_CHARS_MAX,
    Advice,
    Error,
    Id,
    Report,
    RequestModel,
    ScoredMessage,
    ShortText,
    Turn,
    Value,
    about,
    message,
    require_texts,
    timed,
)

router = APIRouter(tags=["score"], responses=ERRORS)
_log = structlog.get_logger("baton.score")

SCORE_PATH, BATCH_PATH = "/v1/score", "/v1/score/batch"


class ScoreShortcut:
    """ASGI middleware that answers `POST /v1/score` and `/v1/score/batch` past FastAPI, whose
    solving of dependencies costs more than the decision, and whose reading of JSON more than
    Pydantic's; everything else goes through. The routes below describe them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "POST" else ""
        if path not in (SCORE_PATH, BATCH_PATH):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        response: Response
        try:
            principal = admit(request, "bot")
            answer = _score_batch if path == BATCH_PATH else _score_one
            content = to_json(
                await answer(request.app.state.baton, principal, await request.body())
            )
            response = Response(content, media_type="application/json")
        except RequestRefused as refusal:
            response = error_response(refusal)
        except ValidationError as error:
            response = invalid_response(error.errors(include_url=False))
        await response(scope, receive, send)


class ScoreRequest(RequestModel):
    """A message to decide about, and the turns since the last call."""

    conversation_id: Annotated[Id, about("The conversation's id, of your choosing.", "c-17")]
    message: Annotated[ScoredMessage, about("The message to decide about.")]
    bot: Annotated[Report | None, about("What the bot reports of its work at this message.")] = None
    history: Annotated[
        list[Turn],
        Field(max_length=HISTORY_MAX),
        about("The turns since the last call, the bot's replies among them, oldest first."),
    ] = []
    attributes: Annotated[
        dict[ShortText, Value],
        Field(max_length=ATTRIBUTES_MAX),
        about("What is known of the customer or case, by name.", {"plan": "pro", "orders": 3}),
    ] = {}

    advice: Advice = {}

    @model_validator(mode="after")
    def _fits(self) -> ScoreRequest:
        if self.history:
            require_texts((self.message.text, *(turn.text for turn in self.history)))
        return self

    def command(self, workspace: str) -> ScoreCommand:
        """The request as the engine takes it."""
        history = tuple(message(turn, turn.bot) for turn in self.history)
        scored = message(self.message, self.bot, self.attributes, self.advice)
        return ScoreCommand(workspace, self.conversation_id, scored, history)


class BatchRequest(RequestModel):
    """Messages to decide about, of one or many conversations; each item is checked by itself."""

    model_config = ConfigDict(str_max_length=None)

    items: Annotated[
        list[dict[str, Any]],
        Field(min_length=1, max_length=BATCH_MAX),
        about(
            "Each as for POST /v1/score.",
            [{"conversation_id": "c-17", "message": {"id": "m-1", "text": "where is my order"}}],
        ),
    ]


class BatchItemError(BaseModel):
    """Why one item of a batch was refused, and its HTTP status."""

    error: Annotated[Error, about("What was wrong.")]
    status: Annotated[int, about("The status that it alone would have had.", 409)]


class BatchResponse(BaseModel):
    """Results in the order of the items."""

    results: Annotated[
        list[DecisionResponse | BatchItemError], about("A decision or an error for each item.")
    ]


class LateAdvice(RequestModel):
    """Advice about a decision's message that came after it was made."""

    advice: Annotated[Advice, Field(min_length=1)]


class LateAdviceResponse(BaseModel):
    """Late advice on record."""

    decision_id: Annotated[str, about("The decision that it is about.", "d19ab2c3d4e5f60718293a4")]
    advice: Annotated[
        dict[str, float], about("It counts from the next message on.", {"judge": 0.7})
    ]


class OfferAnswer(RequestModel):
    """The customer's answer to an offered person."""

    accepted: Annotated[bool, about("Whether they want a person.", True)]


class OfferAnswerResponse(BaseModel):
    """What follows from the customer's answer."""

    decision_id: Annotated[str, about("The decision that offered.", "d19ab2c3d4e5f60718293a4")]
    answer: Annotated[Literal["accepted", "declined"], about("The answer on record.", "accepted")]
    handoff: Annotated[HandoffSummary | None, about("The handoff that it opened, if it did.")]


class SuggestedTeam(BaseModel):
    """The team that the model thinks likeliest."""

    team: Annotated[str, about("Its name.", "billing")]
    probability: Annotated[float, about("How sure the model is.", 0.62)]


class RouteResponse(BaseModel):
    """Whose word chose the team of a handoff."""

    by: Annotated[
        Literal["rule", "model", "default", "on_call"],
        about("Whose word it was; on_call: urgent, and its own team is not there.", "rule"),
    ]
    rule: Annotated[str | None, about("The rule that chose, if one did.", "legal")] = None
    suggested: Annotated[SuggestedTeam | None, about("What the model suggested, if it did.")] = None


class StoredDecision(BaseModel):
    """A decision as it was made, and how the version that made it came to serve."""

    id: Annotated[str, about("Its id.", "d19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    seq: Annotated[int, about("The message's place in the conversation, from 1.", 3)]
    message_id: Annotated[str, about("The message it is about.", "m-3")]
    action: Annotated[str, about("continue, offer, escalate or human_active.", "offer")]
    probability: Annotated[float | None, about("That a person is needed.", 0.31)]
    uncertainty: Annotated[float | None, about("Variance of its log odds.", 0.04)]
    offer_threshold: Annotated[float, about("From here on a person is offered.", 0.1)]
    escalate_threshold: Annotated[float, about("From here on a person is called.", 0.5)]
    triggers: Annotated[list[TriggerResponse], about("What spoke for a person.")]
    reasons: Annotated[list[ReasonResponse], about("Why, in words.")]
    handoff: Annotated[HandoffSummary | None, about("The open handoff as it was told then.")]
    team: Annotated[str, about("Whose work it would be.", "support")]
    priority: Annotated[int, about("1 is served first, 4 last.", 3)]
    route: Annotated[RouteResponse | None, about("Whose word chose the team, where one was.")]
    by_rule: Annotated[bool, about("Whether a rule or a request was among its triggers.", False)]
    version: Annotated[int, about("The model version that decided.", 3)]
    position: Annotated[int, about("The ledger position it had learned up to.", 202)]
    build: Annotated[str, about("The build (packages, processor) that computed it.", "5f0c9a")]
    answer: Annotated[str | None, about("The customer's answer to the offer.", "accepted")]
    at: Annotated[datetime, about("When it was made.", "2026-11-28T09:30:00+00:00")]
    say: Annotated[WordsResponse | None, about("Words that the bot might show.")]
    language: Annotated[LanguageResponse | None, about("The customer's language.")]
    held_out: Annotated[bool, about("Whether rules alone decided, drawn by lot (holdout).", False)]
    reopened: Annotated[bool, about("Its message opened the conversation again.", False)]


class DecisionWithVersion(StoredDecision):
    """A decision as it was made, and how the version that made it came to serve."""

    serving: Annotated[SwitchResponse | None, about("The switch in force at its position.")]


class ReplayedDecision(BaseModel):
    """The part of a decision that a replay must find again."""

    action: Annotated[str, about("continue, offer or escalate.", "offer")]
    probability: Annotated[float, about("That a person is needed.", 0.31)]
    uncertainty: Annotated[float | None, about("Variance of its log odds.", 0.04)]
    offer_threshold: Annotated[float, about("From here on a person is offered.", 0.1)]
    escalate_threshold: Annotated[float, about("From here on a person is called.", 0.5)]
    triggers: Annotated[list[TriggerResponse], about("What speaks for a person.")]
    reasons: Annotated[list[ReasonResponse], about("Why, in words.")]
    team: Annotated[str, about("Whose work it would be.", "support")]
    priority: Annotated[int, about("1 is served first, 4 last.", 3)]
    route: Annotated[RouteResponse | None, about("Whose word chose the team, where one was.")]


class ReplayResponse(BaseModel):
    """A past decision computed again from the stored conversation at its ledger position."""

    decision_id: Annotated[str, about("The decision.", "d19ab2c3d4e5f60718293a4")]
    identical: Annotated[
        bool | None, about("Whether it is the same to the bit; null where nobody can know.", True)
    ]
    why: Annotated[str | None, about("Why not, or why unknown.", "its text was removed")]
    again: Annotated[ReplayedDecision | None, about("The decision as computed now.")]


async def _score_one(baton: AppState, principal: Principal, body: bytes) -> Mapping[str, Any]:
    command = ScoreRequest.model_validate_json(body).command(principal.workspace)
    baton.limits.take_chars(principal.key_id, [_command_chars(command)])
    return await baton.engine.score(command)


async def _score_batch(baton: AppState, principal: Principal, body: bytes) -> Mapping[str, Any]:
    items = _parse_batch(body).items
    _require_texts(items)
    baton.limits.take(principal.key_id, len(items) - 1)
    parsed = [_parse_item(principal, item) for item in items]
    commands = [one for one in parsed if isinstance(one, ScoreCommand)]
    baton.limits.take_chars(principal.key_id, map(_command_chars, commands))
    read = iter(await baton.engine.with_texts_read(principal.workspace, commands))
    commands_or_errors = [next(read) if isinstance(one, ScoreCommand) else one for one in parsed]
    answers = (_score_item(baton, one) for one in commands_or_errors)
    return {"results": await asyncio.gather(*answers)}


def _command_chars(command: ScoreCommand) -> int:
    return sum([len(turn.text) for turn in (*command.history, command.message)])


def _parse_batch(body: bytes) -> BatchRequest:
    """Pydantic refuses a body for one lone surrogate in it; the other items are none the worse."""
    try:
        return BatchRequest.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid" or b"\\ud" not in body.lower():
            raise
        try:
            loaded = json.loads(body)
        except (ValueError, RecursionError):
            raise error from None
        return BatchRequest.model_validate(loaded)


@router.post("/score", response_model=DecisionResponse)
async def score_message(_asked: ScoreRequest) -> Any:
    """Decide about one message: continue, offer a person, or escalate.

    The same message id again gets the same decision; with another text it is 409.
    """
    raise NotFound("no_route", f"ScoreShortcut answers {SCORE_PATH} alone")


@router.post("/score/batch", response_model=BatchResponse)
async def score_batch(_asked: BatchRequest) -> Any:
    """Decide about up to 256 messages, each with its own result or error, in their order."""
    raise NotFound("no_route", f"ScoreShortcut answers {BATCH_PATH} alone")


def _require_texts(items: Sequence[dict[str, Any]]) -> None:
    total = sum(map(_text_chars, items))
    if total > BATCH_TEXTS_CHARS_MAX:
        raise Invalid(
            "texts_too_long",
            f"the texts have {total} characters together; the limit is {BATCH_TEXTS_CHARS_MAX}",
            field="items",
            hint="send them in several batches",
        )


def _text_chars(item: dict[str, Any]) -> int:
    """Characters of an item's texts, as they would be kept; whatever its shape is."""
    history = item.get("history")
    turns = [item.get("message"), *(history if isinstance(history, list) else ())]
    texts = [turn.get("text") for turn in turns if isinstance(turn, dict)]
    return sum(min(len(text), TEXT_CHARS_MAX) for text in texts if isinstance(text, str))


def _parse_item(principal: Principal, item: dict[str, Any]) -> ScoreCommand | dict[str, Any]:
    """An item of a batch as the engine takes it, or the error that is its result."""
    try:
        return ScoreRequest.model_validate(item).command(principal.workspace)
    except RequestRefused as refusal:
        return _item_error(refusal)
    except ValidationError as error:
        return _item_error(validation_error(error.errors(include_url=False)))


async def _score_item(baton: AppState, item: ScoreCommand | dict[str, Any]) -> Mapping[str, Any]:
    if not isinstance(item, ScoreCommand):
        return item
    try:
        return await baton.engine.decide(item)
    except RequestRefused as refusal:
        return _item_error(refusal)
    except Exception:
        _log.exception("item_broke", workspace=item.workspace)
        broken = {"code": "broken", "message": "something broke in Baton; its log says what"}
        return {"error": broken, "status": 500}


def _item_error(refusal: RequestRefused) -> dict[str, Any]:
    return error_json(refusal) | {"status": HTTP_STATUS[type(refusal)]}


@router.post("/decisions/{decision_id}/answer", response_model=OfferAnswerResponse)
async def answer_offer(
    decision_id: Id, asked: OfferAnswer, baton: AppDependency, principal: Bot
) -> Any:
    """Tell the customer's answer to an offer: accepted opens a handoff, declined a cool-down."""
    workspace = principal.workspace
    policy = (await baton.engine.model_state(workspace)).policy

    def record(batch: Batch) -> Mapping[str, Any]:
        row = conversation_rows.decision(batch.connection, workspace, decision_id)
        if row is None:
            raise _no_decision(decision_id)
        batch.open(workspace, {row.conversation_id: ()})
        settings = entries.workspace(batch.connection, workspace)
        live = settings is not None and settings.mode == "live"
        return lifecycle.answer_offer(
            batch, workspace, row._asdict(), asked.accepted, live=live, policy=policy
        )

    needs = _lock_decision(workspace, decision_id)
    return JSONResponse(dict(await baton.engine.run(workspace, record, needs=needs)))


def _lock_decision(
    workspace: str, decision_id: str
) -> Callable[[Connection], dict[str, list[str]]]:
    """What a request about a decision locks: its conversation."""

    def find(connection: Connection) -> dict[str, list[str]]:
        row = conversation_rows.decision(connection, workspace, decision_id)
        return {} if row is None else {row.conversation_id: []}

    return find


@router.post("/decisions/{decision_id}/advice", response_model=LateAdviceResponse)
async def add_late_advice(
    decision_id: Id, asked: LateAdvice, baton: AppDependency, principal: Bot
) -> Any:
    """Advice that came late: it counts from the next message of the conversation on."""
    workspace = principal.workspace

    def record(batch: Batch) -> Mapping[str, Any]:
        row = conversation_rows.decision(batch.connection, workspace, decision_id)
        if row is None:
            raise _no_decision(decision_id)
        return late_advice.record(batch, workspace, row, asked.advice)

    return JSONResponse(
        dict(
            await baton.engine.run(
                workspace, record, needs=_lock_decision(workspace, decision_id), appends=False
            )
        )
    )


@router.get("/decisions/{decision_id}", response_model=DecisionWithVersion)
async def get_decision(decision_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """A decision as it was made, and how the version that made it came to serve."""
    row = await _decision_row(baton, principal, decision_id)
    switch = await baton.read(
        lambda connection: switch_history.switch_at(
            connection, principal.workspace, row["position"]
        )
    )
    body = timed({name: value for name, value in row.items() if name != "workspace"})
    return JSONResponse(body | {"serving": switch and timed(switch)})


@router.get("/decisions/{decision_id}/replay", response_model=ReplayResponse)
async def replay_decision(decision_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """The same decision, recomputed at its position from the stored conversation."""
    row = await _decision_row(baton, principal, decision_id)
    replayed = await asyncio.to_thread(baton.replayer.replay, principal.workspace, row)
    return JSONResponse({"decision_id": decision_id} | replayed)


async def _decision_row(baton: AppState, principal: Principal, name: str) -> dict[str, Any]:
    row = await baton.read(
        lambda connection: conversation_rows.decision(connection, principal.workspace, name)
    )
    if row is None:
        raise _no_decision(name)
    return row._asdict()


def _no_decision(name: str) -> NotFound:
    return NotFound("no_decision", f"there is no decision {name!r} in this workspace")
