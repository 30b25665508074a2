"""Micro-batching engine: the one owner of the models and the write connection in a process.

It runs on the event loop's thread (measured faster than a thread of its own:
docs/decisions/0003-engine-on-the-event-loop.md).
All requests that wait when the loop turns are one batch and one transaction: read the ledger's
tail and learn it, read the conversations, decide, write, commit (group commit), answer. Nothing
else touches a model that serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection

from experiments.build_info import build_id
from learning.conversation.state import Message, unread_chars
from learning.decision.policy_parts import RedactionPolicy
from learning.ledger.model_state import LearnedEffect, ModelState
from service.runtime.errors import (
    RequestRefused,
    Unavailable,
    database_unavailable,
    disk_full,
    schema_mismatch,
)
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.runtime.tracing import Tracing
from service.scoring import decide
from service.scoring.live_models import LiveModels
from service.scoring.request_queue import LockTargets, QueuedRequest, RequestQueue
from service.scoring.texts.incoming_texts import INLINE_CHARS, IncomingTexts
from service.scoring.texts.text_reader import TextReader
from service.store.conversations.batch import Batch, NotFoldedError, StateCache
from service.store.database.transactions import (
    DatabaseError,
    SchemaError,
    Store,
    UnavailableError,
    is_conflict,
    is_disk_full,
    is_lock_timeout,
)

RETRIES_MAX = 2
"""Retries of requests, each by itself, after a conflict with another transaction."""

LOCK_TIMEOUTS_MAX = 8
"""Requests of one batch that may each time out on a lock before the rest of it is refused."""

FOLD_CHARS_MAX = 20_000
"""Characters of a conversation that are folded within a transaction; more are folded before."""

READ_CHARS_MAX = 4_000
"""Characters that are read within one transaction, in some 25 ms; further requests are the next
batch's.
"""

BATCH_SECONDS, BATCH_LEAST = 0.02, 16
"""Processor time for the requests of one batch, as far as they cost what the last ones did, and how
many it takes at least: the loop has others to listen to.
"""

SHORT_WAIT_SECONDS = 5
"""After a lock timeout, locks are waited for only shortly: one that is held from outside must not
delay everyone's requests, one after the other.
"""

T = TypeVar("T")
_log = structlog.get_logger("baton.engine")


class Engine:
    """Takes requests, answers them in batches, and keeps every live model at the ledger's tail."""

    def __init__(self, store: Store, settings: Settings, metrics: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._reader = TextReader(store, settings.wait_seconds)
        self._live_models = LiveModels(store, settings, metrics, self._reader)
        self._texts = IncomingTexts(self._reader, settings)
        store.on_error = metrics.count_database_error
        self._states = StateCache(settings.states_bytes_max)
        self._folding: set[asyncio.Task[None]] = set()
        self._queue = RequestQueue(settings.queue_max)
        self._batch_scheduled = False
        self._request_seconds = 0.0
        self._stopping = False
        self._short_wait_until = 0.0
        self.tracing: Tracing | None = None

    async def start(self) -> None:
        """Load the workspaces' models, then follow the ledgers while idle."""
        await self._live_models.start()

    async def stop(self) -> None:
        """Answer the requests in the queue, then stop."""
        self._stopping = True
        while self._queue or self._folding:
            self._run_batch()
            await asyncio.sleep(0.01 if self._folding else 0)
        await self._reader.stop()
        await self._live_models.stop()

    # Requests

    async def score(self, command: decide.ScoreCommand) -> Mapping[str, Any]:
        """Decide about one message. Long texts are read before it enters the queue."""
        redaction = await self._redaction(command.workspace)
        chars = unread_chars((*command.history, command.message))
        if redaction.kinds or chars > INLINE_CHARS:
            [command] = await self.with_texts_read(command.workspace, [command])
        return await self.decide(command)

    async def _redaction(self, workspace: str) -> RedactionPolicy:
        return (await self._live_models.get(workspace)).state.policy.redaction

    async def with_texts_read(
        self, workspace: str, commands: Sequence[decide.ScoreCommand]
    ) -> list[decide.ScoreCommand]:
        """The commands of one request with their texts redacted as the policy says, and read where
        they are long. Raises Unavailable.
        """
        conversations: dict[str, list[Message]] = {}
        for command in commands:
            texts = conversations.setdefault(command.conversation_id, [])
            texts += (*command.history, command.message)
        redaction = await self._redaction(workspace)
        prepared = await self._texts.prepare(workspace, conversations, redaction)
        waiting = {name: iter(messages) for name, messages in prepared.items()}
        result = []
        for command in commands:
            texts = list(islice(waiting[command.conversation_id], len(command.history) + 1))
            result.append(replace(command, history=tuple(texts[:-1]), message=texts[-1]))
        return result

    def decide_in(self, batch: Batch, command: decide.ScoreCommand) -> Mapping[str, Any]:
        """Decide about one message, its texts read, within a batch that `run` gives. Raises
        Unavailable.
        """
        model = self._live_models.get_loaded(command.workspace)
        if model.state.half_learned:
            raise Unavailable("restanding", "the model is being reloaded", hint="send it again")
        return decide.score(batch, model.state, model.live, build_id(), command)

    async def decide(self, command: decide.ScoreCommand) -> Mapping[str, Any]:
        """Decide about one message whose texts are ready."""
        answer = await self.run(
            command.workspace,
            lambda batch: self.decide_in(batch, command),
            needs=command.lock_targets,
            appends=False,
            chars=unread_chars((*command.history, command.message)),
        )
        self._metrics.count_decision(command.workspace, answer["action"])
        return answer

    async def read_texts(
        self, workspace: str, conversation: str, messages: Sequence[Message]
    ) -> list[Message]:
        """The messages as they may be stored, with long texts read, for a request that appends
        them.
        """
        redaction = await self._redaction(workspace)
        read = await self._texts.prepare(workspace, {conversation: messages}, redaction)
        return read[conversation]

    async def redact_text(self, workspace: str, text: str | None) -> str | None:
        """A free text without the personal data that the policy redacts."""
        if not text:
            return text
        return await self._texts.redact(workspace, text, await self._redaction(workspace))

    async def prepare_reply(self, workspace: str, reply: Message) -> Message:
        """An agent's reply as it may be stored, with what is said to the customer sealed in it."""
        return await self._texts.prepare_reply(workspace, reply, await self._redaction(workspace))

    async def run(
        self,
        workspace: str,
        do: Callable[[Batch], T],
        *,
        needs: LockTargets | Callable[[Connection], LockTargets] | None = None,
        appends: bool = True,
        chars: int = 0,
    ) -> T:
        """Run `do` inside a batch's transaction; its answer comes after the commit. It has so many
        `chars` of text to read yet.

        A request that `appends` to the ledger is learned before its sender can send the next one.
        `do` must refuse before it changes anything. Raises Unavailable when the queue is full, or
        the wait in it was too long: nothing was recorded then; and when the database does not
        answer: then the commit may have been on its way, and sending it again is safe.
        """
        if self._stopping:
            raise Unavailable("stopping", "this process is shutting down", hint="send it again")
        await self._live_models.get(workspace)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        request = QueuedRequest(workspace, needs or {}, do, appends, future, chars)
        self._enqueue(request)
        answer = await future
        if self.tracing is not None:
            self.tracing.batch(workspace, request.queued_at, request.taken_at)
        return answer

    def _enqueue(self, request: QueuedRequest) -> None:
        shed = self._queue.put(request)
        if shed is not None:
            self._metrics.count_refusal()
            full = Unavailable("queue_full", "too many requests are waiting", hint="send it again")
            _resolve_future(shed.answer, full)
        self._schedule_batch()

    def _schedule_batch(self) -> None:
        if not self._batch_scheduled:
            self._batch_scheduled = True
            asyncio.get_running_loop().call_soon(self._run_batch)

    def _run_batch(self) -> None:
        """Run one batch: the requests in the queue, in one transaction."""
        self._batch_scheduled = False
        requests = self._queue.take(self._batch_size(), READ_CHARS_MAX)
        now = time.monotonic()
        self._metrics.observe_queue([now - r.queued_at for r in requests], len(self._queue))
        for request in requests:
            request.taken_at = now
        requests = self._in_time([r for r in requests if not r.answer.done()])
        requests.sort(key=lambda request: request.workspace)
        try:
            if requests:
                self._try_batch(requests)
        except Exception as error:
            for request in requests:  # whatever broke, nobody waits for an answer that never comes
                _resolve_future(request.answer, error)
            raise
        finally:
            if self._queue:
                self._schedule_batch()

    def _batch_size(self) -> int:
        affordable = int(BATCH_SECONDS / max(self._request_seconds, 1e-6))
        return min(self._settings.batch_max, max(BATCH_LEAST, affordable))

    def _in_time(self, requests: list[QueuedRequest]) -> list[QueuedRequest]:
        """Those that have not waited too long; the others are refused (load shedding): their
        senders have given up, or will, and whoever comes now is answered sooner.
        """
        earliest = time.monotonic() - self._settings.wait_seconds
        for request in requests:
            if request.queued_at < earliest:
                self._metrics.count_refusal()
                waited = "it waited too long; this process is overloaded"
                _resolve_future(
                    request.answer, Unavailable("overloaded", waited, hint="send it again")
                )
        return [request for request in requests if request.queued_at >= earliest]

    async def _fold(self, request: QueuedRequest, error: NotFoldedError) -> None:
        """Fold a long conversation beside, then queue its request again."""
        try:
            folded = await self._reader.fold(error.workspace, error.conversation)
        except Exception as refusal:
            _resolve_future(request.answer, self._to_refusal(refusal))
            return
        if folded[0] > self._states.get(error.workspace, error.conversation)[0]:
            self._states.keep(error.workspace, error.conversation, *folded)
        request.queued_at = time.monotonic()
        self._enqueue(request)

    def _try_batch(self, requests: list[QueuedRequest], retries_left: int = RETRIES_MAX) -> bool:
        """Run requests in one transaction; if one breaks it, each in its own. False where one was
        unavailable.
        """
        with self._metrics.batch(len(requests)):
            try:
                answers = self._transact(requests, retries_left)
            except Exception as error:
                is_single = len(requests) == 1
                if (retries_left and is_conflict(error)) or not (
                    is_single or self._is_unavailable(error)
                ):
                    return self._run_separately(requests, retries_left - 1)
                answers = [self._to_refusal(error)] * len(requests)
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, NotFoldedError):
                task = asyncio.create_task(self._fold(request, answer))
                self._folding.add(task)
                task.add_done_callback(self._folding.discard)
            else:
                _resolve_future(request.answer, answer)
        appended = {request.workspace for request in requests if request.appends}
        if appended:
            with contextlib.suppress(DatabaseError):
                self._live_models.catch_up(appended)
        return not any(isinstance(answer, Unavailable) for answer in answers)

    def _is_unavailable(self, error: Exception) -> bool:
        """Whether the whole database does not answer, so that trying each request alone is in
        vain.
        """
        return isinstance(error, UnavailableError) and not is_lock_timeout(error)

    def _to_refusal(self, error: Exception) -> Exception:
        if isinstance(error, SchemaError):
            _log.error("schema", why=str(error.orig))
            return schema_mismatch()
        if not isinstance(error, UnavailableError):
            return error
        if is_lock_timeout(error):
            self._short_wait_until = time.monotonic() + SHORT_WAIT_SECONDS
        _log.error("transaction_failed", why=str(error.orig))
        return disk_full() if is_disk_full(error) else database_unavailable()

    def _run_separately(self, requests: list[QueuedRequest], retries_left: int) -> bool:
        """Run each in its own transaction; after too many lock timeouts the rest is refused."""
        lock_timeouts = 0
        for request in requests:
            if lock_timeouts < LOCK_TIMEOUTS_MAX:
                lock_timeouts += not self._try_batch([request], retries_left)
            else:
                refusal = database_unavailable()
                _resolve_future(request.answer, refusal)
        return not lock_timeouts

    def _transact(self, requests: list[QueuedRequest], retries_left: int) -> list[Any]:
        answers: list[Any] = []
        short_wait = retries_left < RETRIES_MAX or time.monotonic() < self._short_wait_until
        with self._store.write(short_wait=short_wait) as connection:
            batch = Batch(connection, self._states, FOLD_CHARS_MAX)
            self._live_models.learn(connection, {request.workspace for request in requests})
            for workspace, needs in _merge_lock_targets(connection, requests).items():
                batch.open(workspace, needs)
            began = time.thread_time()
            for request in requests:
                try:
                    answers.append(request.do(batch))
                except (RequestRefused, NotFoldedError) as refusal:
                    answers.append(refusal)
            took = (time.thread_time() - began) / len(requests)
            self._request_seconds += 0.1 * (took - self._request_seconds)
            batch.flush()
            batch.remove_unused_conversations()
        batch.cache_states()
        return answers

    # State of this process

    async def wait_for_position(self, workspace: str, position: int, seconds: float = 30) -> bool:
        """Wait until this process serves a ledger position, switch included; False after
        `seconds`.
        """
        return await self._live_models.wait_for_position(workspace, position, seconds)

    async def model_state(self, workspace: str) -> ModelState:
        """The model state that serves a workspace. Only the event loop's thread may read it."""
        return (await self._live_models.get(workspace)).state

    async def head(self, workspace: str) -> int:
        """The newest position of a workspace's ledger that this process has heard of."""
        return (await self._live_models.get(workspace)).head

    async def learned_effect(self, workspace: str, position: int) -> LearnedEffect | None:
        """What the outcome at a position changed when this process learned it; None if long ago."""
        return (await self._live_models.get(workspace)).effects.get(position)

    async def digest(self, workspace: str) -> str:
        """The digest of the model state that serves a workspace now."""
        return (await self._live_models.get(workspace)).digest

    def lag(self) -> dict[str, int]:
        """Entries that each served workspace has yet to learn."""
        return self._live_models.lag()

    def outdated(self) -> dict[str, str]:
        """Workspaces that only a newer build can follow, and why."""
        return self._live_models.outdated()

    def broken(self) -> list[str]:
        """Workspaces that this process cannot serve; it serves all others."""
        return self._live_models.broken()


def _merge_lock_targets(
    connection: Connection, requests: list[QueuedRequest]
) -> dict[str, dict[str, list[str]]]:
    merged: dict[str, dict[str, list[str]]] = {}
    for request in requests:
        for conversation, messages in request.find_lock_targets(connection).items():
            merged.setdefault(request.workspace, {}).setdefault(conversation, []).extend(messages)
    return merged


def _resolve_future(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
