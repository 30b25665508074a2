"""Canned replies page: texts that agents reply with often, written and removed by anybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import AfterValidator, Field

from service.runtime.errors import HTTP_STATUS, Invalid, RequestRefused
from service.store.conversations.batch import Batch
from service.store.handoffs import canned_reply_rows
from service.web.console.rendering import page
from service.web.console.signed_in_user import Actor, SessionUser, Viewer
from service.web.request_context import AppDependency, AppState
from service.web.schemas import RequiredNote

router = APIRouter(prefix="/replies")
Name = Annotated[str, Field(max_length=60), AfterValidator(str.strip)]
_HOME = "/console/replies"


@router.get("")
async def get_replies(
    request: Request, baton: AppDependency, visitor: Viewer, edit: Annotated[Name, Query()] = ""
) -> Any:
    """All of the workspace, and a form for another, or for one that is to be changed."""
    return await _render(request, baton, visitor, edit)


@router.post("")
async def put_reply(
    request: Request,
    baton: AppDependency,
    visitor: Actor,
    name: Annotated[Name, Form()],
    text: Annotated[RequiredNote, Form()],
) -> Any:
    """Keep a reply; one of the same name is replaced."""

    def put(batch: Batch) -> None:
        if not name:
            raise Invalid("no_name", "a canned reply needs a name", hint="name it in a word or two")
        known = {row.name for row in canned_reply_rows.of_workspace(batch.connection, where)}
        if name not in known and len(known) >= canned_reply_rows.REPLIES_MAX:
            raise Invalid(
                "too_many_replies",
                f"there are {canned_reply_rows.REPLIES_MAX} canned replies already",
                hint="remove one that nobody uses",
            )
        row = {"workspace": where, "name": name, "text": text}
        made = {"made_by": visitor.name, "changed_at": batch.now}
        canned_reply_rows.put(batch.connection, row | made)

    where = visitor.workspace
    return await _change(request, baton, visitor, put, typed=(name, text))


@router.post("/remove")
async def remove_reply(
    request: Request, baton: AppDependency, visitor: Actor, name: Annotated[Name, Form()]
) -> Any:
    """Remove a reply."""

    def remove(batch: Batch) -> None:
        canned_reply_rows.remove(batch.connection, visitor.workspace, name)

    return await _change(request, baton, visitor, remove)


async def _change(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    do: Callable[[Batch], None],
    typed: tuple[str, str] = ("", ""),
) -> Any:
    try:
        await baton.engine.run(visitor.workspace, do, appends=False)
    except RequestRefused as refusal:
        return await _render(request, baton, visitor, "", refusal, typed)
    return RedirectResponse(_HOME, 303)


async def _render(
    request: Request,
    baton: AppState,
    visitor: SessionUser,
    edit: str,
    refusal: RequestRefused | None = None,
    typed: tuple[str, str] = ("", ""),
) -> Any:
    rows = await baton.read(
        lambda connection: canned_reply_rows.of_workspace(connection, visitor.workspace)
    )
    typed = next(((row.name, row.text) for row in rows if row.name == edit), typed)
    status = 200 if refusal is None else HTTP_STATUS[type(refusal)]
    context: dict[str, Any] = {"replies": rows, "typed": typed, "refusal": refusal}
    return page(request, visitor, "replies.html", status, **context)
