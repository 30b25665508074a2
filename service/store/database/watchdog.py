"""Watchdog and circuit breaker for a stalled PostgreSQL: connected, and not answering.

The server's own timeouts end what takes too long while it runs. When the server itself stands
still (frozen, or its network gone) only the client can end a wait, and must: the engine's is the
event loop's. The first wait that times out opens the breaker: the whole store refuses at once, and
a thread probes until the server answers.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import structlog
from psycopg.abc import RV, PQGen
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import OperationalError

PROBE_SECONDS = 0.5
PROBE_TIMEOUT_SECONDS = 2
_log = structlog.get_logger("baton.store")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection none of whose waits for the server is longer than `wait_limit` seconds."""

    wait_limit: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, self.wait_limit if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise
            self.close()
            why = f"the server said nothing for {self.wait_limit} seconds"
            raise psycopg.errors.ConnectionTimeout(why) from error


class StallWatchdog:
    """Circuit breaker: while the server does not answer, nobody else waits for it."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._prober: threading.Thread | None = None
        self._closed = threading.Event()

    def guard(self, engine: Engine, wait_limit: float) -> None:
        """Make every connection of an engine give up after `wait_limit` seconds without an
        answer.
        """

        @event.listens_for(engine, "do_connect")
        def connect(
            _dialect: Dialect, _record: Any, args: list[Any], kwargs: dict[str, Any]
        ) -> BoundedConnection:
            self.raise_if_stalled()
            try:
                connection = BoundedConnection.connect(*args, **kwargs)
            except psycopg.errors.ConnectionTimeout:
                self._on_stall()
                raise
            connection.wait_limit = wait_limit
            return connection

        @event.listens_for(engine, "handle_error")
        def notice(context: Any) -> None:
            if isinstance(context.original_exception, psycopg.errors.ConnectionTimeout):
                self._on_stall()

    @staticmethod
    @contextlib.contextmanager
    def without_limit(connection: Connection) -> Iterator[None]:
        """Lift the limit within a block: a migration's statements may be long."""
        driver_connection = connection.connection.driver_connection
        assert isinstance(driver_connection, BoundedConnection)
        wait_limit, driver_connection.wait_limit = driver_connection.wait_limit, None
        yield
        driver_connection.wait_limit = wait_limit

    def raise_if_stalled(self) -> None:
        """Raises OperationalError, at once, while the server does not answer."""
        if self._prober is not None:
            silent = psycopg.OperationalError("the server has stopped answering")
            raise OperationalError("", None, silent)

    def _on_stall(self) -> None:
        with self._lock:
            if self._prober is None and not self._closed.is_set():
                _log.error("database_silent", mend="see whether the PostgreSQL server runs")
                self._prober = threading.Thread(
                    target=self._probe_until_answered, daemon=True, name="knock"
                )
                self._prober.start()

    def _probe_until_answered(self) -> None:
        began = time.monotonic()
        while not self._closed.wait(PROBE_SECONDS):
            with contextlib.suppress(psycopg.Error):
                self._probe()
                _log.warning("database_answers", seconds=round(time.monotonic() - began, 1))
                break
        self._prober = None

    def _probe(self) -> None:
        args, kwargs = self._url.get_dialect()().create_connect_args(self._url)
        timeout = PROBE_TIMEOUT_SECONDS
        with BoundedConnection.connect(
            *args, **{**kwargs, "connect_timeout": timeout}
        ) as connection:
            connection.wait_limit = timeout
            connection.execute("SELECT 1")

    def close(self) -> None:
        """Stop probing."""
        self._closed.set()
