"""HTTP server: the API under uvicorn, with timeouts and a limit of connections."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, ClassVar

import uvicorn
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.runtime import logs
from service.runtime.errors import HeadTooLarge, Unavailable
from service.runtime.settings import Settings
from service.web.app import create_app
from service.web.error_responses import error_json, error_response

HEADERS_SECONDS = 15
"""How long a client may take for a request's first line and headers."""

HEAD_BYTES_MAX = 64 * 2**10
"""A request's first line and headers together; one that has more is refused while it comes."""

IDLE_SECONDS = 75
"""How long a connection may idle between requests; longer than load balancers keep theirs."""

WRITE_SECONDS = 60
"""How long a client may take nothing of an answer. The kernel keeps a megabyte or two for it, so
this is seen at that grain: who takes 40 KB a second gets all of it, however much it is.
"""

SWITCH_SECONDS = 0.001
"""How long another thread (one that reads long texts) may keep the event loop's waiting."""

STOP_SECONDS = 20
BACKLOG = 2048


async def refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503 to a connection beyond the limit, and close it."""
    refusal = Unavailable("connections_full", "too many connections are open", hint="send it again")
    answer = error_response(refusal)
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


class LimitedProtocol(HttpToolsProtocol):
    """HTTP protocol with limits: closes the connection of a client that does not send its request
    or does not read its answer, or sends too long a head (431).

    Beyond `connections_max` the one that has asked for nothing for longest makes room; where all
    wait for an answer, the newcomer is refused.
    """

    connections_max: ClassVar[int]
    unasked: ClassVar[dict[LimitedProtocol, None]]
    """Connections without a request in flight, the longest so first."""
    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0
    _fields_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.connections_max and not self._make_room():
            self.app = refuse_connection
        self.unasked[self] = None
        self._start_request_timer(transport)

    def _make_room(self) -> bool:
        """Close the connection that has asked for nothing for longest; False if there is none."""
        longest = next(iter(self.unasked), None)
        if longest is None:
            return False
        del self.unasked[longest]
        self.connections.discard(longest)  # the kernel tells of its end only later
        longest.transport.close()
        return True

    def data_received(self, data: bytes) -> None:
        """Parse what came. A head is counted while it comes, since the parser keeps what it is
        sent of a header until that ends; complete fields are counted one by one (`on_header`).
        """
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes, self._fields_bytes = True, 0, 0
        if self._request_timer is None:
            self._start_request_timer(self.transport)

    def on_url(self, url: bytes) -> None:
        self._count_field(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_field(len(name) + len(value))
        super().on_header(name, value)

    def _count_field(self, size: int) -> None:
        self._fields_bytes += size + len(b": \r\n")
        if self._fields_bytes > HEAD_BYTES_MAX:
            raise ValueError("the head is too large")  # ends the parser: `send_400_response`

    def on_headers_complete(self) -> None:
        self._cancel_request_timer()
        self._in_head, self._head_bytes = False, 0
        self.unasked.pop(self, None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self.unasked[self] = None

    def send_400_response(self, msg: str) -> None:
        if self._fields_bytes > HEAD_BYTES_MAX:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _refuse_head(self) -> None:
        """431 and close; only close where the answer to an earlier request is still due."""
        if self.transport.is_closing():
            return
        if not self._is_answering():
            body = to_json(error_json(head_too_large()))
            lines = (
                b"HTTP/1.1 431 Request Header Fields Too Large",
                b"content-type: application/json",
                b"content-length: %d" % len(body),
                b"connection: close",
                b"",
                body,
            )
            self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        self._cancel_write_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_request_timer()
        self._cancel_write_timer()
        self.unasked.pop(self, None)
        super().connection_lost(exc)

    def _start_request_timer(self, transport: Any) -> None:
        self._request_timer = self.loop.call_later(HEADERS_SECONDS, transport.close)

    def _cancel_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _start_write_timer(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self._check_progress, left)

    def _check_progress(self, left: int) -> None:
        if self.transport.get_write_buffer_size() < left:
            self._start_write_timer()
        else:
            self.transport.abort()

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def protocol(settings: Settings) -> type[LimitedProtocol]:
    """The protocol with an installation's limits, and a list of unasked connections of its own."""
    limits: dict[str, Any] = {"connections_max": settings.connections_max, "unasked": {}}
    return type("Protocol", (LimitedProtocol,), limits)


def head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        "head_too_large",
        f"the request line and headers are larger than {HEAD_BYTES_MAX} bytes",
        hint="send fewer or shorter headers",
    )


def serve(settings: Settings) -> None:
    """Serve until told to stop; requests in flight are answered first (graceful shutdown)."""
    logs.configure(settings.log_level, process="serve")
    _run(settings, listen(settings))


def serve_from(settings: Settings, listening: int, parent: int) -> None:
    """Serve on a socket that `serve_with` opened, for as long as that process (`parent`) lives.

    It is told which one that is: asking would come too late if it has just been killed.
    """
    logs.configure(settings.log_level, process=f"serve:{os.getpid()}")

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    _run(settings, socket.socket(fileno=listening))


def listen(settings: Settings) -> socket.socket:
    """The API's port, opened. Raises OSError that says which one is taken, and what to do."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another port with --port or BATON_PORT"
        ) from error


def _run(settings: Settings, listening: socket.socket) -> None:
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http=protocol(settings),
        ws="none",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        server_header=False,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has ended
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(config)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector need not visit it again and again
    server.run(sockets=[listening])
    if not server.started:
        raise SystemExit(3)
