"""Requests' bodies, within limits of size and time: a slow or large sender costs only itself."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

from service.errors import Busy, Slow, TooLarge

BODY_BYTES_MAX = 16 * 2**20
BODY_SECONDS = 20
"""How long a client may pause while it sends a body."""

BODIES_BYTES_MAX = 16 * BODY_BYTES_MAX
"""All bodies in a process together: many large ones must not take its memory."""


class Bodies:
    """The bodies that a process holds now."""

    def __init__(self) -> None:
        self.held = 0


class Body:
    """One of them, as it comes: stands in for the request's `receive`."""

    def __init__(self, receive: Receive, among: Bodies) -> None:
        self._receive = receive
        self._among = among
        self._received = 0
        self._whole = False

    async def receive(self) -> Message:
        """The next piece. Raises TooLarge, Slow, Busy."""
        if self._whole:  # what is waited for now is that the client hangs up
            return await self._receive()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await self._receive()
        except TimeoutError as error:
            raise Slow(
                "body_too_slow",
                f"no part of the body came for {BODY_SECONDS} seconds",
                hint="send it again, in one piece",
            ) from error
        self._whole = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self._received += size
        self._among.held += size
        if self._received > BODY_BYTES_MAX:
            raise too_large()
        if self._among.held > BODIES_BYTES_MAX:
            raise Busy("bodies_full", "too many large requests at once", hint="send it again")
        return message

    def done(self) -> None:
        """The request is over."""
        self._among.held -= self._received


def too_large() -> TooLarge:
    return TooLarge(
        "body_too_large",
        f"the body is larger than {BODY_BYTES_MAX} bytes",
        hint="send fewer or shorter messages in one request",
    )
