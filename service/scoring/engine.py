"""The one owner of the model and the write connection in a process.

The engine lives on the event loop's thread (measured faster than a thread of its own, see
DECISIONS.md). All requests that wait when the loop turns are one batch and one transaction: read
the ledger's tail and learn it, read the conversations, decide, write, commit, answer. Nothing
else touches a River object that serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection

from experiments.build_info import build_id
from learning.ledger.model_state import LearnedEffect, ModelState
from service.runtime.errors import RequestRefused, Unavailable, database_unavailable
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.scoring import decide
from service.scoring.live_models import LiveModels
from service.scoring.request_queue import LockTargets, QueuedRequest, RequestQueue
from service.store.conversations.batch import Batch, StateCache
from service.store.database.transactions import (
    DatabaseError,
    Store,
    UnavailableError,
    is_conflict,
    is_lock_timeout,
)

RETRIES_MAX = 2
"""How often requests are tried again, each by itself, when another process came in between."""

LOCK_TIMEOUTS_MAX = 8
"""Requests of one batch that may each wait for a lock before the rest of it is refused."""

SHORT_WAIT_SECONDS = 5
"""After a lock was waited for in vain, none is waited for long: one that is held from outside must
not keep everyone's requests waiting, one after the other.
"""

T = TypeVar("T")
_log = structlog.get_logger("baton.engine")


class Engine:
    """Takes requests, answers them in batches, and keeps every served standing at the tail."""

    def __init__(self, store: Store, settings: Settings, measures: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._measures = measures
        self._serving = LiveModels(store, settings, measures)
        self._states = StateCache()
        self._waiting = RequestQueue(settings.queue_max)
        self._turn_is_due = False
        self._stopping = False
        self._hurried_until = 0.0

    async def start(self) -> None:
        """Stand in every workspace, then follow the ledger while idle."""
        await self._serving.start()

    async def stop(self) -> None:
        """Answer what was taken, then end."""
        self._stopping = True
        while self._waiting:
            self._turn()
            await asyncio.sleep(0)
        await self._serving.stop()

    # Requests

    async def score(self, ask: decide.ScoreCommand) -> Mapping[str, Any]:
        """Decide about one message."""

        def do(batch: Batch) -> Mapping[str, Any]:
            served = self._serving.here(ask.workspace)
            if served.standing.half_learned:
                raise Unavailable(
                    "restanding", "the model is being stood anew", hint="send it again"
                )
            return decide.score(batch, served.standing, served.live, build_id(), ask)

        answer = await self.run(ask.workspace, do, needs=ask.needs, appends=False)
        self._measures.decided(ask.workspace, answer["action"])
        return answer

    async def run(
        self,
        workspace: str,
        do: Callable[[Batch], T],
        *,
        needs: LockTargets | Callable[[Connection], LockTargets] | None = None,
        appends: bool = True,
    ) -> T:
        """Run `do` inside a batch's transaction; its answer comes after the commit.

        What `appends` to the ledger is learned before the answer's sender can ask again.
        `do` must refuse before it changes anything. Raises Busy when the queue is full or the
        database does not answer: nothing was recorded then.
        """
        if self._stopping:
            raise Unavailable("stopping", "this process is shutting down", hint="send it again")
        await self._serving.at(workspace)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        refused = self._waiting.put(QueuedRequest(workspace, needs or {}, do, appends, future))
        if refused is not None:
            self._measures.refused()
            full = Unavailable("queue_full", "too many requests are waiting", hint="send it again")
            _resolve_future(refused.answer, full)
        self._due()
        return await future

    def _due(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """One batch: whatever waits now, in one transaction."""
        self._turn_is_due = False
        works = self._waiting.take(self._settings.batch_max)
        works = [work for work in works if not work.answer.done()]
        works.sort(key=lambda work: work.workspace)
        try:
            if works:
                self._attempt(works)
        except Exception as error:
            for work in works:  # whatever broke, nobody waits for an answer that never comes
                _resolve_future(work.answer, error)
            raise
        finally:
            if self._waiting:
                self._due()

    def _attempt(self, works: list[QueuedRequest], again: int = RETRIES_MAX) -> bool:
        """Run works in one transaction; if one breaks it, run each in its own. Whether it ran."""
        with self._measures.batch(len(works)):
            try:
                answers = self._transact(works, again)
            except Exception as error:
                alone = len(works) == 1
                if (again and is_conflict(error)) or not (alone or self._is_away(error)):
                    return self._each(works, again - 1)
                answers = [self._failed(error)] * len(works)
        for work, answer in zip(works, answers, strict=True):
            _resolve_future(work.answer, answer)
        appended = {work.workspace for work in works if work.appends}
        if appended:
            with contextlib.suppress(DatabaseError):
                self._serving.catch_up(appended)
        return not any(isinstance(answer, Unavailable) for answer in answers)

    def _is_away(self, error: Exception) -> bool:
        """Whether trying each request by itself is in vain: the whole database does not answer."""
        return isinstance(error, UnavailableError) and not is_lock_timeout(error)

    def _failed(self, error: Exception) -> Exception:
        if not isinstance(error, UnavailableError):
            return error
        if is_lock_timeout(error):
            self._hurried_until = time.monotonic() + SHORT_WAIT_SECONDS
        _log.error("transaction_failed", why=str(error.orig))
        return database_unavailable()

    def _each(self, works: list[QueuedRequest], again: int) -> bool:
        """Each in its own transaction. After some that a lock held up, the rest is refused."""
        held_up = 0
        for work in works:
            if held_up < LOCK_TIMEOUTS_MAX:
                held_up += not self._attempt([work], again)
            else:
                busy = database_unavailable()
                _resolve_future(work.answer, busy)
        return not held_up

    def _transact(self, works: list[QueuedRequest], again: int) -> list[Any]:
        answers: list[Any] = []
        hurried = again < RETRIES_MAX or time.monotonic() < self._hurried_until
        with self._store.write(hurried=hurried) as connection:
            batch = Batch(connection, self._states)
            self._serving.learn(connection, {work.workspace for work in works})
            for workspace, needs in _merge_lock_targets(connection, works).items():
                batch.open(workspace, needs)
            for work in works:
                try:
                    answers.append(work.do(batch))
                except RequestRefused as refusal:
                    answers.append(refusal)
            batch.flush()
            batch.drop_unused()
        batch.keep_states()
        return answers

    # What this process says of itself

    async def settled(self, workspace: str, position: int, seconds: float = 30) -> bool:
        """Wait until this process serves a ledger position, switch included."""
        return await self._serving.settled(workspace, position, seconds)

    async def served(self, workspace: str) -> ModelState:
        """The standing that serves a workspace. Only the event loop's thread may read it."""
        return (await self._serving.at(workspace)).standing

    async def effect(self, workspace: str, position: int) -> LearnedEffect | None:
        """What the outcome at a position changed when it was learned here, if it was lately."""
        return (await self._serving.at(workspace)).effects.get(position)

    async def digest(self, workspace: str) -> str:
        """The digest of what serves a workspace now."""
        return (await self._serving.at(workspace)).digest

    def lag(self) -> dict[str, int]:
        """Entries that each served workspace has yet to learn."""
        return self._serving.lag()


def _merge_lock_targets(
    connection: Connection, works: list[QueuedRequest]
) -> dict[str, dict[str, list[str]]]:
    merged: dict[str, dict[str, list[str]]] = {}
    for work in works:
        for conversation, messages in work.needed(connection).items():
            merged.setdefault(work.workspace, {}).setdefault(conversation, []).extend(messages)
    return merged


def _resolve_future(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
