"""Everyone who follows a workspace's events, and what they are sent.

Each process follows the database for those connected to it, so it tells what any other process
did. A follower that comes again names the last event it got, and hears what it missed, some of it
twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection
from starlette.types import Send

from service.runtime.errors import Unavailable
from service.store import access
from service.store.database.transactions import DatabaseError, Store
from service.web.access.keys import Principal
from service.web.event_stream import changes

FOLLOWERS_MAX = 1000
"""Followers of one process; what they cost is measured by `baton bench console`."""

CHUNKS_MAX = 16
"""What may wait for one slow follower before it is dropped; it comes again and hears the rest."""

LOOK_SECONDS, LOOK_SECONDS_MAX = 0.5, 2.0
"""How often news is looked for. With very many followers less often, or telling all of them would
cost scoring too much.
"""

TELLS_PER_SECOND_MAX = 200
"""Followers that are told something in a second, up to LOOK_SECONDS_MAX: at 200 each waits 1 s."""

CHECK_SECONDS = 5.0
"""How soon a revoked key or an ended session stops hearing."""

PING_SECONDS = 15.0
"""How often a quiet connection is told that it lives, for proxies on the way."""

SEND_SECONDS = 20.0
"""A follower that takes nothing for so long is hung up on."""

_PING = b": ping\n\n"

_log = structlog.get_logger("baton.feed")


class SlowSubscriber(ConnectionError):
    """A follower takes too little too late."""


@dataclass(eq=False, slots=True)
class Subscriber:
    """One connection: whose it is, and what waits to be sent to it.

    `send` is its connection, once that is open. `busy_since` is when what is being sent now was
    begun, None while nothing is; `is_slow` that it was hung up on.
    """

    principal: Principal
    session: str | None
    first: bytes = b""
    send: Send | None = None
    waiting: asyncio.Queue[bytes | None] = field(
        default_factory=lambda: asyncio.Queue(CHUNKS_MAX + 1)
    )
    busy_since: float | None = None
    is_slow: bool = False
    _telling: asyncio.Task[Any] | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """What it is sent: what it has missed; then what happens, until it is ended.

        Of what happens nothing is yielded: each chunk goes to the connection as it is, which costs
        half of what a response's own ways do. Raises SlowError for one that was hung up on.
        """
        yield _PING
        assert self.send is not None
        self._telling = asyncio.current_task()
        chunk: bytes | None = self.first
        try:
            while chunk is not None:
                self.busy_since = time.monotonic()
                await self.send({"type": "http.response.body", "body": chunk, "more_body": True})
                self.busy_since = None
                chunk = await self.waiting.get()
        except asyncio.CancelledError:
            if self.is_slow:
                raise SlowSubscriber from None
            raise

    def tell(self, chunk: bytes) -> bool:
        """Let a chunk wait for it; False when too many do."""
        if self.waiting.qsize() >= CHUNKS_MAX:
            return False
        self.waiting.put_nowait(chunk)
        return True

    def end(self) -> None:
        """It hears no more; what waits is dropped."""
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)

    def hang_up(self) -> None:
        """End it even if it takes nothing any more."""
        self.is_slow = True
        if self._telling is not None:
            self._telling.cancel()


@dataclass(eq=False, slots=True)
class _Channel:
    """A workspace with followers: how far it is told, and which changes of late were."""

    cursor: changes.EventCursor
    late: changes.Late
    followers: set[Subscriber] = field(default_factory=set)


class EventBroadcaster:
    """The followers of this process. Owned by the event loop's thread; looks happen in others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: dict[str, _Channel] = {}
        self._count = 0
        """Followers of all workspaces."""
        self._task: asyncio.Task[None] | None = None

    async def follow(self, principal: Principal, session: str | None, last: str) -> Subscriber:
        """Hear of everything from now on, or from after the event `last`; until `leave`.

        Raises Busy when too many do.
        """
        if self._count >= FOLLOWERS_MAX:
            raise Unavailable(
                "followers_full",
                f"{FOLLOWERS_MAX} connections follow the events of this process",
                hint="try again later, or ask GET /v1/handoffs now and then",
            )
        workspace, follower = principal.workspace, Subscriber(principal, session)
        if workspace not in self._told:
            begun = await self._look(changes.start_cursor, workspace)
            self._told.setdefault(workspace, _Channel(*begun))
        told = self._told[workspace]
        told.followers.add(follower)  # before the look, so that nothing falls between
        self._count += 1
        try:
            given = workspace, changes.EventCursor.read(last), told.cursor
            follower.first = await self._look(changes.events_after_reconnect, *given)
        except BaseException:
            self.leave(follower)
            raise
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return follower

    def leave(self, follower: Subscriber) -> None:
        """It has gone, or is sent away."""
        told = self._told.get(follower.principal.workspace)
        if told is not None and follower in told.followers:
            told.followers.remove(follower)
            self._count -= 1

    async def stop(self) -> None:
        """Tell nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for told in self._told.values():
            for follower in told.followers:
                follower.end()

    async def _look(self, look: Any, *given: Any) -> Any:
        def read() -> Any:
            with self._store.read() as connection:
                return look(connection, *given)

        return await asyncio.to_thread(read)

    async def _run(self) -> None:
        checked = pinged = time.monotonic()
        while self._count:
            wanted = min(self._count / TELLS_PER_SECOND_MAX, LOOK_SECONDS_MAX)
            await asyncio.sleep(max(LOOK_SECONDS, wanted))
            if time.monotonic() - pinged > PING_SECONDS:
                pinged = time.monotonic()
                _tell(self._everyone(), _PING)
            try:
                for workspace in list(self._told):
                    await self._tell(workspace)
                if time.monotonic() - checked > CHECK_SECONDS:
                    checked = time.monotonic()
                    await self._check()
            except DatabaseError as error:
                _log.warning("feed_waits", why=str(error.orig))
            except Exception:
                _log.exception("feed_broke")

    async def _tell(self, workspace: str) -> None:
        told = self._told[workspace]
        if not told.followers:
            del self._told[workspace]
            return
        chunk, told.cursor, told.late = await self._look(
            changes.poll, workspace, told.cursor, told.late
        )
        if chunk:
            _tell(list(told.followers), chunk)

    def _everyone(self) -> list[Subscriber]:
        return [one for told in self._told.values() for one in told.followers]

    async def _check(self) -> None:
        """End those whose key was revoked, whose session is over, or who take nothing."""
        everyone = self._everyone()
        late = time.monotonic() - SEND_SECONDS
        for one in everyone:
            if one.busy_since is not None and one.busy_since < late:
                _log.info("follower_hung_up_on", name=one.principal.name)
                one.hang_up()
        asked = {one.session for one in everyone if one.session is not None}
        bearers = {one.principal.key_id for one in everyone if one.session is None}
        lasting = await self._look(_lasting, asked, bearers)
        for one in everyone:
            if (one.session or one.principal.key_id) not in lasting:
                one.end()


def _tell(followers: Iterable[Subscriber], chunk: bytes) -> None:
    for follower in followers:
        if not follower.tell(chunk):
            _log.info("follower_dropped", name=follower.principal.name)
            follower.hang_up()


def _lasting(connection: Connection, asked: set[str], bearers: set[str]) -> set[str]:
    return access.live_sessions(connection, asked, time.time()) | access.unrevoked_keys(
        connection, bearers
    )
