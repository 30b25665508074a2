"""A far side: a real HTTP server in a thread, whose every request one function answers.

A behaviour decides what becomes of a request, by its number: `ok`; `500`, `429`, `503` (nothing
was done); `lost` (it was done, and the answer never comes); `slow` (it was done, and the answer
comes too late); `late` (nothing was done, and no answer).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import LIMIT_SECONDS

Answer = tuple[int, Any]
Behaviour = Callable[[int], str]


class HttpSide:
    """Base of the fakes: `answer` is told of each request, and what it finds wrong it notes."""

    def __init__(self, behaviour: Behaviour = lambda _: "ok") -> None:
        self.url = ""
        self.behaviour = behaviour
        self.wrong: list[str] = []
        self.count = 0
        self.lock = threading.RLock()
        self.ended = threading.Event()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        raise NotImplementedError

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("content-length", 0))
        body = request.rfile.read(length)
        if len(body) < length:
            return  # its sender was killed
        with self.lock:
            self.count += 1
            does = self.behaviour(self.count)
            if does in ("ok", "lost", "slow"):
                headers = {name.lower(): value for name, value in request.headers.items()}
                try:
                    status, said = self.answer(request.command, request.path, headers, body)
                except Exception as error:
                    self.wrong.append(f"{request.command} {request.path}: {error!r}")
                    status, said = 422, {"error": repr(error)}
            else:
                status, said = (int(does) if does.isdigit() else 0), {}
        if does == "lost":
            request.close_connection = True
            request.connection.close()
            return
        if does in ("slow", "late"):
            self.ended.wait(LIMIT_SECONDS)
            return
        text = json.dumps(said).encode()
        request.send_response(status)
        if status == 429:
            request.send_header("Retry-After", "0")
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)


@contextmanager
def serving_side(side: Any) -> Iterator[Any]:
    """Serve a far side until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            side.handle(self)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with serving_handler(side, Handler):
        yield side


@contextmanager
def serving_handler(side: Any, handler: type[BaseHTTPRequestHandler]) -> Iterator[None]:
    """Serve `handler` for a far side, which learns its `url`, and that it `ended`."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), handler)
    side.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        side.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_SECONDS)
