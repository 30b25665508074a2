"""Server-sent events: what happens in a workspace, as it happens."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from service.web.access import sessions
from service.web.access.keys import Principal, hashed
from service.web.event_stream.broadcast import EventBroadcaster, SlowSubscriber, Subscriber
from service.web.request_context import ERRORS, AppDependency, AppState, admit

router = APIRouter(tags=["events"], responses=ERRORS)

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "events `handoff`, `queue`, `outcome`, `switch`; `hello` at first, and "
        "`reset` where too much happened to tell",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/events", response_class=EventSourceResponse, responses=_STREAM)
async def events(
    request: Request,
    baton: AppDependency,
    last_event_id: Annotated[str, Header(max_length=100)] = "",
    after: Annotated[str, Query(max_length=100)] = "",
) -> Any:
    """Handoffs, outcomes and switches from now on, or from after the event Last-Event-ID.

    By a key, or by the session of somebody signed in to the console. `after` is for who cannot
    send that header. `handoff` gives it as it is now; one may come twice after a reconnection.
    """
    principal, session = await _asking(request, baton)
    follower = await baton.feed.follow(principal, session, last_event_id or after)
    return Stream(baton.feed, follower)


class Stream(EventSourceResponse):
    """The events of one follower, which leaves when the connection ends, however it does.

    The feed tells it that it lives, so that no timer runs for each connection.
    """

    def __init__(self, feed: EventBroadcaster, follower: Subscriber) -> None:
        super().__init__(follower.chunks(), ping=0, sep="\n")
        self._feed, self._follower = feed, follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._follower.send = send
        try:
            await super().__call__(scope, receive, send)
        except SlowSubscriber:
            pass  # whoever takes nothing cannot be told why
        finally:
            self._feed.leave(self._follower)


async def _asking(request: Request, baton: AppState) -> tuple[Principal, str | None]:
    """Who follows, and by which session. Raises Unauthenticated, Forbidden."""
    cookie = sessions.cookie_of(request.cookies, is_secure=request.url.scheme == "https")
    if cookie and "authorization" not in request.headers:
        principal = await baton.read(lambda connection: sessions.session_holder(connection, cookie))
        if principal is not None:
            principal.require("agent")
            return principal, hashed(cookie)
    return admit(request, "agent"), None
