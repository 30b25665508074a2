"""Connection routes: make, list, change and remove connections to other systems; their health and
deliveries.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import Connection

from service.connections.connection_secrets import (
    SecretReferenceError,
    resolve_secret,
    seal,
    unseal,
)
from service.connections.http.addresses import AddressPolicy, ForbiddenAddressError, check_url
from service.connections.kinds.catalogue import KINDS
from service.connections.kinds.contract import Kind
from service.runtime.errors import Contradiction, Invalid, NotFound
from service.runtime.ids import new_id
from service.runtime.sealing import UnsealError
from service.runtime.settings import Settings
from service.store import security_log
from service.store.conversations.batch import Batch
from service.store.database.clock import database_time
from service.store.ledger import call_rows, connection_rows, entries, inbox_rows
from service.web.access.keys import Principal
from service.web.api.connections.events import ROTATION_SECONDS, Removed
from service.web.error_responses import ERRORS
from service.web.request_context import Admin, AppDependency
from service.web.schemas import Id, RequestModel, ShortText, about, moment, timed

router = APIRouter(tags=["connections"], responses=ERRORS)
CONNECTIONS_MAX = 50
"""Connections of a workspace."""

CallStatus = Literal["waiting", "sending", "done", "failed", "uncertain"]


class ConnectionRequest(RequestModel):
    """Another system: its kind, a name for people, and what the kind asks for."""

    kind: Annotated[Literal[tuple(KINDS)], about("What it is.", "chatwoot")]  # type: ignore[valid-type]
    name: Annotated[ShortText, about("How people call it.", "Helpdesk")]
    config: Annotated[
        dict[str, Any],
        Field(max_length=50),
        about(
            "What the kind asks for, secrets with it.",
            {"base_url": "https://chat.example.com", "account_id": 1},
        ),
    ] = {}


class ConnectionChange(RequestModel):
    """What is to change; a secret that is given replaces the one before, which verifies for a day
    more.
    """

    name: Annotated[ShortText | None, about("How people call it.", "Helpdesk")] = None
    config: Annotated[
        dict[str, Any] | None,
        Field(max_length=50),
        about("Fields to set; null removes one.", {"webhook_secret": "..."}),
    ] = None
    enabled: Annotated[bool | None, about("Whether it hears and acts.", True)] = None


class ConnectionResponse(BaseModel):
    """A connection, without its secrets, and how it does."""

    id: Annotated[str, about("Its id.", "x19ab2c3d4e5f60718293a4")]
    kind: Annotated[str, about("What it is.", "chatwoot")]
    name: Annotated[str, about("How people call it.", "Helpdesk")]
    config: Annotated[dict[str, Any], about("Its configuration.", {"account_id": 1})]
    state: Annotated[
        Literal["on", "failing", "off"],
        about("On: it hears and acts; failing: its calls fail.", "on"),
    ]
    secrets: Annotated[list[str], about("The secrets that it has.", ["webhook_secret"])]
    inbound_url: Annotated[
        str, about("Where the other system sends events.", "https://baton.example.com/connect/x19")
    ]
    created_by: Annotated[str, about("Who made it.", "admin")]
    created_at: Annotated[datetime, about("When.", "2026-11-28T09:30:00+00:00")]
    disabled_at: Annotated[
        datetime | None, about("Since when it is off.", "2026-11-28T09:40:00+00:00")
    ]
    failing_since: Annotated[
        datetime | None, about("Since when calls fail.", "2026-11-28T09:40:00+00:00")
    ]
    failure: Annotated[str | None, about("What failed last.", "status: it answered 401")]
    failed_at: Annotated[datetime | None, about("When.", "2026-11-28T09:40:00+00:00")]
    heard_at: Annotated[
        datetime | None, about("When an event last came.", "2026-11-28T09:40:00+00:00")
    ]
    waiting: Annotated[int, about("Events that have yet to be done.", 0)]
    lag_seconds: Annotated[
        float, about("For how long the oldest event or delivery has waited.", 0.0)
    ]
    deliveries: Annotated[
        dict[str, int], about("How many deliveries stand where.", {"done": 812, "waiting": 1})
    ]


class NewConnection(ConnectionResponse):
    """A connection with the secret that Baton made for it, shown now and never again."""

    secret: Annotated[
        str | None,
        about("What the other system is to send or sign with, if Baton made it.", "V2hhdCBhIHNl"),
    ]


class ConnectionList(BaseModel):
    """The connections of the workspace."""

    connections: Annotated[list[ConnectionResponse], about("The oldest first.")]


class CallResponse(BaseModel):
    """A call to another system."""

    id: Annotated[str, about("Its id, which it carries.", "y19ab2c3d4e5f60718293a4b5")]
    connection_id: Annotated[str, about("The connection.", "x19ab2c3d4e5f60718293a4")]
    conversation_id: Annotated[str, about("The conversation.", "chatwoot:x19ab:1:42")]
    event_id: Annotated[str, about("What it follows from.", "e19ab2c3d4e5f60718293a4")]
    type: Annotated[str, about("What that was.", "handoff.opened")]
    call: Annotated[str, about("Which call of it.", "status")]
    repeat: Annotated[
        Literal["natural", "marked", "once"],
        about("natural: repeating changes nothing; marked: it is looked for; once.", "natural"),
    ]
    status: Annotated[
        CallStatus, about("Where it stands; uncertain: whether it came is not known.", "done")
    ]
    attempts: Annotated[int, about("How often it was tried.", 1)]
    due_at: Annotated[datetime, about("When it is tried next.", "2026-11-28T09:30:05+00:00")]
    created_at: Annotated[datetime, about("Since when it waits.", "2026-11-28T09:30:00+00:00")]
    tried_at: Annotated[
        datetime | None, about("When it was tried last.", "2026-11-28T09:30:00+00:00")
    ]
    done_at: Annotated[datetime | None, about("When it came.", "2026-11-28T09:30:05+00:00")]
    echoed_at: Annotated[
        datetime | None, about("When its effect was heard of.", "2026-11-28T09:30:06+00:00")
    ]
    http_status: Annotated[int | None, about("What was answered last.", 200)]
    error: Annotated[str | None, about("What went wrong last.", "it answered 500")]


class RefusedEvent(BaseModel):
    """An event of which something could not be done."""

    conversation_id: Annotated[str, about("Its conversation.", "chatwoot:x19ab:1:42")]
    error: Annotated[str, about("Why.", "message_differs: ...")]
    at: Annotated[datetime, about("When it came.", "2026-11-28T09:30:00+00:00")]


class CallList(BaseModel):
    """Deliveries to a connection, and events of it that were refused."""

    deliveries: Annotated[list[CallResponse], about("The newest first.")]
    refused: Annotated[list[RefusedEvent], about("The newest first.")]


@router.get("/connections", response_model=ConnectionList)
async def list_connections(baton: AppDependency, principal: Admin) -> Any:
    """The systems that this workspace is connected to, and how each does."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        health = connection_rows.health(connection, principal.workspace)
        now = database_time(connection)
        rows = connection_rows.of_workspace(connection, principal.workspace)
        return [
            _connection_json(baton.settings, row._asdict(), health.get(row.id, {}), now)
            for row in rows
        ]

    return JSONResponse({"connections": await baton.read(look)})


@router.post("/connections", response_model=NewConnection)
async def create_connection(
    asked: ConnectionRequest, baton: AppDependency, principal: Admin
) -> Any:
    """Connect another system: its events go to `inbound_url`.

    Its secrets may come later, for some systems make theirs when they are told that address.
    """
    kind, workspace = KINDS[asked.kind], principal.workspace
    config, given = _split(baton.settings, kind, asked.config)
    made = None
    if kind.makes_secret and kind.inbound not in given:
        made = given[kind.inbound] = secrets.token_urlsafe(32)
    sealed = seal(baton.settings, given)

    def create(batch: Batch) -> dict[str, Any]:
        entries.lock_head(batch.connection, workspace)
        there = connection_rows.of_workspace(batch.connection, workspace)
        if any(row.name == asked.name for row in there):
            raise Contradiction(
                "connection_exists",
                f"there is a connection {asked.name!r}",
                field="name",
                hint="give it another name, or PATCH that one",
            )
        if len(there) >= CONNECTIONS_MAX:
            raise Invalid(
                "too_many_connections",
                f"the workspace has {CONNECTIONS_MAX} connections",
                hint="delete one that nobody needs",
            )
        row = {
            "id": new_id("x"),
            "workspace": workspace,
            "kind": kind.name,
            "name": asked.name,
            "config": config,
            "secrets": sealed,
            "previous_secret": None,
            "previous_until": None,
            "created_by": principal.name,
            "created_at": batch.now,
            "disabled_at": None,
            "failing_since": None,
            "failure": None,
            "failed_at": None,
        }
        connection_rows.add(batch.connection, row)
        _record(batch, "connection_made", principal, f"{row['id']} {kind.name}")
        return row

    row = await baton.engine.run(workspace, create, appends=False)
    return JSONResponse(_connection_json(baton.settings, row, {}, 0.0) | {"secret": made})


@router.patch("/connections/{connection_id}", response_model=ConnectionResponse)
async def change_connection(
    connection_id: Id, asked: ConnectionChange, baton: AppDependency, principal: Admin
) -> Any:
    """Change a connection, or its secrets; or turn it off and on."""
    workspace, settings = principal.workspace, baton.settings

    def change(batch: Batch) -> dict[str, Any]:
        row = _require(batch.connection, workspace, connection_id)
        changes: dict[str, Any] = {} if asked.name is None else {"name": asked.name}
        if asked.config is not None:
            changes |= _changed_config(settings, row, asked.config, batch.now)
        if asked.enabled is not None:
            changes["disabled_at"] = None if asked.enabled else batch.now
        if changes:
            connection_rows.change(batch.connection, workspace, connection_id, **changes)
        _record(batch, "connection_changed", principal, connection_id)
        return row | changes

    row = await baton.engine.run(workspace, change, appends=False)
    baton.connections.forget(connection_id)
    return JSONResponse(_connection_json(settings, row, {}, 0.0))


@router.delete("/connections/{connection_id}", response_model=Removed)
async def delete_connection(connection_id: Id, baton: AppDependency, principal: Admin) -> Any:
    """Neither hear nor act any more, not on what waits either; conversations stay."""
    workspace = principal.workspace

    def remove(batch: Batch) -> dict[str, Any]:
        _require(batch.connection, workspace, connection_id)
        connection_rows.remove(batch.connection, workspace, connection_id)
        _record(batch, "connection_removed", principal, connection_id)
        return {"id": connection_id}

    answer = await baton.engine.run(workspace, remove, appends=False)
    baton.connections.forget(connection_id)
    return JSONResponse(answer)


@router.get("/connections/{connection_id}/deliveries", response_model=CallList)
async def list_calls(
    connection_id: Id,
    baton: AppDependency,
    principal: Admin,
    status: Annotated[CallStatus | None, Query(description="Only those that stand there.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
) -> Any:
    """What was sent to a connection and what came of it; and which of its events were refused."""

    def look(connection: Connection) -> dict[str, Any]:
        workspace = principal.workspace
        _require(connection, workspace, connection_id)
        rows = call_rows.deliveries(connection, workspace, connection_id, status, limit)
        refused = inbox_rows.failed(connection, connection_id, limit)
        names = ("conversation_id", "error", "at")
        return {
            "deliveries": [call_json(row._asdict()) for row in rows],
            "refused": [timed({n: getattr(row, n) for n in names}) for row in refused],
        }

    return JSONResponse(await baton.read(look))


@router.post(
    "/connections/{connection_id}/deliveries/{delivery_id}/resend", response_model=CallResponse
)
async def resend_call(
    connection_id: Id, delivery_id: Id, baton: AppDependency, principal: Admin
) -> Any:
    """Send a call again, as if it had never been tried: an uncertain one may come twice."""
    workspace = principal.workspace

    def resend(batch: Batch) -> dict[str, Any]:
        _require(batch.connection, workspace, connection_id)
        row = call_rows.delivery(batch.connection, workspace, delivery_id)
        if row is None or row.connection_id != connection_id:
            raise NotFound("no_delivery", f"there is no delivery {delivery_id!r}")
        if row.status == "sending":
            return dict(row._asdict())
        changes = {"status": "waiting", "attempts": 0, "due_at": batch.now, "done_at": None}
        call_rows.change(batch.connection, delivery_id, **changes)
        return dict(row._asdict()) | changes

    row = await baton.engine.run(workspace, resend, appends=False)
    return JSONResponse(call_json(row))


def call_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A delivery as the API shows it."""
    return timed({n: value for n, value in row.items() if n not in ("workspace", "place")})


def _split(
    settings: Settings, kind: Kind, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What of a configuration is no secret, checked, and the secrets. Raises Invalid."""
    secret = {name: value for name, value in given.items() if name in kind.secrets}
    for name, value in secret.items():
        is_plain = isinstance(value, str) and value.isascii() and value.isprintable()
        if not is_plain or not 1 <= len(value) <= 1000:
            why = f"{name} is no text of at most 1000 plain characters"
            raise _invalid_config(f"config.{name}", why)
        try:
            resolve_secret(settings, value)
        except SecretReferenceError as error:
            raise _invalid_config(f"config.{name}", str(error)) from error
    rest = {name: value for name, value in given.items() if name not in secret}
    try:
        config = kind.config.model_validate(rest)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _invalid_config(f"config.{place}".rstrip("."), first["msg"]) from error
    if config.base_url:
        try:
            check_url(config.base_url, AddressPolicy.of(settings))
        except ForbiddenAddressError as error:
            raise _invalid_config("config.base_url", str(error)) from error
    return config.model_dump(mode="json", exclude_unset=True), secret


def _invalid_config(field: str, why: str) -> Invalid:
    return Invalid("invalid_config", why, field=field, hint="the guide has its fields")


def _changed_config(
    settings: Settings, row: Mapping[str, Any], given: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """The columns after a merge of the configuration; a changed secret that verifies rotates."""
    kind = KINDS[row["kind"]]
    try:
        before = unseal(settings, row["secrets"])
    except UnsealError as error:
        hint = "start this process with the key that sealed them, or make the connection again"
        raise Contradiction("sealed_by_another_key", str(error), hint=hint) from error
    merged = {**row["config"], **before, **given}
    wanted = {name: value for name, value in merged.items() if value is not None}
    config, secret = _split(settings, kind, wanted)
    changes: dict[str, Any] = {"config": config, "secrets": seal(settings, secret)}
    if kind.inbound in before and before[kind.inbound] != secret.get(kind.inbound):
        changes |= {"previous_secret": row["secrets"], "previous_until": now + ROTATION_SECONDS}
    return changes


def _require(connection: Connection, workspace: str, name: str) -> dict[str, Any]:
    row = connection_rows.by_id(connection, name)
    if row is None or row.workspace != workspace:
        raise NotFound("no_connection", f"there is no connection {name!r} in this workspace")
    return dict(row._asdict())


def _record(batch: Batch, kind: str, principal: Principal, subject: str) -> None:
    event = security_log.event(kind, principal.name, subject, workspace=principal.workspace)
    security_log.append(batch.connection, [event])


def _secret_names(settings: Settings, sealed: str) -> list[str]:
    """Which secrets there are; none where they were sealed by another key."""
    try:
        return sorted(unseal(settings, sealed))
    except UnsealError:
        return []


def _connection_json(
    settings: Settings, row: Mapping[str, Any], found: Mapping[str, Any], now: float
) -> dict[str, Any]:
    hidden = ("workspace", "secrets", "previous_secret", "previous_until")
    since = [found[name] for name in ("waiting_since", "sending_since") if name in found]
    body = {name: value for name, value in row.items() if name not in hidden}
    body["heard_at"] = found.get("heard_at")
    body["failing_since"] = moment(row["failing_since"])
    working = "on" if row["failing_since"] is None else "failing"
    return timed(body) | {
        "state": working if row["disabled_at"] is None else "off",
        "secrets": _secret_names(settings, row["secrets"]),
        "inbound_url": f"{settings.address}/connect/{row['id']}",
        "waiting": found.get("waiting", 0),
        "lag_seconds": round(max(0.0, now - min(since)), 3) if since else 0.0,
        "deliveries": found.get("deliveries", {}),
    }
