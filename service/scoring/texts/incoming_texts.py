"""Texts of requests before they enter the queue: redacted as the workspace's policy says, and the
long ones read beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from learning.conversation.redaction import Kind, redact_message
from learning.conversation.state import Message
from learning.decision.policy_parts import RedactionPolicy
from service.runtime.sealing import Sealer
from service.runtime.settings import Settings
from service.scoring.texts.text_reader import TextReader

INLINE_CHARS, INLINE_CHARS_TOTAL = 1_000, 20_000
"""Texts of one conversation, and of all in one request, that are read on the event loop, some
milliseconds at a time.
"""

REDACTED_CHARS, REDACTED_CHARS_TOTAL = 500, 2_000
"""The same, where they are redacted first: that is done in one go."""


_log = structlog.get_logger("baton.redaction")


class IncomingTexts:
    """Makes the messages of requests ready for the engine."""

    def __init__(self, reader: TextReader, settings: Settings) -> None:
        self._reader = reader
        self._settings = settings
        self._sealer = Sealer(settings.secret_key) if settings.secret_key else None

    async def prepare(
        self,
        workspace: str,
        conversations: Mapping[str, Sequence[Message]],
        redaction: RedactionPolicy,
    ) -> dict[str, list[Message]]:
        """The messages of a request, by conversation, as they may be stored. Raises Unavailable."""
        kinds = redaction.kinds
        most, most_in_total = (
            (REDACTED_CHARS, REDACTED_CHARS_TOTAL) if kinds else (INLINE_CHARS, INLINE_CHARS_TOTAL)
        )
        chars = {name: text_chars(messages) for name, messages in conversations.items()}
        is_large = sum(chars.values()) > most_in_total
        long = {
            name: messages
            for name, messages in conversations.items()
            if is_large or chars[name] > most
        }
        read = await self._reader.read(workspace, long, kinds) if long else {}
        ready = {
            name: read[name] if name in read else _redacted(messages, kinds)
            for name, messages in conversations.items()
        }
        if redaction.originals != "none":
            for name, messages in conversations.items():
                ready[name] = list(map(self._with_original, ready[name], messages))
        return ready

    def _with_original(self, message: Message, original: Message) -> Message:
        """A redacted message with what it said, encrypted."""
        if message.text == original.text:
            return message
        if self._sealer is None:
            _log.error("original_not_kept", why="BATON_SECRET_KEY is not set in this process")
            return message
        return replace(message, sealed=self._sealer.seal(original.text))

    async def redact(self, workspace: str, text: str, redaction: RedactionPolicy) -> str:
        """A free text without the personal data that the policy redacts."""
        return (await self._prepare_one(workspace, Message("", "agent", text, 0.0), redaction)).text

    async def prepare_reply(
        self, workspace: str, reply: Message, redaction: RedactionPolicy
    ) -> Message:
        """A reply as it may be stored; sealed in it, for whoever says it, as it was written."""
        ready = await self._prepare_one(workspace, reply, redaction)
        if ready.text == reply.text or ready.sealed is not None:
            return ready
        sealer = await asyncio.to_thread(Sealer.of, self._settings)
        return replace(ready, sealed=sealer.seal(reply.text))

    async def _prepare_one(
        self, workspace: str, message: Message, redaction: RedactionPolicy
    ) -> Message:
        return (await self.prepare(workspace, {"": [message]}, redaction))[""][0]


def text_chars(messages: Sequence[Message]) -> int:
    """Characters of the messages' texts."""
    return sum([len(message.text) for message in messages])


def _redacted(messages: Sequence[Message], kinds: Sequence[Kind]) -> list[Message]:
    return [redact_message(message, kinds) for message in messages] if kinds else list(messages)
