"""Asynchronous HTTP client of Baton."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from . import operations
from .answers import (
    Appended,
    Closed,
    ConversationState,
    Decision,
    HandoffState,
    LateAdvice,
    OfferAnswered,
    RecordedOutcome,
    RefusedItem,
    Reply,
)
from .connection import ClientOptions, Score, content_of, options_of, stream_refusal
from .errors import NotAnsweredError
from .event_stream import QUIET_SECONDS, EventParser, StreamEvent
from .operations import HandoffFields, HandoverReason, MessageFields, Operation, Resolution
from .retries import RETRIED, Attempts

T = TypeVar("T")


class AsyncBaton:
    """As `Baton`, for asyncio."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        options: ClientOptions | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.options = options or ClientOptions()
        self._http = httpx.AsyncClient(**options_of(url, key), transport=transport)
        self._score = Score(self.options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def run(self, operation: Operation[T]) -> T:
        """Send an operation until it is answered. RefusedError, ConflictError, NotAnsweredError."""
        attempts = Attempts(self.options.retries, time.monotonic())
        while True:
            retry_after, failure = None, None
            try:
                response = await self._http.request(
                    operation.method,
                    operation.path,
                    json=operation.body,
                    headers=operation.headers,
                    timeout=attempts.timeout(time.monotonic()),
                )
                if response.status_code not in RETRIED:
                    return operation.result(response.status_code, content_of(response))
                retry_after = response.headers.get("Retry-After")
            except httpx.TransportError as error:
                failure = error
            pause = attempts.pause(time.monotonic(), retry_after)
            if pause is not None:
                await asyncio.sleep(pause)
            elif failure is not None:
                why = f"{operation.method} {operation.path}: {failure!r}"
                raise NotAnsweredError(why) from failure
            else:
                return operation.result(response.status_code, content_of(response))

    async def score(
        self,
        conversation: str,
        text: str,
        *,
        id: str | None = None,  # noqa: A002
        history: Sequence[Mapping[str, Any]] = (),
        attributes: Mapping[str, Any] | None = None,
        bot: Mapping[str, Any] | None = None,
        advice: Mapping[str, float] | None = None,
        **message: Unpack[MessageFields],
    ) -> Decision:
        """Decide about a message, as `Baton.score`."""
        asked = self._score.operation(
            conversation,
            text,
            id=id,
            history=history,
            attributes=attributes,
            bot=bot,
            advice=advice,
            **message,
        )
        try:
            decision = await self.run(asked)
        except NotAnsweredError as error:
            return self._score.without_answer(asked, error)
        self._score.done(asked)
        return decision

    async def score_batch(self, items: Sequence[Mapping[str, Any]]) -> list[Decision | RefusedItem]:
        return await self.run(operations.score_batch(items))

    async def answer_offer(self, decision: str, accepted: bool) -> OfferAnswered:
        return await self.run(operations.answer_offer(decision, accepted))

    async def add_advice(self, decision: str, advice: Mapping[str, float]) -> LateAdvice:
        """Advice that came after its decision: it counts from the next message on."""
        return await self.run(operations.add_advice(decision, advice))

    async def add_messages(self, conversation: str, turns: Sequence[Mapping[str, Any]]) -> Appended:
        return await self.run(operations.add_messages(conversation, turns))

    async def close(self, conversation: str, resolution: Resolution = "unknown") -> Closed:
        return await self.run(operations.close(conversation, resolution))

    async def conversation(self, conversation: str, after: int = 0) -> ConversationState:
        """Its state, and its turns after the place `after`."""
        return await self.run(operations.conversation_state(conversation, after))

    async def report_outcome(
        self,
        conversation: str,
        verdict: str,
        source: str,
        *,
        since: str | None = None,
        note: str | None = None,
    ) -> RecordedOutcome:
        return await self.run(operations.report_outcome(conversation, verdict, source, since, note))

    async def hand_over(
        self, conversation: str, reason: HandoverReason = "other", **more: Unpack[HandoffFields]
    ) -> HandoffState:
        return await self.run(operations.hand_over(conversation, reason, **more))

    async def handoffs(
        self, status: str | None = None, team: str | None = None
    ) -> list[HandoffState]:
        return await self.run(operations.list_handoffs(status, team))

    async def handoff(self, handoff: str) -> dict[str, Any]:
        """Its context packet: transcript, attempts, reasons, facts, summary."""
        return await self.run(operations.handoff_packet(handoff))

    async def claim(self, handoff: str) -> HandoffState:
        return await self.run(operations.change_handoff(handoff, "claim"))

    async def assign(self, handoff: str, user: str) -> HandoffState:
        return await self.run(operations.change_handoff(handoff, "assign", {"user": user}))

    async def reply(
        self,
        handoff: str,
        text: str,
        *,
        id: str | None = None,  # noqa: A002
    ) -> Reply:
        """Write to the customer, as an agent."""
        return await self.run(operations.reply(handoff, text, id))

    async def give_back(self, handoff: str) -> HandoffState:
        return await self.run(operations.change_handoff(handoff, "return"))

    async def resolve(self, handoff: str) -> HandoffState:
        return await self.run(operations.change_handoff(handoff, "resolve"))

    async def record_verdict(
        self,
        handoff: str,
        verdict: str,
        *,
        since: str | None = None,
        note: str | None = None,
        team: str | None = None,
    ) -> RecordedOutcome:
        return await self.run(operations.record_verdict(handoff, verdict, since, note, team))

    async def events(self, after: str = "") -> AsyncIterator[StreamEvent]:
        """What happens in the workspace, each event once, as `Baton.events`."""
        parser = EventParser(after)
        while True:
            try:
                async with self._http.stream(
                    "GET", "/v1/events", headers=parser.headers, timeout=QUIET_SECONDS
                ) as response:
                    if response.status_code != httpx.codes.OK:
                        await response.aread()
                        stream_refusal(response)
                    else:
                        async for line in response.aiter_lines():
                            if (event := parser.feed(line)) is not None:
                                yield event
            except httpx.TransportError:
                pass
            await asyncio.sleep(parser.pause())
