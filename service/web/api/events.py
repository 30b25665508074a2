"""Event stream route: server-sent events of a workspace, as they happen."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from service.web.access import sessions
from service.web.access.keys import Principal, hashed
from service.web.error_responses import ERRORS
from service.web.event_stream.broadcast import EventBroadcaster, SlowSubscriber, Subscriber
from service.web.request_context import AppDependency, AppState, admit

router = APIRouter(tags=["events"], responses=ERRORS)

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "events `handoff`, `handoff.raised`, `queue`, `outcome`, `switch`; `hello` "
        "at first, and "
        "`reset` where too much happened to tell",
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
    """Handoffs, outcomes and switches from now on, or from after the event Last-Event-ID.

    By a key, or by the session of somebody signed in to the console. `handoff` gives it as it is
    now; one may come twice after a reconnection.
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
    return admit(request, "agent"), None
