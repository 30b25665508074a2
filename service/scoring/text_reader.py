"""Text processing off the event loop: long texts are read, and long conversations folded, in one
worker thread, before a request enters the queue.

What it gives is what the fold would find by itself, so where it was read changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from learning.conversation.state import Message, State, step, with_readings
from service.runtime.errors import Unavailable
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store

T = TypeVar("T")

INLINE_CHARS = 2_000
"""Texts of one request that are read on the event loop: some milliseconds at the worst."""

WAITING_CHARS_MAX = 4_000_000
"""Characters that may wait to be read; beyond that requests are refused (load shedding)."""

PIECE = 50
"""Messages read from the database at once."""


class TextReader:
    """One thread that reads texts, in the order they came."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="texts")
        self._waiting_chars = 0

    async def read(
        self, workspace: str, conversation: str, messages: Sequence[Message], chars: int
    ) -> tuple[Message, ...]:
        """The messages with their texts read, of so many characters. Raises Unavailable."""
        return await self._run(chars, lambda: self._read(workspace, conversation, messages))

    async def fold(self, workspace: str, conversation: str, chars: int) -> tuple[int, State]:
        """A stored conversation's length, and its state. Raises Unavailable."""
        return await self._run(chars, lambda: self._fold(workspace, conversation))

    async def _run(self, chars: int, work: Callable[[], T]) -> T:
        if self._waiting_chars > WAITING_CHARS_MAX:
            raise Unavailable("texts_waiting", "too much text is waiting", hint="send it again")
        self._waiting_chars += chars
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting_chars -= chars

    def _read(
        self, workspace: str, conversation: str, messages: Sequence[Message]
    ) -> tuple[Message, ...]:
        with self._store.read() as connection:
            language = conversation_rows.declared_language(connection, workspace, conversation)
        return tuple(with_readings(messages, language))

    def _fold(self, workspace: str, conversation: str) -> tuple[int, State]:
        while True:
            before = self._count_removals(workspace, conversation)
            folded = self._fold_pieces(workspace, conversation)
            if self._count_removals(workspace, conversation) == before:
                return folded  # else words went while they were read

    def _count_removals(self, workspace: str, conversation: str) -> int:
        with self._store.read() as connection:
            return conversation_rows.count_removals(connection, workspace, conversation)

    def _fold_pieces(self, workspace: str, conversation: str) -> tuple[int, State]:
        length, state = 0, State()
        while True:
            with self._store.read() as connection:
                rows = conversation_rows.messages(
                    connection, workspace, conversation, after=length, until=length + PIECE
                )
            for row in rows:
                state = step(state, conversation_rows.message_of(row))
            length += len(rows)
            if len(rows) < PIECE:
                return length, state

    async def stop(self) -> None:
        """End the thread once it has done what it does: the store is closed next."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
