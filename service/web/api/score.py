"""Decisions: one message, a batch of them, an offer's answer, and a decision looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.handoffs import lifecycle
from service.runtime.errors import HTTP_STATUS, NotFound, RequestRefused
from service.scoring.decide import ScoreCommand
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.ledger import entries
from service.versions import switch_history
from service.web.access.keys import Principal
from service.web.request_context import (
    ERRORS,
    Agent,
    AppDependency,
    AppState,
    Bot,
    admit,
    fault,
    misshapen,
    problem,
    refused,
)
from service.web.schemas import (
    ATTRIBUTES_MAX,
    BATCH_MAX,
    HISTORY_MAX,
    Id,
    Report,
    RequestModel,
    ScoredMessage,
    ShortText,
    Turn,
    Value,
    message,
    timed,
)

router = APIRouter(tags=["decisions"], responses=ERRORS)
_log = structlog.get_logger("baton.score")


async def decided(request: Request) -> Response:
    """From the body's bytes to the engine and back, without FastAPI's solving of dependencies,
    which costs more than the decision. Raises Refusal, RequestValidationError.
    """
    principal = admit(request, "bot")
    try:
        asked = ScoreRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error
    baton: AppState = request.app.state.baton
    answer = await baton.engine.score(asked.ask(principal.workspace))
    return Response(to_json(answer), media_type="application/json")


class _Decided(APIRoute):
    """Keeps the route's description and answers with `decided`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return decided


class Shortcut:
    """Takes scoring past FastAPI's layers; everything else goes through them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/v1/score"):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await decided(request)
        except RequestRefused as refusal:
            response = refused(request, refusal)
        except RequestValidationError as error:
            response = misshapen(request, error)
        await response(scope, receive, send)


class ScoreRequest(RequestModel):
    """A message to decide about, and the turns since the last call."""

    conversation_id: Id
    message: ScoredMessage
    bot: Report | None = None
    history: Annotated[list[Turn], Field(max_length=HISTORY_MAX)] = []
    attributes: Annotated[dict[ShortText, Value], Field(max_length=ATTRIBUTES_MAX)] = {}

    def ask(self, workspace: str) -> ScoreCommand:
        history = tuple(message(turn, turn.bot) for turn in self.history)
        scored = message(self.message, self.bot, self.attributes)
        return ScoreCommand(workspace, self.conversation_id, scored, history)


class Thresholds(BaseModel):
    offer: float
    escalate: float


class Trigger(BaseModel):
    kind: str
    name: str
    message_ids: list[str]


class Reason(BaseModel):
    text: str
    weight: float


class HandoffSummary(BaseModel):
    """`promised_at`, where it is given: nobody of the team is there before."""

    id: str
    team: str
    priority: int
    promised_at: str | None = None


class Decision(BaseModel):
    """The answer to a scored message."""

    decision_id: str
    action: Literal["continue", "offer", "escalate", "human_active"]
    probability: float | None
    uncertainty: float | None
    thresholds: Thresholds
    triggers: list[Trigger]
    reasons: list[Reason]
    handoff: HandoffSummary | None
    version: int
    position: int


class BatchRequest(RequestModel):
    items: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=BATCH_MAX)]


class Answer(RequestModel):
    accepted: bool


@router.post("/score/batch")
async def score_batch(asked: BatchRequest, baton: AppDependency, principal: Bot) -> Any:
    """Decide about up to 256 messages, each with its own result or error, in their order."""
    results = await asyncio.gather(*(_one(baton, principal, item) for item in asked.items))
    return JSONResponse({"results": results})


async def score(asked: ScoreRequest) -> Any:
    """Decide about one message: continue, offer a person, or escalate."""


router.add_api_route(
    "/score", score, methods=["POST"], response_model=Decision, route_class_override=_Decided
)


async def _one(baton: AppDependency, principal: Principal, item: dict[str, Any]) -> dict[str, Any]:
    try:
        ask = ScoreRequest.model_validate(item).ask(principal.workspace)
        return dict(await baton.engine.score(ask))
    except RequestRefused as refusal:
        return problem(refusal) | {"status": HTTP_STATUS[type(refusal)]}
    except ValidationError as error:
        return problem(fault(error.errors(include_url=False))) | {"status": 422}
    except Exception:
        _log.exception("item_broke", workspace=principal.workspace)
        broken = {"code": "broken", "message": "something broke in Baton; its log says what"}
        return {"error": broken, "status": 500}


@router.post("/decisions/{decision_id}/answer")
async def answer(decision_id: Id, given: Answer, baton: AppDependency, principal: Bot) -> Any:
    """The customer's answer to an offer: accepted opens a handoff, declined a cool-down."""
    workspace = principal.workspace
    policy = (await baton.engine.model_state(workspace)).policy

    def do(batch: Batch) -> Mapping[str, Any]:
        row = conversation_rows.decision(batch.connection, workspace, decision_id)
        if row is None:
            raise _missing(decision_id)
        batch.open(workspace, {row.conversation_id: ()})
        here = entries.workspace(batch.connection, workspace)
        live = here is not None and here.mode == "live"
        return lifecycle.answer_offer(
            batch, workspace, row._asdict(), given.accepted, live=live, policy=policy
        )

    def needs(connection: Connection) -> dict[str, list[str]]:
        row = conversation_rows.decision(connection, workspace, decision_id)
        return {} if row is None else {row.conversation_id: []}

    return JSONResponse(dict(await baton.engine.run(workspace, do, needs=needs)))


@router.get("/decisions/{decision_id}")
async def decision(decision_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """A decision as it was made, and how the version that made it came to serve."""
    row = await _decision(baton, principal, decision_id)
    found = await baton.read(
        lambda connection: switch_history.switch_at(
            connection, principal.workspace, row["position"]
        )
    )
    shown = {name: value for name, value in row.items() if name != "workspace"}
    return JSONResponse(timed(shown) | {"serving": found})


@router.get("/decisions/{decision_id}/replay")
async def replay(decision_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """The same decision, recomputed at its position from the stored conversation."""
    row = await _decision(baton, principal, decision_id)
    found = await asyncio.to_thread(baton.replayer.replay, principal.workspace, row)
    return JSONResponse({"decision_id": decision_id} | found)


async def _decision(baton: AppDependency, principal: Principal, name: str) -> dict[str, Any]:
    row = await baton.read(
        lambda connection: conversation_rows.decision(connection, principal.workspace, name)
    )
    if row is None:
        raise _missing(name)
    return row._asdict()


def _missing(name: str) -> NotFound:
    return NotFound("no_decision", f"there is no decision {name!r} in this workspace")
