"""Event broadcaster (publish/subscribe): polls the change log and sends it to each subscriber.

Each process polls the database for those connected to it, so it tells what any other process
did. A subscriber that reconnects names the last event it got, and is sent what it missed, some of
it twice (at least once).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection
from starlette.types import Send

from service.runtime.errors import Unavailable
from service.runtime.settings import Settings
from service.store import access
from service.store.database.transactions import DatabaseError, Store
from service.web.access.keys import Principal
from service.web.event_stream import changes, outbox_feed, presence
from service.web.event_stream import format as event_format

SUBSCRIBERS_MAX = 1000
"""Subscribers of one process; the benchmark `console` measures what they cost."""

CHUNKS_MAX = 16
"""Chunks queued for one slow subscriber before it is dropped; it reconnects and gets the rest."""

POLL_SECONDS, POLL_SECONDS_MAX = 0.5, 2.0
"""How often the change log is polled; less often with very many subscribers, since sending to all
of them would cost scoring too much.
"""

SENDS_PER_SECOND_MAX = 200
"""Subscribers that are sent something in a second, up to POLL_SECONDS_MAX."""

CHECK_SECONDS = 5.0
"""How soon a revoked key or an ended session is sent nothing more."""

PRESENCE_SECONDS = 5.0
"""How soon consoles are told that somebody has come or gone."""

PING_SECONDS = 15.0
"""Keep-alive: how often a quiet connection is sent a comment, for proxies on the way."""

SEND_SECONDS = 20.0
"""A subscriber that takes nothing for so long is disconnected."""

_PING = b": ping\n\n"

_log = structlog.get_logger("baton.feed")


class SlowSubscriber(ConnectionError):
    """Backpressure: a subscriber takes too little too late."""


@dataclass(eq=False, slots=True)
class Subscriber:
    """Subscriber: one connection, whose it is, and its bounded queue.

    `send` is its connection, once that is open. `busy_since` is when what is being sent now was
    begun, None while nothing is; `is_slow` that it was disconnected.
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
    _sending: asyncio.Task[Any] | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """What it is sent: what it has missed; then what happens, until it is ended.

        After the first, nothing is yielded: each chunk goes to the connection as it is, which costs
        half of what a response's own ways do. Raises SlowSubscriber once disconnected as slow.
        """
        yield _PING
        assert self.send is not None
        self._sending = asyncio.current_task()
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

    def enqueue(self, chunk: bytes) -> bool:
        """Queue a chunk; False when the queue is full."""
        if self.waiting.qsize() >= CHUNKS_MAX:
            return False
        self.waiting.put_nowait(chunk)
        return True

    def end(self) -> None:
        """End the subscription; what is queued is dropped."""
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)

    def disconnect(self) -> None:
        """End it even if it takes nothing any more."""
        self.is_slow = True
        if self._sending is not None:
            self._sending.cancel()


@dataclass(eq=False, slots=True)
class _Channel:
    """A workspace's bots, agents or pages: their feed, its cursor, and what was sent of late."""

    feed: Any
    cursor: Any
    recently_sent: Any
    presence: dict[str, list[str]] | None = None
    subscribers: set[Subscriber] = field(default_factory=set)


def channel_of(subscriber: Subscriber) -> tuple[str, str]:
    """Which channel a subscriber hears: bots, agents and the console's pages have a feed each."""
    principal = subscriber.principal
    by_key = "bot" if principal.role == "bot" else "agent"
    return principal.workspace, by_key if subscriber.session is None else "page"


class EventBroadcaster:
    """Broadcaster of this process. Owned by the event loop's thread; polls happen in others."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._feeds: dict[str, Any] = {
            "bot": outbox_feed.of_bots(settings),
            "agent": outbox_feed.AGENTS,
            "page": changes,
        }
        self._channels: dict[tuple[str, str], _Channel] = {}
        self._count = 0
        """Subscribers of all workspaces."""
        self._task: asyncio.Task[None] | None = None

    async def subscribe(self, principal: Principal, session: str | None, last: str) -> Subscriber:
        """Subscribe to everything from now on, or from after the event `last`; until `leave`.

        Raises Unavailable when too many do.
        """
        if self._count >= SUBSCRIBERS_MAX and not self._make_room(principal):
            raise Unavailable(
                "followers_full",
                f"{SUBSCRIBERS_MAX} connections follow the events of this process",
                hint="try again later, or ask GET /v1/handoffs now and then",
            )
        workspace, subscriber = principal.workspace, Subscriber(principal, session)
        name = channel_of(subscriber)
        feed: Any = self._feeds[name[1]]
        if name not in self._channels:
            start = await self._read(feed.start_cursor, workspace)
            self._channels.setdefault(name, _Channel(feed, *start))
        channel = self._channels[name]
        channel.subscribers.add(subscriber)  # before the look, so that nothing falls between
        self._count += 1
        try:
            cursors = type(channel.cursor).read(last), channel.cursor
            subscriber.first = await self._read(feed.events_after_reconnect, workspace, *cursors)
        except BaseException:
            self.leave(subscriber)
            raise
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return subscriber

    def _make_room(self, newcomer: Principal) -> bool:
        """Disconnect the newest subscriber of who has most, where the newcomer has fewer (fair
        share): first between workspaces, then between keys of one.
        """
        by_workspace: dict[str, set[Subscriber]] = {}
        for (name, _), channel in self._channels.items():
            by_workspace[name] = by_workspace.get(name, set()) | channel.subscribers
        largest = max(by_workspace, key=lambda name: len(by_workspace[name]))
        own = len(by_workspace.get(newcomer.workspace, ()))
        if largest != newcomer.workspace and own + 1 >= len(by_workspace[largest]):
            largest = newcomer.workspace
        by_key = Counter(s.principal.key_id for s in by_workspace.get(largest, ()))
        if not by_key:
            return False
        greediest, most = by_key.most_common(1)[0]
        if largest == newcomer.workspace and by_key[newcomer.key_id] + 1 >= most:
            return False
        evicted = next(s for s in by_workspace[largest] if s.principal.key_id == greediest)
        self.leave(evicted)
        evicted.end()
        return True

    def people(self) -> set[Principal]:
        """Who follows events from the console, in this process."""
        return {s.principal for s in self._subscribers() if s.session is not None}

    def __len__(self) -> int:
        return self._count

    def leave(self, subscriber: Subscriber) -> None:
        """Unsubscribe: it has gone, or is sent away."""
        channel = self._channels.get(channel_of(subscriber))
        if channel is not None and subscriber in channel.subscribers:
            channel.subscribers.remove(subscriber)
            self._count -= 1

    async def stop(self) -> None:
        """End every subscription."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for channel in self._channels.values():
            for subscriber in channel.subscribers:
                subscriber.end()

    async def _read(self, look: Any, *arguments: Any) -> Any:
        def read() -> Any:
            with self._store.read() as connection:
                return look(connection, *arguments)

        return await asyncio.to_thread(read)

    async def _run(self) -> None:
        checked = pinged = told = time.monotonic()
        while self._count:
            pause = min(self._count / SENDS_PER_SECOND_MAX, POLL_SECONDS_MAX)
            await asyncio.sleep(max(POLL_SECONDS, pause))
            if time.monotonic() - pinged > PING_SECONDS:
                pinged = time.monotonic()
                _send(self._subscribers(), _PING)
            try:
                for name in list(self._channels):
                    await self._poll(name)
                if time.monotonic() - told > PRESENCE_SECONDS:
                    told = time.monotonic()
                    await self._tell_presence()
                if time.monotonic() - checked > CHECK_SECONDS:
                    checked = time.monotonic()
                    await self._check()
            except DatabaseError as error:
                _log.warning("feed_waits", why=str(error.orig))
            except Exception:
                _log.exception("feed_broke")

    async def _poll(self, name: tuple[str, str]) -> None:
        channel = self._channels[name]
        if not channel.subscribers:
            del self._channels[name]
            return
        chunk, channel.cursor, channel.recently_sent = await self._read(
            channel.feed.poll, name[0], channel.cursor, channel.recently_sent
        )
        if chunk:
            _send(list(channel.subscribers), chunk)

    async def _tell_presence(self) -> None:
        """Tell consoles who is there, where that has changed."""
        for (workspace, _), channel in list(self._channels.items()):
            consoles = [one for one in channel.subscribers if one.session is not None]
            if not consoles:
                continue
            found = await self._read(presence.present, workspace)
            if found != channel.presence:
                channel.presence = found
                _send(consoles, event_format.presence_event(found))

    def _subscribers(self) -> list[Subscriber]:
        return [
            subscriber for channel in self._channels.values() for subscriber in channel.subscribers
        ]

    async def _check(self) -> None:
        """End those whose key was revoked, whose session is over, or who take nothing."""
        subscribers = self._subscribers()
        stalled_before = time.monotonic() - SEND_SECONDS
        for subscriber in subscribers:
            if subscriber.busy_since is not None and subscriber.busy_since < stalled_before:
                _log.info("follower_hung_up_on", name=subscriber.principal.name)
                subscriber.disconnect()
        sessions = {s.session for s in subscribers if s.session is not None}
        keys = {s.principal.key_id for s in subscribers if s.session is None}
        unrevoked_keys = await self._read(_still_valid, sessions, keys)
        for subscriber in subscribers:
            if (subscriber.session or subscriber.principal.key_id) not in unrevoked_keys:
                subscriber.end()


def _send(subscribers: Iterable[Subscriber], chunk: bytes) -> None:
    for subscriber in subscribers:
        if not subscriber.enqueue(chunk):
            _log.info("follower_dropped", name=subscriber.principal.name)
            subscriber.disconnect()


def _still_valid(connection: Connection, sessions: set[str], keys: set[str]) -> set[str]:
    return access.live_sessions(connection, sessions, time.time()) | access.unrevoked_keys(
        connection, keys
    )
