"""A connection that comes back to the pool stands at nothing that anybody read on it before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.store.database.sqlite_connection import CURSORS_MAX
from service.store.database.statements import run
from service.store.database.transactions import Store

ALL, COUNT = "SELECT a FROM t", "SELECT count(*) FROM t"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    with store.write() as connection:
        connection.execute(text("CREATE TABLE t (a)"))
        for _ in range(2):
            connection.execute(text("INSERT INTO t VALUES (1)"))
    yield store
    store.close()


def counted(store: Store) -> int:
    with store.read() as connection:
        return int(connection.execute(text(COUNT)).scalar_one())


@pytest.mark.parametrize("by_driver", [False, True])
@pytest.mark.parametrize("ends", ["well", "in an exception"])
def test_what_was_read_in_part_holds_no_snapshot_though_it_is_held(
    store: Store, ends: str, by_driver: bool
) -> None:
    """A traceback holds what was read of, and whoever keeps the exception holds the traceback."""
    held: list[Any] = []
    with suppress(ValueError), store.read() as connection:
        held.append(run(connection, ALL) if by_driver else connection.execute(text(ALL)))
        assert held[0].fetchone() is not None
        if ends != "well":
            raise ValueError
    with store.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (2)"))
    assert counted(store) == 3, "a reader was given what the database had been"
    assert store.truncate_log(0), "a reader that is gone stood in the way of the log"


def test_a_writer_that_broke_in_its_reading_keeps_nobody_from_writing(store: Store) -> None:
    held: list[Any] = []
    with suppress(ValueError), store.write() as connection:
        held.append(connection.execute(text(ALL)))
        assert held[0].fetchone() is not None
        raise ValueError
    other = Store(str(store.url))
    try:
        for one in (other, store):
            with one.write() as connection:
                connection.execute(text("INSERT INTO t VALUES (2)"))
        assert counted(store) == 4
    finally:
        other.close()


def test_a_transaction_of_very_many_statements_remembers_few_of_them(store: Store) -> None:
    with store.read() as connection:
        for _ in range(2 * CURSORS_MAX):
            run(connection, COUNT).fetchall()
        driver = connection.connection.driver_connection
        assert len(driver._cursors) <= CURSORS_MAX  # type: ignore[union-attr]
