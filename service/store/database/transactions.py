"""Database connections and transactions: one engine that writes, one that reads, and migrations.

The same code runs on SQLite and PostgreSQL. Every commit is fully synchronous on both. A writing
transaction takes SQLite's write lock when it begins: a deferred one would lose updates.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from alembic.script import ScriptDirectory
from pydantic_core import from_json
from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import SQLModel

from service.store.database.schema import (
    Schema,
    SchemaError,
    SchemaMismatchError,
    look,
    names_what_is_not_there,
)
from service.store.database.sqlite_connection import SqliteConnection
from service.store.database.statements import json_text
from service.store.database.watchdog import StallWatchdog

WRITING, READING = "BEGIN IMMEDIATE", "BEGIN"
CACHE_KIB = {WRITING: 32_768, READING: 4_096}
"""Page cache of each SQLite connection, in KiB. One writes; each reading thread has its own."""

BUSY_SECONDS, MIGRATION_SECONDS = 5, 300
"""How long SQLite waits for another process to end its writing; and PostgreSQL, too, for one that
migrates: a large table takes its time."""

LOCK_MS, SHORT_LOCK_MS = 2000, 200
"""How long PostgreSQL waits for a lock; and in a retry, when others were delayed already."""

IDLE_MS = 10_000
"""A process that stops in the middle of a transaction must not hold its locks for longer."""

_TIMEOUTS = {
    WRITING: {"statement_timeout": 10_000, "lock_timeout": LOCK_MS},
    READING: {"statement_timeout": 20_000, "lock_timeout": LOCK_MS},
}
STALL_SECONDS = {WRITING: 12, READING: 22}
"""How long a PostgreSQL that does not answer is waited for: a little over the statement
timeouts.
"""

_POOL = {"pool_size": 5, "max_overflow": 10, "pool_timeout": 5}
"""Connections of each kind that a process has at most, and the seconds one is waited for: as many
threads as there may be must not wait for ever where all of them are busy.
"""

_TCP = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
MIGRATIONS = Path(__file__).parent.parent / "migrations"
_MIGRATION_LOCK = 0x6261746F6E
_CONFLICT = ("40001", "40P01")  # serialization failure, deadlock
_LOCK_TIMEOUT = ("55P03",)  # lock not available in time

FREE_BYTES_MIN = 2**20
"""With less room on its disk SQLite is not ready: every write is about to fail, or does."""


class DiskFullError(RuntimeError):
    """The database's disk has no room; the message says which."""


DatabaseError = DBAPIError
"""What the store's functions raise when the database refuses or is gone."""

UnavailableError = (OperationalError, InternalError)
"""The database is gone, locked, full or too slow; nothing is wrong with what was asked. A statement
that names what is not there is a SchemaError instead, on either store.
"""


_JSON: dict[str, Any] = {"json_serializer": json_text, "json_deserializer": from_json}
"""JSON columns go through pydantic-core: the same numbers, several times as fast."""


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Set WAL mode, with retries: SQLite's busy timeout does not cover it while others open
    the file.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


class Store:
    """The database. Safe to share between threads; each transaction has its own connection."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._watchdog = StallWatchdog(self.url)
        self._fits = False
        self.on_error: Callable[[str], None] = lambda _error: None
        """Called with the name of the driver's error, for each statement that fails."""
        self._writer = self._engine(WRITING)
        self._reader = self._engine(READING)

    def _engine(self, begin: str, busy_seconds: int = BUSY_SECONDS) -> Engine:
        if not self.is_sqlite:
            settings = {"synchronous_commit": "on", "idle_in_transaction_session_timeout": IDLE_MS}
            settings |= _TIMEOUTS[begin]
            options = " ".join(f"-c {name}={value}" for name, value in settings.items())
            engine = create_engine(
                self.url,
                **_JSON,
                isolation_level="READ COMMITTED" if begin == WRITING else "REPEATABLE READ",
                connect_args={"options": options, "connect_timeout": 5, "tcp_user_timeout": 15_000}
                | _TCP,
                **_POOL,
                pool_pre_ping=True,
            )
            self._watchdog.guard(engine, STALL_SECONDS[begin])
            event.listen(engine, "handle_error", self._misfit, retval=True)
            return engine
        arguments = {"timeout": busy_seconds, "factory": SqliteConnection}
        engine = create_engine(self.url, **_JSON, **_POOL, connect_args=arguments)
        event.listen(engine, "handle_error", self._misfit, retval=True)

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: Any) -> None:
            connection.isolation_level = None
            _enable_wal(connection)
            for pragma in (
                "synchronous=FULL",
                f"busy_timeout={busy_seconds * 1000}",
                "wal_autocheckpoint=2000",
                f"cache_size=-{CACHE_KIB[begin]}",
                "secure_delete=ON",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        @event.listens_for(engine, "checkin")
        def end(connection: SqliteConnection | None, _record: Any) -> None:
            if connection is not None:
                connection.close_cursors()

        return engine

    def _misfit(self, context: ExceptionContext) -> SchemaError | None:
        """A statement that can never work here is not taken for a database that is away."""
        error = context.original_exception
        self.on_error(type(error).__name__)
        if not names_what_is_not_there(error):
            return None
        self._fits = False
        return SchemaError(context.statement, None, error, hide_parameters=True)

    @contextmanager
    def write(self, *, short_wait: bool = False) -> Iterator[Connection]:
        """A writing transaction that commits when the block ends, and rolls back if it raises.

        With `short_wait` it gives up sooner where a lock is held.
        """
        with self._transaction(self._writer) as connection:
            if short_wait and not self.is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = {SHORT_LOCK_MS}"))
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only transaction: one consistent snapshot of the database."""
        with self._transaction(self._reader) as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        self._watchdog.raise_if_stalled()
        try:
            connection = engine.connect()
        except PoolTimeout as error:
            raise OperationalError("", None, error) from error
        with connection, connection.begin():
            yield connection

    def migrate(self) -> None:
        """Bring the schema up to this build's; several processes may call it at once.

        Raises SchemaMismatchError, and leaves all as it was, where that is not what comes of it.
        """
        config, scripts = _config(), ScriptDirectory.from_config(_config())
        with contextlib.ExitStack() as stack:
            engine = self._engine(WRITING, MIGRATION_SECONDS)
            stack.callback(engine.dispose)
            connection = stack.enter_context(engine.begin())
            if not self.is_sqlite:
                stack.enter_context(self._watchdog.without_limit(connection))
                for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                    connection.execute(text(f"SET LOCAL {limit} = 0"))
                connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_SECONDS}s'"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            config.attributes["connection"] = connection
            before = look(connection, scripts)
            if before.revision is not None and not before.known:
                raise before.error()
            alembic.command.upgrade(config, "head")
            after = look(connection, scripts)
            if after.wrong:
                raise after.error()

    def schema(self) -> Schema:
        """The database's schema, beside this build's."""
        with self.read() as connection:
            return look(connection, ScriptDirectory.from_config(_config()))

    def check(self) -> None:
        """Raises DatabaseError when the database cannot be reached or its disk is full, and
        SchemaMismatchError when its tables are not this build's. These are compared once, and again
        once a statement named what is not there; a disk that was full is tried by writing.
        """
        self._require_room()
        if self._fits:
            with contextlib.suppress(SchemaError), self.read() as connection:
                connection.execute(text("SELECT id FROM workspace LIMIT 1"))
                return
        found = self.schema()
        if found.wrong:
            raise found.error()
        self._fits = True

    def _require_room(self) -> None:
        """Raises DiskFullError where SQLite's disk has no room for what it is to write."""
        file = self.url.database
        if self.is_sqlite and file and shutil.disk_usage(Path(file).parent).free < FREE_BYTES_MIN:
            raise DiskFullError(f"the disk of {file} is full: make room")

    def truncate_log(self, seconds: float = BUSY_SECONDS) -> bool:
        """Empty SQLite's write-ahead log, which still holds what was deleted; False where a reader
        stood in the way for so long. PostgreSQL's log is its own to recycle.
        """
        until = time.monotonic() + seconds
        while self.is_sqlite:
            connection = self._reader.raw_connection()
            try:
                busy = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.close()
            if not busy:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def copy_to(self, path: Path) -> None:
        """A consistent copy of a SQLite database, while others write to it."""
        source = self._reader.raw_connection()
        try:
            with contextlib.closing(sqlite3.connect(path)) as target:
                source.driver_connection.backup(target)  # type: ignore[union-attr]
        finally:
            source.close()

    def close(self) -> None:
        self._watchdog.close()
        self._writer.dispose()
        self._reader.dispose()


def _config() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def is_conflict(error: Exception) -> bool:
    """Whether it is a conflict with another transaction (serialization, deadlock): worth a
    retry.
    """
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(error, IntegrityError) or state in _CONFLICT


def is_disk_full(error: BaseException | None) -> bool:
    """Whether nothing can be written because the database's disk is full."""
    origin = getattr(error, "orig", None)
    code = getattr(origin, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_FULL or getattr(origin, "sqlstate", None) == "53100"


def is_lock_timeout(error: Exception) -> bool:
    """Whether it is a lock timeout: other requests of the transaction may succeed."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state in _LOCK_TIMEOUT


def table(model: type[SQLModel]) -> Table:
    """The Core table behind a SQLModel class: rows go in and out without ORM objects."""
    core_table: Table = model.__table__  # type: ignore[attr-defined]
    return core_table


@cache
def _insert_ignoring_duplicates(dialect: str, model: type[SQLModel]) -> Insert:
    if dialect == "sqlite":
        return sqlite.insert(table(model)).on_conflict_do_nothing()
    return postgresql.insert(table(model)).on_conflict_do_nothing()


def insert_ignoring_duplicates(connection: Connection, model: type[SQLModel]) -> Insert:
    """An INSERT ... ON CONFLICT DO NOTHING, in either dialect."""
    return _insert_ignoring_duplicates(connection.dialect.name, model)


def insert_if_absent(connection: Connection, model: type[SQLModel], row: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its key exists; whether it was inserted."""
    columns = table(model).primary_key.columns
    return (
        connection.execute(
            insert_ignoring_duplicates(connection, model).returning(*columns), row
        ).first()
        is not None
    )


__all__ = [
    "DatabaseError",
    "SchemaError",
    "SchemaMismatchError",
    "Store",
    "UnavailableError",
    "insert_if_absent",
    "insert_ignoring_duplicates",
    "is_conflict",
    "is_disk_full",
    "is_lock_timeout",
    "table",
]
