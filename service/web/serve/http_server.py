"""HTTP server: the API under uvicorn, with timeouts and a limit of connections."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from typing import Any, ClassVar

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.runtime import logs
from service.runtime.errors import Unavailable
from service.runtime.settings import Settings
from service.web.app import create_app
from service.web.error_responses import error_response

HEADERS_SECONDS = 15
"""How long a client may take for a request's first line and headers."""

IDLE_SECONDS = 75
"""How long a connection may idle between requests; longer than load balancers keep theirs."""

WRITE_SECONDS = 60
"""How long a client may take nothing of an answer. The kernel keeps a megabyte or two for it, so
this is seen at that grain: who takes 40 KB a second gets all of it, however much it is.
"""

STOP_SECONDS = 20
BACKLOG = 2048


async def refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503 to a connection beyond the limit, and close it."""
    refusal = Unavailable("connections_full", "too many connections are open", hint="send it again")
    answer = error_response(refusal)
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


class TimeoutProtocol(HttpToolsProtocol):
    """HTTP protocol with timeouts: closes the connection of a client that does not send its request
    or does not read its answer; beyond `connections_max` connections, any, and says why.
    """

    connections_max: ClassVar[int]
    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            self.app = refuse_connection
        self._start_request_timer(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._request_timer is None:
            self._start_request_timer(self.transport)

    def on_headers_complete(self) -> None:
        self._cancel_request_timer()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        self._cancel_write_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_request_timer()
        self._cancel_write_timer()
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
        http=type(
            "LimitedProtocol", (TimeoutProtocol,), {"connections_max": settings.connections_max}
        ),
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
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector need not visit it again and again
    server.run(sockets=[listening])
    if not server.started:
        raise SystemExit(3)
