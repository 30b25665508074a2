"""Missed page: search kept conversations, and report one that needed a person after all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import AfterValidator, Field
from sqlalchemy import Connection

from service.handoffs import brief
from service.outcomes import record_outcome, retraction
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
async def search_kept(
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

    page_of_results, exact = await baton.read(look)
    if exact:
        return RedirectResponse(address(text), 303)
    results = [
        row | {"pieces": list(_pieces(row["text"], text))} for row in page_of_results.conversations
    ]
    return page(
        request,
        visitor,
        "missed.html",
        q=text,
        search=page_of_results,
        found=results,
        looked_at_most=search.SCANNED_MAX,
    )


@router.get("/conversation")
async def get_kept(
    request: Request, baton: AppDependency, visitor: Viewer, name: Annotated[Id, Query(alias="id")]
) -> Any:
    """A kept conversation, to say what was true of it."""
    return await _render_kept(request, baton, visitor, name)


@router.post("/conversation")
async def post_verdict(
    request: Request,
    baton: AppDependency,
    visitor: Actor,
    name: Annotated[Id, Form(alias="id")],
    verdict: Annotated[Literal["missed", "fine"], Form()],
    since: Annotated[Id | None, Form()] = None,
    team: Annotated[str, Form(max_length=64)] = "",
    note: Annotated[NoteText, Form()] = "",
) -> Any:
    """Record what was true of it; given again, it corrects the outcome before."""
    late = verdict == "missed"
    policy = (await baton.engine.model_state(visitor.workspace)).policy
    given_verdict = Verdict(
        verdict,
        "agent",
        visitor.name,
        since if late else None,
        team if late and team in policy.team_names else None,
        note=note.strip() or None,
    )
    given_verdict = await baton.redacted(visitor.workspace, given_verdict)

    def action(batch: Batch) -> Mapping[str, Any]:
        held = outcome_rows.current(batch.connection, visitor.workspace, name, None)
        if held is None or held.source in OWN_SOURCES:
            return record_outcome.record_for_conversation(
                batch, visitor.workspace, name, given_verdict
            )
        corrected = replace(given_verdict, source=held.source)
        return record_outcome.correct(
            batch, visitor.workspace, held.id, corrected, given_verdict.team
        )

    return await _run_action(request, baton, visitor, name, action)


@router.post("/undo")
async def undo_verdict(
    request: Request, baton: AppDependency, visitor: Actor, name: Annotated[Id, Form(alias="id")]
) -> Any:
    """Retract the outcome."""

    def action(batch: Batch) -> Mapping[str, Any]:
        held = outcome_rows.current(batch.connection, visitor.workspace, name, None)
        if held is None:
            return {}
        return retraction.retract_and_unlearn(batch, visitor.workspace, held.id, visitor.name)

    return await _run_action(request, baton, visitor, name, action)


def address(name: str) -> str:
    """The page of a kept conversation."""
    return f"/console/missed/conversation?id={quote(name, safe='')}"


async def _run_action(
    request: Request, baton: AppState, visitor: SessionUser, name: str, action: Any
) -> Any:
    needs = conversation_rows.lock_targets(visitor.workspace, name)
    try:
        await baton.engine.run(visitor.workspace, action, needs=needs)
    except (Contradiction, NotFound) as refusal:
        return await _render_kept(request, baton, visitor, name, refusal)
    return RedirectResponse(address(name), 303)


async def _render_kept(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    name: str,
    refusal: RequestRefused | None = None,
) -> Any:
    workspace = visitor.workspace

    def look(connection: Connection) -> dict[str, Any]:
        conversation = conversation_rows.conversation(connection, workspace, name)
        if conversation is None:
            raise NotFound(
                "no_conversation",
                f"there is no conversation {name!r} in this workspace",
                hint="search for another of its words, or look further back",
            )
        turns = conversation_rows.messages(connection, workspace, name)
        return {
            "conversation": conversation,
            "turns": turns[brief.newest_within(turns, brief.SHOWN_CHARS_MAX) :],
            "held": outcome_rows.current(connection, workspace, name, None),
            "handoffs": handoff_rows.of_conversation(connection, workspace, name),
        }

    context = await baton.read(look)
    policy = (await baton.engine.model_state(workspace)).policy
    return page(
        request,
        visitor,
        "kept.html",
        200 if refusal is None else HTTP_STATUS[type(refusal)],
        teams=policy.team_names,
        attributes=_attributes(context["turns"]),
        refusal=refusal,
        **context,
    )


def _attributes(turns: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for turn in turns:
        attributes |= turn.attributes or {}
    return attributes


def _pieces(text: str, query: str) -> Iterator[tuple[str, bool]]:
    """Search snippet: the text around the first match, which is marked."""
    words = [word.lower() for word in query.split()]
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
