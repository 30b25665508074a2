"""Positions on PostgreSQL: in order and without a gap, whoever is slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, text

from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.store.ledger import entries
from tests import postgres
from tests.waiting import LIMIT_SECONDS, until

Append = Callable[[Connection], int]


@pytest.fixture
def store(tmp_path: Any) -> Iterator[Store]:
    with postgres.database() as url:
        made = Store(url)
        prepare(Settings(home=tmp_path, database=url), made)
        yield made
        made.close()


def appended(connection: Connection) -> int:
    return entries.append(connection, "default", "policy", {}, "a test")


def from_a_sequence(connection: Connection) -> int:
    """How databases number rows by themselves: before the commit, and without a lock."""
    position = int(connection.execute(text("SELECT nextval('positions')")).scalar_one())
    connection.execute(
        text(
            "INSERT INTO ledger (workspace, position, kind, body, actor, at) "
            "VALUES ('default', :position, 'policy', '{}', 'a test', 0)"
        ),
        {"position": position},
    )
    return position


def overtaken(store: Store, append: Append) -> None:
    """A reader follows while a slow writer has an append open and a quick one comes after it.

    Fails if the reader is ever given an entry that is not the next one.
    """
    with store.read() as connection:
        begins = entries.heads(connection, ["default"])["default"][0]
    seen: list[int] = []
    done, opened, committed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> int:
        with store.write() as connection:
            position = append(connection)
            opened.set()
            until(lambda: quick_is_read() or waits(store), "the quick one is read, or waits")
        return position

    def quick() -> int:
        assert opened.wait(LIMIT_SECONDS)
        with store.write() as connection:
            position = append(connection)
        committed.set()
        return position

    def quick_is_read() -> bool:
        return committed.is_set() and bool(seen)

    def follow() -> None:
        while not done.is_set():
            with store.read() as connection:
                position = seen[-1] if seen else begins
                seen.extend(e.position for e in entries.tail(connection, "default", position))
            time.sleep(0.005)

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(follow)
        positions = [one.result() for one in (pool.submit(slow), pool.submit(quick))]
        until(lambda: reader.done() or len(seen) >= 2 or seen == [max(positions)], "all is read")
        done.set()
        reader.result()
    assert positions == [begins + 1, begins + 2]
    assert seen == positions


def waits(store: Store) -> bool:
    """Whether somebody waits for a lock."""
    with store.read() as connection:
        return bool(
            connection.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            ).scalar_one()
        )


def test_no_reader_passes_over_a_slow_writer(store: Store) -> None:
    for _ in range(3):
        overtaken(store, appended)


def test_with_positions_from_a_sequence_a_reader_would_pass_over_a_slow_writer(
    store: Store,
) -> None:
    """What the lock is for: the test above fails without it."""
    with store.write() as connection:
        connection.execute(text("CREATE SEQUENCE positions START 3"))
    with pytest.raises(AssertionError):
        overtaken(store, from_a_sequence)


def test_many_writers_number_the_ledger_without_a_gap(store: Store) -> None:
    def write(_: int) -> list[int]:
        found = []
        for _ in range(20):
            with store.write() as connection:
                found.append(appended(connection))
        return found

    with ThreadPoolExecutor(6) as pool:
        given = sorted(n for found in pool.map(write, range(6)) for n in found)
    assert given == list(range(3, 3 + 120))
