"""A strict and hostile far side for webhooks: a real HTTP server that fails as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from standardwebhooks import Webhook as Verifier

from service.client.webhooks import WebhookEvent, verify
from tests.far_sides.http_side import serving_handler
from tests.waiting import LIMIT_SECONDS

Behaviour = Callable[[int], str]
"""What to do with a request, by its number: ok, 500, 429, redirect, 410, lost, slow or drip."""


@dataclass
class FarSide:
    """What came, in its order, each verified twice: by our client and by the scheme's library."""

    url: str = ""
    secrets: list[str] = field(default_factory=list)
    behaviour: Behaviour = lambda _: "ok"
    came: list[tuple[WebhookEvent, bytes]] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def hear(self, body: bytes, headers: dict[str, str]) -> str:
        with self.lock:
            try:
                event = verify(body, headers, self.secrets)
                Verifier(self.secrets[0]).verify(body, headers)
            except Exception as error:
                self.wrong.append(repr(error))
                return "500"
            self.came.append((event, body))
            does = self.behaviour(len(self.came))
            if does in ("ok", "lost"):
                self.accepted.append(event.id)
            return does


@contextmanager
def far_side(behaviour: Behaviour = lambda _: "ok") -> Iterator[FarSide]:
    far = FarSide(behaviour=behaviour)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if len(body) < int(self.headers["content-length"]):
                return  # its sender was killed
            does = far.hear(body, dict(self.headers.items()))
            if does == "lost":
                self.close_connection = True
                self.connection.close()
                return
            if does == "slow":
                far.ended.wait(LIMIT_SECONDS)
                return
            if does == "drip":
                self.drip()
                return
            status = {"ok": 204, "redirect": 307}.get(does) or int(does)
            self.send_response(status)
            if status == 307:
                self.send_header("Location", f"{far.url}/elsewhere")
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def drip(self) -> None:
            """A byte of a header now and then, for ever."""
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not far.ended.is_set():
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            except OSError:
                pass

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with serving_handler(far, Handler):
        yield far
