"""Handoffs: the queue, the context packet, and what an agent does with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from service.handoffs import brief, lifecycle, notes, transfers
from service.runtime.errors import NotFound
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows
from service.web.request_context import ERRORS, Agent, AppDependency, once
from service.web.schemas import Id, NoteText, RequestModel, Said, ShortText, timed

router = APIRouter(prefix="/handoffs", tags=["handoffs"], responses=ERRORS)
_HIDDEN = ("workspace", "changed_at", "fired")
Status = Literal["waiting", "claimed", "resolved", "returned", "abandoned"]


class Remark(RequestModel):
    """What one agent tells the others; the customer and the bot never see it."""

    text: Said


class Transfer(RequestModel):
    """The team that it belongs to, and what they should know."""

    team: ShortText
    note: NoteText | None = None


@router.get("")
async def queue(
    baton: AppDependency,
    principal: Agent,
    status: Status | None = None,
    team: ShortText | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Any:
    """Handoffs, the most urgent and oldest first."""
    found = await baton.read(
        lambda connection: handoff_rows.queue(
            connection, principal.workspace, status=status, team=team, most=limit
        )
    )
    return JSONResponse({"handoffs": [_shown(row._asdict()) for row in found]})


@router.get("/{handoff_id}")
async def handoff(handoff_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """The whole context of a handoff: the customer repeats nothing."""
    workspace = principal.workspace

    def look(connection: Any) -> dict[str, Any]:
        row = handoff_rows.handoff(connection, workspace, handoff_id)
        if row is None:
            raise NotFound("no_handoff", f"there is no handoff {handoff_id!r} in this workspace")
        found = brief.context_packet(connection, workspace, row._asdict())
        for name in ("transcript", "remarks"):
            found[name] = [timed(one) for one in found[name]]
        found["outcome"] = found["outcome"] and timed(found["outcome"])
        return _shown(row._asdict()) | found

    return JSONResponse(await baton.read(look))


@router.post("/{handoff_id}/claim")
async def claim(handoff_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """Take a handoff, or keep it: a claim ends when its agent goes quiet."""
    workspace = principal.workspace
    standing = await baton.engine.model_state(workspace)
    seconds = standing.policy.claim_seconds

    def do(batch: Batch) -> Mapping[str, Any]:
        return lifecycle.claim(batch, workspace, handoff_id, principal.name, seconds)

    needs = lifecycle.lock_targets(workspace, handoff_id)
    answer = await baton.engine.run(workspace, do, needs=needs)
    return JSONResponse(_shown(dict(answer)))


@router.post("/{handoff_id}/note")
async def note(handoff_id: Id, asked: Remark, baton: AppDependency, principal: Agent) -> Any:
    """Keep a note for other agents; it stands in the context and is no turn to the bot."""
    workspace = principal.workspace
    seconds = (await baton.engine.model_state(workspace)).policy.claim_seconds

    def do(batch: Batch) -> Mapping[str, Any]:
        return notes.add_note(batch, workspace, handoff_id, principal.name, asked.text, seconds)

    needs = lifecycle.lock_targets(workspace, handoff_id)
    return JSONResponse(timed(dict(await baton.engine.run(workspace, do, needs=needs))))


@router.post("/{handoff_id}/transfer")
async def transfer(
    request: Request, handoff_id: Id, asked: Transfer, baton: AppDependency, principal: Agent
) -> Any:
    """Let it wait for another team, which the policy must speak of."""
    workspace = principal.workspace
    policy = (await baton.engine.model_state(workspace)).policy

    def do(batch: Batch) -> Mapping[str, Any]:
        given = (handoff_id, principal.name, asked.team, asked.note)
        return _shown(transfers.transfer(batch, policy, workspace, *given))

    done = once(request, principal, asked.model_dump(), do)
    needs = lifecycle.lock_targets(workspace, handoff_id)
    return JSONResponse(dict(await baton.engine.run(workspace, done, needs=needs)))


@router.post("/{handoff_id}/return")
async def give_back(handoff_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """Give the conversation back to the bot."""
    return await _end(handoff_id, baton, principal, "returned")


@router.post("/{handoff_id}/resolve")
async def resolve(handoff_id: Id, baton: AppDependency, principal: Agent) -> Any:
    """The person settled it; later messages are the bot's again."""
    return await _end(handoff_id, baton, principal, "resolved")


async def _end(
    handoff_id: str, baton: AppDependency, principal: Agent, status: str
) -> JSONResponse:
    workspace = principal.workspace

    def do(batch: Batch) -> Mapping[str, Any]:
        return lifecycle.end(batch, workspace, handoff_id, principal.name, status)

    needs = lifecycle.lock_targets(workspace, handoff_id)
    answer = await baton.engine.run(workspace, do, needs=needs)
    return JSONResponse(_shown(dict(answer)))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return timed({name: value for name, value in row.items() if name not in _HIDDEN})
