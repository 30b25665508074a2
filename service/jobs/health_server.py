"""Health address of the `jobs` process: /healthz, /readyz and /metrics over plain HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog

from service.runtime.job_metrics import JobMetrics
from service.runtime.metrics import CONTENT_TYPE

TIMEOUT_SECONDS = 5.0
"""How long a client may take for its request."""

_JSON = "application/json"
_log = structlog.get_logger("baton.jobs")

Answer = tuple[int, str, bytes]


class HealthServer:
    """Serves until `stop`; `ready` gives what stands in the way, nothing if nothing does, and
    `silence` for how many seconds the lease was not looked after.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: JobMetrics,
        ready: Callable[[], Iterable[str]],
        is_leader: Callable[[], bool],
        silence: Callable[[], float],
        silent_seconds: float,
    ) -> None:
        self._metrics = metrics
        self._ready = ready
        self._is_leader = is_leader
        self._silence = silence
        self._silent_seconds = silent_seconds
        self._server = _bind(host, port, self._handler())
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, daemon=True, name="health"
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> Answer:
        """The answer to a GET of a path."""
        if path == "/healthz":
            silent = self._silence() > self._silent_seconds
            body = {"status": "silent" if silent else "ok"}
            return (503 if silent else 200), _JSON, json.dumps(body).encode()
        if path == "/readyz":
            why = list(self._ready())
            readiness = {"ready": not why, "why": why, "leader": self._is_leader()}
            return (503 if why else 200), _JSON, json.dumps(readiness).encode()
        if path == "/metrics":
            return 200, CONTENT_TYPE, self._metrics.render()
        return 404, _JSON, b'{"error": {"code": "no_route", "message": "there is nothing here"}}'

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            timeout = TIMEOUT_SECONDS

            def do_GET(self) -> None:
                status, content_type, body = answer(self.path.partition("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Health checks leave no line in the log."""

        return Handler


def _bind(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """The server on its port; on a free one where that is taken, which the log names."""
    try:
        server = ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        server = ThreadingHTTPServer((host, 0), handler)
        _log.warning(
            "health_port_taken",
            port=port,
            why=error.strerror,
            instead=server.server_address[1],
            mend="name another with BATON_JOBS_PORT",
        )
    server.daemon_threads = True
    return server
