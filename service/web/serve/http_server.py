"""Running the API under uvicorn: one process, or several on one port."""

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

TAKE_SECONDS = 60
"""How long a client may take nothing of an answer. The kernel keeps a megabyte or two for it, so
this is seen at that grain: who takes 40 KB a second gets all of it, however much it is.
"""

STOP_SECONDS = 20
BACKLOG = 2048


async def refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to a connection too many."""
    busy = Unavailable("connections_full", "too many connections are open", hint="send it again")
    answer = error_response(busy)
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


class TimeoutProtocol(HttpToolsProtocol):
    """Hangs up on a client that does not say what it wants, or does not take its answer; with
    `connections_max` others there, on any, and says why.
    """

    connections_max: ClassVar[int]
    _hang_up: asyncio.TimerHandle | None = None
    _let_drop: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            self.app = refuse_connection
        self._wait(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._hang_up is None:
            self._wait(self.transport)

    def on_headers_complete(self) -> None:
        self._heard()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_taking()

    def resume_writing(self) -> None:
        self._took()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()
        self._took()
        super().connection_lost(exc)

    def _wait(self, transport: Any) -> None:
        self._hang_up = self.loop.call_later(HEADERS_SECONDS, transport.close)

    def _heard(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None

    def _wait_for_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._let_drop = self.loop.call_later(TAKE_SECONDS, self._look, left)

    def _look(self, left: int) -> None:
        if self.transport.get_write_buffer_size() < left:
            self._wait_for_taking()
        else:
            self.transport.abort()

    def _took(self) -> None:
        if self._let_drop is not None:
            self._let_drop.cancel()
            self._let_drop = None


def serve(settings: Settings) -> None:
    """Serve until told to stop; what was taken is answered first."""
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
        http=type("Patience", (TimeoutProtocol,), {"connections_max": settings.connections_max}),
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
