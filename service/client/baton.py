"""HTTP client of Baton."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
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


class Baton:
    """One key's client, safe to share between threads. A context manager.

        baton = Baton("http://127.0.0.1:8000", key)
        decision = baton.score("conversation-1", "I want to talk to a person")
        print(decision.action)

    Requests that are not answered are sent again under the same id, so each has one effect.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        options: ClientOptions | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.options = options or ClientOptions()
        self._http = httpx.Client(**options_of(url, key), transport=transport)
        self._score = Score(self.options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close_connection()

    def close_connection(self) -> None:
        self._http.close()

    def run(self, operation: Operation[T]) -> T:
        """Send an operation until it is answered. RefusedError, ConflictError, NotAnsweredError."""
        attempts = Attempts(self.options.retries, time.monotonic())
        while True:
            retry_after, failure = None, None
            try:
                response = self._http.request(
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
                time.sleep(pause)
            elif failure is not None:
                why = f"{operation.method} {operation.path}: {failure!r}"
                raise NotAnsweredError(why) from failure
            else:
                return operation.result(response.status_code, content_of(response))

    def score(
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
        """Decide about a message: continue, offer a person, escalate, or stay silent.

        The same `id` again gives the same decision; one is made up where it is left out. `history`
        are the turns since the last call, `bot` what the bot reports of its own work, `advice`
        probabilities from elsewhere, by name; `author`,
        `at`, `language`, `format` and `attachments` are the message's. Raises RefusedError,
        ConflictError, and NotAnsweredError unless `on_error` is "continue".
        """
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
            decision = self.run(asked)
        except NotAnsweredError as error:
            return self._score.without_answer(asked, error)
        self._score.done(asked)
        return decision

    def score_batch(self, items: Sequence[Mapping[str, Any]]) -> list[Decision | RefusedItem]:
        return self.run(operations.score_batch(items))

    def answer_offer(self, decision: str, accepted: bool) -> OfferAnswered:
        return self.run(operations.answer_offer(decision, accepted))

    def add_advice(self, decision: str, advice: Mapping[str, float]) -> LateAdvice:
        """Advice that came after its decision: it counts from the next message on."""
        return self.run(operations.add_advice(decision, advice))

    def add_messages(self, conversation: str, turns: Sequence[Mapping[str, Any]]) -> Appended:
        return self.run(operations.add_messages(conversation, turns))

    def close(self, conversation: str, resolution: Resolution = "unknown") -> Closed:
        return self.run(operations.close(conversation, resolution))

    def conversation(self, conversation: str, after: int = 0) -> ConversationState:
        """Its state, and its turns after the place `after`."""
        return self.run(operations.conversation_state(conversation, after))

    def report_outcome(
        self,
        conversation: str,
        verdict: str,
        source: str,
        *,
        since: str | None = None,
        note: str | None = None,
    ) -> RecordedOutcome:
        return self.run(operations.report_outcome(conversation, verdict, source, since, note))

    def hand_over(
        self, conversation: str, reason: HandoverReason = "other", **more: Unpack[HandoffFields]
    ) -> HandoffState:
        return self.run(operations.hand_over(conversation, reason, **more))

    def handoffs(self, status: str | None = None, team: str | None = None) -> list[HandoffState]:
        return self.run(operations.list_handoffs(status, team))

    def handoff(self, handoff: str) -> dict[str, Any]:
        """Its context packet: transcript, attempts, reasons, facts, summary."""
        return self.run(operations.handoff_packet(handoff))

    def claim(self, handoff: str) -> HandoffState:
        return self.run(operations.change_handoff(handoff, "claim"))

    def assign(self, handoff: str, user: str) -> HandoffState:
        return self.run(operations.change_handoff(handoff, "assign", {"user": user}))

    def reply(
        self,
        handoff: str,
        text: str,
        *,
        id: str | None = None,  # noqa: A002
    ) -> Reply:
        """Write to the customer, as an agent."""
        return self.run(operations.reply(handoff, text, id))

    def give_back(self, handoff: str) -> HandoffState:
        return self.run(operations.change_handoff(handoff, "return"))

    def resolve(self, handoff: str) -> HandoffState:
        return self.run(operations.change_handoff(handoff, "resolve"))

    def record_verdict(
        self,
        handoff: str,
        verdict: str,
        *,
        since: str | None = None,
        note: str | None = None,
        team: str | None = None,
    ) -> RecordedOutcome:
        return self.run(operations.record_verdict(handoff, verdict, since, note, team))

    def events(self, after: str = "") -> Iterator[StreamEvent]:
        """What happens in the workspace, each event once, from now on or from after an event's id.

        It never ends by itself: a connection that breaks is opened again where it broke.
        Raises RefusedError where the key may not.
        """
        parser = EventParser(after)
        while True:
            try:
                with self._http.stream(
                    "GET", "/v1/events", headers=parser.headers, timeout=QUIET_SECONDS
                ) as response:
                    if response.status_code != httpx.codes.OK:
                        response.read()
                        stream_refusal(response)
                    else:
                        for line in response.iter_lines():
                            if (event := parser.feed(line)) is not None:
                                yield event
            except httpx.TransportError:
                pass
            time.sleep(parser.pause())
