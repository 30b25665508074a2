"""A PostgreSQL that stays connected and says nothing: frozen, or behind a network that is gone.

The server's own timeouts end what takes too long while it runs. When the server itself stands
still only the client can end a wait, and must: the engine's is the event loop's. The first wait
that ends so makes the whole store refuse at once, and a thread knocks until the server answers.
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
    """A connection none of whose waits for the server is longer than `patience` seconds."""

    patience: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise
            self.close()
            why = f"the server said nothing for {self.patience} seconds"
            raise psycopg.errors.ConnectionTimeout(why) from error


class StallWatchdog:
    """Whether the server has stopped answering; while it has, nobody else waits for it."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._knocking: threading.Thread | None = None
        self._closed = threading.Event()

    def bound(self, engine: Engine, patience: float) -> None:
        """Make every connection of an engine give up after `patience` seconds without a word."""

        @event.listens_for(engine, "do_connect")
        def connect(
            _dialect: Dialect, _record: Any, given: list[Any], named: dict[str, Any]
        ) -> BoundedConnection:
            self.refuse()
            try:
                made = BoundedConnection.connect(*given, **named)
            except psycopg.errors.ConnectionTimeout:
                self._begins()
                raise
            made.patience = patience
            return made

        @event.listens_for(engine, "handle_error")
        def notice(context: Any) -> None:
            if isinstance(context.original_exception, psycopg.errors.ConnectionTimeout):
                self._begins()

    @staticmethod
    @contextlib.contextmanager
    def patient(connection: Connection) -> Iterator[None]:
        """Wait as long as the statements of a block take: a migration's may be long."""
        made = connection.connection.driver_connection
        assert isinstance(made, BoundedConnection)
        patience, made.patience = made.patience, None
        yield
        made.patience = patience

    def refuse(self) -> None:
        """Raises OperationalError, at once, while the server says nothing."""
        if self._knocking is not None:
            silent = psycopg.OperationalError("the server has stopped answering")
            raise OperationalError("", None, silent)

    def _begins(self) -> None:
        with self._lock:
            if self._knocking is None and not self._closed.is_set():
                _log.error("database_silent", mend="see whether the PostgreSQL server runs")
                self._knocking = threading.Thread(target=self._knock, daemon=True, name="knock")
                self._knocking.start()

    def _knock(self) -> None:
        began = time.monotonic()
        while not self._closed.wait(PROBE_SECONDS):
            with contextlib.suppress(psycopg.Error):
                self._ask()
                _log.warning("database_answers", seconds=round(time.monotonic() - began, 1))
                break
        self._knocking = None

    def _ask(self) -> None:
        given, named = self._url.get_dialect()().create_connect_args(self._url)
        wait = PROBE_TIMEOUT_SECONDS
        with BoundedConnection.connect(*given, **{**named, "connect_timeout": wait}) as connection:
            connection.patience = wait
            connection.execute("SELECT 1")

    def close(self) -> None:
        """Stop knocking."""
        self._closed.set()
