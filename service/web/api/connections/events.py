"""Event routes: a workspace's stream (server-sent events), and webhooks with their deliveries."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Connection
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from service.connections.http.addresses import AddressPolicy, ForbiddenAddressError, check_url
from service.runtime.errors import Contradiction, Invalid, NotFound
from service.runtime.ids import new_id
from service.runtime.sealing import Sealer
from service.store import security_log
from service.store.conversations.batch import Batch
from service.store.ledger import entries, outbox_rows, webhook_rows
from service.web.access import sessions
from service.web.access.keys import Principal, hashed
from service.web.error_responses import ERRORS
from service.web.event_stream.broadcast import EventBroadcaster, SlowSubscriber, Subscriber
from service.web.request_context import Admin, AppDependency, AppState, admit
from service.web.schemas import Id, RequestModel, about, timed

router = APIRouter(tags=["events"], responses=ERRORS)
webhooks = APIRouter(tags=["webhooks"], responses=ERRORS)

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "for agents all types of webhooks; for bots `handoff.opened`, `.raised`, "
        "`.claimed`, `.assigned`, `.returned`, `.resolved`, `.unanswered`, `.abandoned` and "
        "`message.agent`; `hello` at first, and `reset` where too much happened to tell",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/events", response_class=EventSourceResponse, responses=_STREAM)
async def stream_events(
    request: Request,
    baton: AppDependency,
    last_event_id: Annotated[
        str, Header(max_length=100, description="Id of the last event heard.")
    ] = "",
    after: Annotated[
        str, Query(max_length=100, description="The same, for who cannot send that header.")
    ] = "",
) -> Any:
    """What happens from now on, or from after the event Last-Event-ID.

    In one order, which drops nothing. For agents all that webhooks hear (`handoff.…`, `decision.…`,
    `outcome.…`, `version.switched`, ...); for bots what happens to handoffs. What agents write is
    `message.agent` with its `text`, to be said to the customer where `deliver` is true. One may
    come twice after a reconnection; its `event_id` is the same.
    """
    principal, session = await _authenticate(request, baton)
    subscriber = await baton.broadcaster.subscribe(principal, session, last_event_id or after)
    return Stream(baton.broadcaster, subscriber)


class Stream(EventSourceResponse):
    """The response of one subscriber, who leaves when the connection ends, however it does.

    The broadcaster tells it that it lives, so that no timer runs for each connection.
    """

    def __init__(self, broadcaster: EventBroadcaster, subscriber: Subscriber) -> None:
        super().__init__(subscriber.chunks(), ping=0, sep="\n")
        self._broadcaster, self._subscriber = broadcaster, subscriber

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._subscriber.send = send
        try:
            await super().__call__(scope, receive, send)
        except SlowSubscriber:
            pass  # whoever takes nothing cannot be told why
        finally:
            self._broadcaster.leave(self._subscriber)


async def _authenticate(request: Request, baton: AppState) -> tuple[Principal, str | None]:
    """Who subscribes, and by which session. Raises Unauthenticated, Forbidden."""
    cookie = sessions.cookie_of(request.cookies, is_secure=request.url.scheme == "https")
    if cookie and "authorization" not in request.headers:
        principal = await baton.read(lambda connection: sessions.session_holder(connection, cookie))
        if principal is not None:
            principal.require("agent")
            return principal, hashed(cookie)
    return admit(request, "bot"), None


DeliveryStatus = Literal["waiting", "sending", "done", "failed"]
WEBHOOKS_MAX = 20
"""Webhooks of a workspace."""

ROTATION_SECONDS = 86_400.0
"""How long both secrets sign after a rotation."""


class WebhookRequest(RequestModel):
    """Where events are sent, and which."""

    url: Annotated[
        Annotated[str, Field(min_length=1, max_length=2000)],
        about("An http or https URL.", "https://bot.example.com/baton"),
    ]
    types: Annotated[
        list[outbox_rows.EventType],
        Field(max_length=50),
        about("The types that are sent; all, where none is named.", ["handoff.opened"]),
    ] = []
    with_text: Annotated[
        bool, about("Whether message.agent carries its text, to be said to the customer.", True)
    ] = False


class WebhookResponse(BaseModel):
    """A webhook, without its secret."""

    id: Annotated[str, about("Its id.", "w19ab2c3d4e5f60718293a4")]
    url: Annotated[str, about("Where events are sent.", "https://bot.example.com/baton")]
    types: Annotated[list[str], about("The types sent; all, where none.", ["handoff.opened"])]
    with_text: Annotated[bool, about("Whether message.agent carries its text.", True)]
    created_by: Annotated[str, about("Who made it.", "admin")]
    created_at: Annotated[datetime, about("When.", "2026-11-28T09:30:00+00:00")]
    disabled_at: Annotated[
        datetime | None, about("Since when nothing is sent.", "2026-11-28T09:40:00+00:00")
    ]
    disabled_why: Annotated[str | None, about("Why nothing is sent.", "it answered 410")]
    deliveries: Annotated[
        dict[str, int], about("How many stand where.", {"done": 812, "waiting": 1})
    ]


class NewWebhook(WebhookResponse):
    """A webhook with its secret, which is shown now and never again."""

    secret: Annotated[str, about("Signs what is sent.", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]


class WebhookList(BaseModel):
    """The webhooks of the workspace."""

    webhooks: Annotated[list[WebhookResponse], about("The oldest first.")]


class DeliveryResponse(BaseModel):
    """An event on its way to a webhook."""

    id: Annotated[str, about("Its id.", "y19ab2c3d4e5f60718293a4")]
    webhook_id: Annotated[str, about("The webhook.", "w19ab2c3d4e5f60718293a4")]
    event_id: Annotated[str, about("The event: its webhook-id.", "e19ab2c3d4e5f60718293a4")]
    type: Annotated[str, about("What happened.", "handoff.opened")]
    status: Annotated[DeliveryStatus, about("Where it stands.", "waiting")]
    attempts: Annotated[int, about("How often it was tried.", 1)]
    due_at: Annotated[datetime, about("When it is tried next.", "2026-11-28T09:30:05+00:00")]
    created_at: Annotated[datetime, about("Since when it waits.", "2026-11-28T09:30:00+00:00")]
    tried_at: Annotated[
        datetime | None, about("When it was tried last.", "2026-11-28T09:30:00+00:00")
    ]
    done_at: Annotated[datetime | None, about("When it came.", "2026-11-28T09:30:05+00:00")]
    http_status: Annotated[int | None, about("What was answered last.", 500)]
    error: Annotated[str | None, about("What went wrong last.", "it answered 500")]


class DeliveryList(BaseModel):
    """Deliveries to a webhook."""

    deliveries: Annotated[list[DeliveryResponse], about("The newest first.")]


class Removed(BaseModel):
    """It is gone."""

    id: Annotated[str, about("Its id.", "w19ab2c3d4e5f60718293a4")]


@webhooks.get("/webhooks", response_model=WebhookList)
async def list_webhooks(baton: AppDependency, principal: Admin) -> Any:
    """Where events of this workspace are sent, and how many came."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        counts = webhook_rows.counts(connection, principal.workspace)
        rows = webhook_rows.of_workspace(connection, principal.workspace)
        return [_webhook_json(row._asdict(), counts) for row in rows]

    return JSONResponse({"webhooks": await baton.read(look)})


@webhooks.post("/webhooks", response_model=NewWebhook)
async def create_webhook(asked: WebhookRequest, baton: AppDependency, principal: Admin) -> Any:
    """Send events there from now on, signed with a secret that is shown now and never again.

    A URL that has a webhook is 409: if its answer was lost, rotate its secret.
    """
    workspace = principal.workspace
    try:
        check_url(asked.url, AddressPolicy.of(baton.settings))
    except ForbiddenAddressError as error:
        hint = "give an http or https URL that Baton may call"
        raise Invalid("forbidden_url", str(error), field="url", hint=hint) from error
    secret = _new_signing_secret()
    sealed = Sealer.of(baton.settings).seal(secret)

    def create(batch: Batch) -> dict[str, Any]:
        entries.lock_head(batch.connection, workspace)
        there = webhook_rows.of_workspace(batch.connection, workspace)
        if namesake := next((row.id for row in there if row.url == asked.url), None):
            raise Contradiction(
                "webhook_exists",
                f"webhook {namesake!r} has this URL",
                field="url",
                hint=f"POST /v1/webhooks/{namesake}/rotate gives it a new secret",
            )
        if len(there) >= WEBHOOKS_MAX:
            raise Invalid(
                "too_many_webhooks",
                f"the workspace has {WEBHOOKS_MAX} webhooks",
                hint="delete one that nobody needs",
            )
        row = {
            "id": new_id("w"),
            "workspace": workspace,
            "url": asked.url,
            "types": list(asked.types),
            "with_text": asked.with_text,
            "secret": sealed,
            "previous_secret": None,
            "previous_until": None,
            "created_by": principal.name,
            "created_at": batch.now,
            "disabled_at": None,
            "disabled_why": None,
        }
        webhook_rows.add(batch.connection, row)
        _record(batch, "webhook_made", principal, f"{row['id']} {asked.url}")
        return row

    row = await baton.engine.run(workspace, create, appends=False)
    return JSONResponse(_webhook_json(row, {}) | {"secret": secret})


@webhooks.post("/webhooks/{webhook_id}/rotate", response_model=NewWebhook)
async def rotate_webhook_secret(webhook_id: Id, baton: AppDependency, principal: Admin) -> Any:
    """A new secret; for a day the old one signs, too. What was disabled is sent to again."""
    workspace = principal.workspace
    secret = _new_signing_secret()
    sealed = Sealer.of(baton.settings).seal(secret)

    def rotate(batch: Batch) -> dict[str, Any]:
        row = _require_webhook(batch.connection, workspace, webhook_id)
        changes = {
            "secret": sealed,
            "previous_secret": row["secret"],
            "previous_until": batch.now + ROTATION_SECONDS,
            "disabled_at": None,
            "disabled_why": None,
        }
        webhook_rows.change(batch.connection, workspace, webhook_id, **changes)
        _record(batch, "webhook_rotated", principal, webhook_id)
        return row | changes

    row = await baton.engine.run(workspace, rotate, appends=False)
    return JSONResponse(_webhook_json(row, {}) | {"secret": secret})


@webhooks.delete("/webhooks/{webhook_id}", response_model=Removed)
async def delete_webhook(webhook_id: Id, baton: AppDependency, principal: Admin) -> Any:
    """Send nothing there any more, not what waits either."""
    workspace = principal.workspace

    def remove(batch: Batch) -> dict[str, Any]:
        _require_webhook(batch.connection, workspace, webhook_id)
        webhook_rows.remove(batch.connection, workspace, webhook_id)
        _record(batch, "webhook_removed", principal, webhook_id)
        return {"id": webhook_id}

    return JSONResponse(await baton.engine.run(workspace, remove, appends=False))


@webhooks.get("/webhooks/{webhook_id}/deliveries", response_model=DeliveryList)
async def list_deliveries(
    webhook_id: Id,
    baton: AppDependency,
    principal: Admin,
    status: Annotated[
        DeliveryStatus | None, Query(description="Only those that stand there.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
) -> Any:
    """What was sent to a webhook, the newest first, and what came of it."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        _require_webhook(connection, principal.workspace, webhook_id)
        rows = webhook_rows.deliveries(connection, principal.workspace, webhook_id, status, limit)
        return [_delivery_json(row._asdict()) for row in rows]

    return JSONResponse({"deliveries": await baton.read(look)})


@webhooks.post("/deliveries/{delivery_id}/resend", response_model=DeliveryResponse)
async def resend_delivery(delivery_id: Id, baton: AppDependency, principal: Admin) -> Any:
    """Send an event again, under the same webhook-id, from the first attempt on."""
    workspace = principal.workspace

    def resend(batch: Batch) -> dict[str, Any]:
        row = webhook_rows.delivery(batch.connection, workspace, delivery_id)
        if row is None:
            raise NotFound("no_delivery", f"there is no delivery {delivery_id!r}")
        if outbox_rows.by_id(batch.connection, workspace, row.event_id) is None:
            raise Contradiction(
                "event_gone",
                f"event {row.event_id!r} is older than a week",
                hint="read what became of it from the API",
            )
        if row.status == "sending":
            return dict(row._asdict())
        changes = {"status": "waiting", "attempts": 0, "due_at": batch.now, "done_at": None}
        webhook_rows.change_delivery(batch.connection, delivery_id, **changes)
        return dict(row._asdict()) | changes

    row = await baton.engine.run(workspace, resend, appends=False)
    return JSONResponse(_delivery_json(row))


def _new_signing_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _require_webhook(connection: Connection, workspace: str, name: str) -> dict[str, Any]:
    row = webhook_rows.webhook(connection, workspace, name)
    if row is None:
        raise NotFound("no_webhook", f"there is no webhook {name!r} in this workspace")
    return dict(row._asdict())


def _record(batch: Batch, kind: str, principal: Principal, subject: str) -> None:
    event = security_log.event(kind, principal.name, subject, workspace=principal.workspace)
    security_log.append(batch.connection, [event])


def _webhook_json(row: dict[str, Any], counts: dict[tuple[str, str], int]) -> dict[str, Any]:
    hidden = ("workspace", "secret", "previous_secret", "previous_until")
    body = timed({name: value for name, value in row.items() if name not in hidden})
    stand = {status: number for (name, status), number in counts.items() if name == row["id"]}
    return body | {"deliveries": stand}


def _delivery_json(row: dict[str, Any]) -> dict[str, Any]:
    return timed({name: value for name, value in row.items() if name != "workspace"})
