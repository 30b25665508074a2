"""Missed: find a conversation that the bot kept, and say since when a person was needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import AfterValidator, Field
from sqlalchemy import Connection

from service.outcomes import record_outcome
from service.outcomes.verdict import OWN_SOURCES, Verdict
from service.runtime.errors import HTTP_STATUS, Contradiction, NotFound, RequestRefused
from service.store.conversations import conversation_rows, search
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows
from service.store.labels import outcome_rows
from service.web.console.rendering import page
from service.web.console.signed_in_user import Actor, SessionUser, Viewer
from service.web.request_context import AppDependency, AppState
from service.web.schemas import Id, NoteText

router = APIRouter(prefix="/missed")
AROUND_CHARS = 110
Words = Annotated[str, Field(max_length=200), AfterValidator(str.strip)]


@router.get("")
async def find(
    request: Request,
    baton: AppDependency,
    visitor: Viewer,
    text: Annotated[Words, Query(alias="q")] = "",
    before: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
) -> Any:
    """Kept conversations by id, by what was said in them, or by what was known of the customer."""

    def look(connection: Connection) -> tuple[search.SearchResults, bool]:
        exact = bool(text) and search.kept_by_id(connection, visitor.workspace, text) is not None
        return search.search_kept(connection, visitor.workspace, text, before), exact

    found, exact = await baton.read(look)
    if exact:
        return RedirectResponse(address(text), 303)
    shown = [one | {"pieces": list(_pieces(one["text"], text))} for one in found.conversations]
    return page(
        request,
        visitor,
        "missed.html",
        q=text,
        search=found,
        found=shown,
        looked_at_most=search.SCANNED_MAX,
    )


@router.get("/conversation")
async def one(
    request: Request, baton: AppDependency, visitor: Viewer, name: Annotated[Id, Query(alias="id")]
) -> Any:
    """A kept conversation, to say what was true of it."""
    return await _one(request, baton, visitor, name)


@router.post("/conversation")
async def tell(
    request: Request,
    baton: AppDependency,
    visitor: Actor,
    name: Annotated[Id, Form(alias="id")],
    verdict: Annotated[Literal["missed", "fine"], Form()],
    since: Annotated[Id | None, Form()] = None,
    team: Annotated[str, Form(max_length=64)] = "",
    note: Annotated[NoteText, Form()] = "",
) -> Any:
    """What was true of it. Told again, it corrects what was told before."""
    late = verdict == "missed"
    policy = (await baton.engine.model_state(visitor.workspace)).policy
    found = Verdict(
        verdict,
        "agent",
        visitor.name,
        since if late else None,
        team if late and team in policy.team_names else None,
        note=note.strip() or None,
    )

    def do(batch: Batch) -> Mapping[str, Any]:
        held = outcome_rows.current(batch.connection, visitor.workspace, name, None)
        if held is None or held.source in OWN_SOURCES:
            return record_outcome.record_for_conversation(batch, visitor.workspace, name, found)
        corrected = replace(found, source=held.source)
        return record_outcome.correct(batch, visitor.workspace, held.id, corrected, found.team)

    return await _told(request, baton, visitor, name, do)


@router.post("/undo")
async def undo(
    request: Request, baton: AppDependency, visitor: Actor, name: Annotated[Id, Form(alias="id")]
) -> Any:
    """Take back what was told."""

    def do(batch: Batch) -> Mapping[str, Any]:
        held = outcome_rows.current(batch.connection, visitor.workspace, name, None)
        if held is None:
            return {}
        return record_outcome.retract(batch, visitor.workspace, held.id, visitor.name)

    return await _told(request, baton, visitor, name, do)


def address(name: str) -> str:
    """The page of a kept conversation."""
    return f"/console/missed/conversation?id={quote(name, safe='')}"


async def _told(request: Request, baton: AppState, visitor: SessionUser, name: str, do: Any) -> Any:
    needs = conversation_rows.lock_targets(visitor.workspace, name)
    try:
        await baton.engine.run(visitor.workspace, do, needs=needs)
    except (Contradiction, NotFound) as refusal:
        return await _one(request, baton, visitor, name, refusal)
    return RedirectResponse(address(name), 303)


async def _one(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    name: str,
    refusal: RequestRefused | None = None,
) -> Any:
    workspace = visitor.workspace

    def look(connection: Connection) -> dict[str, Any]:
        found = conversation_rows.conversation(connection, workspace, name)
        if found is None:
            raise NotFound(
                "no_conversation",
                f"there is no conversation {name!r} in this workspace",
                hint="search for another of its words, or look further back",
            )
        return {
            "conversation": found,
            "turns": conversation_rows.messages(connection, workspace, name),
            "held": outcome_rows.current(connection, workspace, name, None),
            "handoffs": handoff_rows.of_conversation(connection, workspace, name),
        }

    found = await baton.read(look)
    policy = (await baton.engine.model_state(workspace)).policy
    return page(
        request,
        visitor,
        "kept.html",
        200 if refusal is None else HTTP_STATUS[type(refusal)],
        teams=policy.team_names,
        attributes=_attributes(found["turns"]),
        refusal=refusal,
        **found,
    )


def _attributes(turns: Any) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for turn in turns:
        given |= turn.attributes or {}
    return given


def _pieces(text: str, asked: str) -> Iterator[tuple[str, bool]]:
    """A text around the first word that was asked for; what was found is marked."""
    words = [word.lower() for word in asked.split()]
    low = text.lower()
    if len(low) != len(text):  # a letter that is two in lower case: nothing can be marked
        yield text[: 2 * AROUND_CHARS], False
        return
    places = [(low.find(word), len(word)) for word in words if word in low]
    at, length = min(places, default=(0, 0))
    begins, ends = max(0, at - AROUND_CHARS), at + length + AROUND_CHARS
    yield ("…" if begins else "") + text[begins:at], False
    yield text[at : at + length], True
    yield text[at + length : ends] + ("…" if ends < len(text) else ""), False
