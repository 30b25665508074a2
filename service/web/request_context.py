"""Request context: dependencies of every route (the process's parts, the authenticated principal)
and idempotency by Idempotency-Key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy import Connection

from service.connections.inbox.worker import InboxWorker
from service.connections.known_connections import KnownConnections
from service.outcomes.verdict import Verdict
from service.quality.report_cache import AsyncCache
from service.runtime.errors import Contradiction, Invalid
from service.runtime.ids import fingerprint
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.scoring.decision_replay import DecisionReplay
from service.scoring.engine import Engine
from service.store import access
from service.store.conversations.batch import Batch
from service.store.database.transactions import Store
from service.web.access.keys import KeyAuthenticator, Principal, no_key
from service.web.access.rate_limits import RateLimits
from service.web.access.security_events import SecurityRecorder
from service.web.event_stream.broadcast import EventBroadcaster
from service.web.event_stream.presence_recorder import PresenceRecorder

T = TypeVar("T")
IDEMPOTENCY_KEY_MAX = 200


@dataclass(frozen=True, slots=True)
class AppState:
    """Application state: the parts of a running process."""

    settings: Settings
    store: Store
    engine: Engine
    authenticator: KeyAuthenticator
    metrics: Metrics
    replayer: DecisionReplay
    broadcaster: EventBroadcaster
    reports: AsyncCache[dict[str, Any]]
    limits: RateLimits
    recorder: SecurityRecorder
    connections: KnownConnections
    inbox: InboxWorker
    presence: PresenceRecorder

    async def read(self, look: Callable[[Connection], T]) -> T:
        """Look something up, off the event loop's thread."""

        def read() -> T:
            with self.store.read() as connection:
                return look(connection)

        return await asyncio.to_thread(read)

    async def redacted(self, workspace: str, verdict: Verdict) -> Verdict:
        """A verdict without the personal data that the policy redacts in what people write."""
        redact = self.engine.redact_text
        reason, note = (
            await redact(workspace, verdict.reason),
            await redact(workspace, verdict.note),
        )
        return replace(verdict, reason=reason, note=note)


async def _app_state(request: Request) -> AppState:
    state: AppState = request.app.state.baton
    return state


AppDependency = Annotated[AppState, Depends(_app_state)]
_bearer = HTTPBearer(auto_error=False, description="A key made by `baton key create`")


def admit(request: Request, role: str) -> Principal:
    """Authorise: who asks, if their role reaches `role`; the middleware authenticated them before
    anything of the body was read. Raises Unauthenticated, Forbidden.
    """
    principal: Principal | None = request.scope.get("principal")
    if principal is None:
        raise no_key()
    principal.require(role)
    return principal


@dataclass(frozen=True, slots=True)
class RequiredRole:
    """Dependency of a route: whoever asks, if their role reaches `role`."""

    role: str

    async def __call__(self, request: Request) -> Principal:
        return admit(request, self.role)


Bot = Annotated[Principal, Depends(RequiredRole("bot"))]
Agent = Annotated[Principal, Depends(RequiredRole("agent"))]
Lead = Annotated[Principal, Depends(RequiredRole("lead"))]
Engineer = Annotated[Principal, Depends(RequiredRole("engineer"))]
Admin = Annotated[Principal, Depends(RequiredRole("admin"))]
Keyed = Depends(_bearer)


def once(
    request: Request, principal: Principal, body: Any, do: Callable[[Batch], Mapping[str, Any]]
) -> Callable[[Batch], Mapping[str, Any]]:
    """Idempotency: an operation answers a repeated Idempotency-Key as it did the first time.

    The answer is remembered in the very transaction that does the work. Raises Invalid, and
    Contradiction for a key that was used for another request.
    """
    name = request.headers.get("idempotency-key")
    if not name:
        return do
    if len(name) > IDEMPOTENCY_KEY_MAX:
        raise Invalid(
            "idempotency_key_too_long",
            f"Idempotency-Key has more than {IDEMPOTENCY_KEY_MAX} characters",
            field="Idempotency-Key",
            hint="a random UUID is enough",
        )
    own = f"{principal.key_id} {name}"  # a colleague's key of the same name is another
    request_fingerprint = fingerprint([request.method, request.url.path, principal.key_id, body])

    def do_once(batch: Batch) -> Mapping[str, Any]:
        row = access.idempotency_record(batch.connection, principal.workspace, own)
        if row is not None:
            if row.fingerprint != request_fingerprint:
                raise Contradiction(
                    "idempotency_key_reused",
                    f"Idempotency-Key {name!r} was used for another request",
                    field="Idempotency-Key",
                    hint="give each request a key of its own",
                )
            remembered: Mapping[str, Any] = row.answer
            return remembered
        answer = do(batch)
        access.add_idempotency_record(
            batch.connection,
            {
                "workspace": principal.workspace,
                "key": own,
                "fingerprint": request_fingerprint,
                "answer": dict(answer),
                "at": batch.now,
            },
        )
        return answer

    return do_once
