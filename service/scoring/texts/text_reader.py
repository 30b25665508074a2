"""Text processing off the event loop: long texts are read, and long conversations folded, before
a request enters the queue.

Texts are read in a process of its own (`reading_process`), a piece at a time, round-robin over
workspaces and over the requests of each (processor sharing): a long request waits for the long
ones, a shorter one does not wait for it. What is read there is what the fold would find by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from learning.conversation.redaction import Kind, with_redacted_text
from learning.conversation.state import Message, State, step
from service.runtime.errors import Unavailable
from service.scoring.texts.reading_process import ReadingProcess, TextJob, TextResult
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store

WAITING_CHARS_MAX = 4_000_000
"""Characters that may wait to be read; beyond that requests are refused (load shedding)."""

READ_SECONDS_MAX = 25.0
"""A request whose texts take longer, on a machine that has other things to do, is refused: its
sender has given up, or will.
"""

PIECE_CHARS = 20_000
"""Characters that are read before it is another request's turn; one text is read whole."""

CHARS_PER_SECOND, SPEED_KEPT = 200_000.0, 0.9
"""How fast texts are read, before it was measured, and what a piece leaves of that."""

PIECE = 50
"""Messages read from the database at once."""


@dataclass(slots=True, eq=False)
class _ReadRequest:
    """The texts of one request, how many characters of them are left, and their results so far."""

    jobs: Sequence[TextJob]
    answer: asyncio.Future[list[TextResult]] = field(repr=False)
    chars: int = 0
    deadline: float = math.inf
    results: list[TextResult] = field(default_factory=list)

    def next_piece(self) -> Sequence[TextJob]:
        """The next texts, at least one."""
        begin = end = len(self.results)
        chars = 0
        while end < len(self.jobs) and chars < PIECE_CHARS:
            chars += len(self.jobs[end].text)
            end += 1
        return self.jobs[begin:end]

    def take(self, results: Sequence[TextResult]) -> int:
        """Keep the results of the next piece; gives how many characters that was."""
        begin = len(self.results)
        self.results += results
        chars = sum(len(job.text) for job in self.jobs[begin : len(self.results)])
        self.chars -= chars
        if len(self.results) == len(self.jobs) and not self.answer.done():
            self.answer.set_result(self.results)
        return chars


class _Speed:
    """Characters a second, of what was read lately (exponential moving average)."""

    def __init__(self) -> None:
        self._chars, self._seconds = CHARS_PER_SECOND, 1.0

    @property
    def chars_per_second(self) -> float:
        return self._chars / self._seconds

    def note(self, chars: int, seconds: float) -> None:
        self._chars = SPEED_KEPT * self._chars + chars
        self._seconds = SPEED_KEPT * self._seconds + seconds


class TextReader:
    """Reads texts for every workspace. A request that would wait for longer than `wait_seconds`
    until the others' share is done is refused at once.
    """

    def __init__(self, store: Store, wait_seconds: float) -> None:
        self._store = store
        self._wait_seconds = wait_seconds
        self._process = ReadingProcess()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="texts")
        self._lines: OrderedDict[str, deque[_ReadRequest]] = OrderedDict()
        self._speed = _Speed()
        self._dispatcher: asyncio.Task[None] | None = None

    async def read(
        self,
        workspace: str,
        conversations: Mapping[str, Sequence[Message]],
        kinds: Sequence[Kind] = (),
    ) -> dict[str, list[Message]]:
        """The messages that a request appends to conversations, with their texts read; data of
        these kinds is redacted first. Raises Unavailable.
        """
        texts = [turn.text for messages in conversations.values() for turn in messages]
        self._require_in_time(workspace, sum(map(len, texts)))
        spoken = await asyncio.to_thread(self._declared_languages, workspace, conversations)
        with_languages = [
            pair
            for name, messages in conversations.items()
            for pair in _with_languages(messages, spoken.get(name))
        ]
        deadline = time.monotonic() + READ_SECONDS_MAX
        read = iter(await self._read_messages(workspace, with_languages, kinds, deadline))
        return {name: [next(read) for _ in turns] for name, turns in conversations.items()}

    def _declared_languages(
        self, workspace: str, conversations: Mapping[str, Sequence[Message]]
    ) -> dict[str, str | None]:
        """The languages of the conversations whose next message does not say its own."""
        with self._store.read() as connection:
            return {
                name: conversation_rows.declared_language(connection, workspace, name)
                for name, messages in conversations.items()
                if messages and not messages[0].language
            }

    async def read_history(self, workspace: str, messages: Sequence[Message]) -> list[Message]:
        """The messages of a conversation, from its first on, with their texts read; however many
        wait.
        """
        return await self._read_messages(workspace, list(_with_languages(messages, None)), ())

    async def fold(self, workspace: str, conversation: str) -> tuple[int, State]:
        """A stored conversation's length, and its state. Raises Unavailable."""
        while True:
            before = await asyncio.to_thread(self._count_removals, workspace, conversation)
            folded = await self._fold_pieces(workspace, conversation)
            after = await asyncio.to_thread(self._count_removals, workspace, conversation)
            if after == before:
                return folded  # else words went while they were read

    def _count_removals(self, workspace: str, conversation: str) -> int:
        with self._store.read() as connection:
            return conversation_rows.count_removals(connection, workspace, conversation)

    async def _fold_pieces(self, workspace: str, conversation: str) -> tuple[int, State]:
        length, state = 0, State()
        while True:
            stored = await asyncio.to_thread(self._messages, workspace, conversation, length)
            messages = await self._read_messages(
                workspace, list(_with_languages(stored, state.language)), ()
            )
            state = await asyncio.to_thread(_fold, state, messages)
            length += len(messages)
            if len(messages) < PIECE:
                return length, state

    def _messages(self, workspace: str, conversation: str, after: int) -> list[Message]:
        with self._store.read() as connection:
            rows = conversation_rows.messages(
                connection, workspace, conversation, after=after, until=after + PIECE
            )
        return [conversation_rows.message_of(row) for row in rows]

    async def _read_messages(
        self,
        workspace: str,
        messages: Sequence[tuple[Message, str | None]],
        kinds: Sequence[Kind],
        deadline: float = math.inf,
    ) -> list[Message]:
        jobs = [
            TextJob(m.author, m.text, m.format, m.language, language, tuple(kinds))
            for m, language in messages
        ]
        results = await self._read(workspace, jobs, deadline)
        return [
            replace(
                m if result.text is None else with_redacted_text(m, result.text),
                reading=result.reading,
            )
            for (m, _), result in zip(messages, results, strict=True)
        ]

    # The line of those who wait

    async def _read(
        self, workspace: str, jobs: Sequence[TextJob], deadline: float
    ) -> list[TextResult]:
        if not jobs:
            return []
        chars = sum(len(job.text) for job in jobs)
        if chars + sum(self._waiting().values()) > WAITING_CHARS_MAX:
            raise Unavailable("texts_waiting", "too much text is waiting", hint="send it again")
        request = _ReadRequest(jobs, asyncio.get_running_loop().create_future(), chars, deadline)
        self._lines.setdefault(workspace, deque()).append(request)
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch())
        return await request.answer

    def _waiting(self) -> dict[str, int]:
        """Characters that wait, by workspace."""
        return {name: sum(r.chars for r in line) for name, line in self._lines.items()}

    def _require_in_time(self, workspace: str, chars: int) -> None:
        """Refuse what would wait for too long: while it is read, the requests beside it get no
        more than it does, and nor do the other workspaces. Raises Unavailable.
        """
        beside = sum(min(request.chars, chars) for request in self._lines.get(workspace, ()))
        share = beside + chars
        others = sum(min(n, share) for name, n in self._waiting().items() if name != workspace)
        seconds = (beside + others) / self._speed.chars_per_second
        own = chars / self._speed.chars_per_second
        is_late = bool(self._lines) and seconds + own > READ_SECONDS_MAX
        if is_late or seconds > self._wait_seconds:
            raise _too_late(seconds)

    async def _dispatch(self) -> None:
        """Read pieces until nobody waits."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._process.start)
        while self._lines:
            workspace, line = next(iter(self._lines.items()))
            self._lines.move_to_end(workspace)
            request = line[0]
            line.rotate(-1)
            if time.monotonic() > request.deadline and not request.answer.done():
                request.answer.set_exception(_too_late(1.0))
            if not request.answer.done():
                await self._read_piece(request)
            if request.answer.done():  # or nobody waits for it any more
                line.remove(request)
                if not line:
                    del self._lines[workspace]

    async def _read_piece(self, request: _ReadRequest) -> None:
        loop = asyncio.get_running_loop()
        piece, began = request.next_piece(), time.monotonic()
        try:
            results = await loop.run_in_executor(self._thread, self._process.read, piece)
            self._speed.note(request.take(results), time.monotonic() - began)
        except Exception as error:
            if not request.answer.done():
                request.answer.set_exception(error)

    async def stop(self) -> None:
        """End the process once it has done what it does: the store is closed next."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        stopping = Unavailable("stopping", "this process is shutting down", hint="send it again")
        for request in itertools.chain.from_iterable(self._lines.values()):
            if not request.answer.done():
                request.answer.set_exception(stopping)
        await asyncio.to_thread(self._process.stop)
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._process.close()


def _too_late(seconds: float) -> Unavailable:
    """The refusal of a request that is not read in time; nothing of it was recorded."""
    refusal = Unavailable(
        "texts_waiting",
        "it would wait too long until its texts are read",
        hint="send it again, or shorter texts",
    )
    refusal.retry_after = math.ceil(max(seconds, 1.0))
    return refusal


def _with_languages(
    messages: Iterable[Message], language: str | None
) -> Iterable[tuple[Message, str | None]]:
    """Each message with the language that its conversation is said to be in."""
    for message in messages:
        language = message.language or language
        yield message, language


def _fold(state: State, messages: Iterable[Message]) -> State:
    for message in messages:
        state = step(state, message)
    return state
