"""The schema itself is compared, not only its number; what can never work is not called away."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from service.operations.doctor import examine
from service.runtime.settings import Settings
from service.store.database.schema import names_what_is_not_there
from service.store.database.transactions import (
    SchemaError,
    SchemaMismatchError,
    Store,
    UnavailableError,
)
from tests.fork_server import command
from tests.postgres import BOTH, on_both
from tests.service_in_process import QUIET, refusal, serving

store_url = on_both("function", stores=BOTH)
BREAK = "ALTER TABLE conversation RENAME COLUMN tossed TO once_tossed"
MEND = "ALTER TABLE conversation RENAME COLUMN once_tossed TO tossed"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    made = Store(store_url)
    made.migrate()
    yield made
    made.close()


def run(store: Store, *statements: str) -> None:
    with store.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_schema_that_this_build_made_fits(store: Store) -> None:
    found = store.schema()
    assert (found.wrong, found.revision) == ((), found.head)
    store.check()


@pytest.mark.parametrize(
    "statement, told",
    [
        (BREAK, "column conversation.tossed is missing"),
        (
            "ALTER TABLE lease RENAME COLUMN holder TO owner",
            "column lease.owner must be filled, and this build does not know it",
        ),
        ("DROP INDEX audit_queue", "index audit_queue is missing"),
        ("DROP TABLE lease", "table lease is missing"),
    ],
)
def test_what_is_missing_is_named_and_no_process_starts(
    store: Store, statement: str, told: str
) -> None:
    run(store, statement)
    assert told in store.schema().wrong
    with pytest.raises(SchemaMismatchError, match="revision 0") as error:
        store.migrate()
    assert told in str(error.value)
    assert "restore a backup" in error.value.hint


def test_more_than_this_build_needs_does_no_harm(store: Store) -> None:
    """An older replica beside a newer one that has brought the schema further."""
    run(
        store,
        "ALTER TABLE lease ADD COLUMN more VARCHAR",
        "ALTER TABLE lease ADD COLUMN counted INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE newer (id INTEGER)",
    )
    store.check()
    store.migrate()


def test_a_newer_builds_database_is_refused_at_the_start_and_not_touched(store: Store) -> None:
    run(store, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatchError, match="9999") as error:
        store.migrate()
    assert "newer Baton" in error.value.hint
    assert store.schema().revision == "9999"


def test_a_database_that_is_empty_is_not_batons(store_url: str) -> None:
    store = Store(store_url)
    with pytest.raises(SchemaMismatchError) as error:
        store.check()
    store.close()
    assert "not Baton's" in error.value.hint


@pytest.mark.parametrize(
    "statement", ["SELECT nothing FROM lease", "SELECT * FROM nowhere", "SELEC 1", BREAK * 2]
)
def test_what_names_what_is_not_there_is_no_absence(store: Store, statement: str) -> None:
    with pytest.raises(SchemaError) as error, store.read() as connection:
        connection.exec_driver_sql(statement)
    assert not isinstance(error.value, UnavailableError)
    assert error.value.orig is not None
    store.check()


def test_what_is_locked_full_or_forbidden_names_nothing() -> None:
    held = sqlite3.connect("file:held?mode=memory&cache=shared", uri=True, isolation_level=None)
    held.executescript("CREATE TABLE one (id INTEGER); BEGIN IMMEDIATE; INSERT INTO one VALUES (1)")
    with sqlite3.connect("file:held?mode=memory&cache=shared", uri=True) as other:
        with pytest.raises(sqlite3.OperationalError, match="locked") as error:
            other.execute("SELECT * FROM one").fetchall()
        assert not names_what_is_not_there(error.value)
    other.close()
    held.close()
    for kind in (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.AdminShutdown,
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.DiskFull,
        psycopg.OperationalError,
    ):
        assert not names_what_is_not_there(kind("no"))


def test_a_service_whose_schema_was_changed_says_so_and_is_not_ready_until_it_fits(
    store_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, database=store_url) as service:
        place, stranger, store = service.default(), service.caller(), service.baton.store
        assert stranger.got("/readyz")["ready"] is True
        run(store, BREAK)
        error = refusal(place.bot.score("c", "m", QUIET), 500, "schema")
        assert "baton doctor" in error["hint"]
        refusal(place.agent.get("/v1/conversations/c"), 500, "schema")
        page = stranger.get("/readyz")
        assert page.status_code == 503
        assert "column conversation.tossed is missing" in page.json()["why"][0]
        wrong = [one for one in examine(service.baton.settings) if not one.ok]
        assert any("column conversation.tossed is missing" in one.what for one in wrong)
        assert "tossed" in "".join(capfd.readouterr())
        run(store, MEND)
        assert stranger.got("/readyz")["ready"] is True
        with suppress(AssertionError):  # a statement that was prepared before may fail once more
            place.bot.decided("c", "m", QUIET)
        place.bot.decided("c", "m", QUIET)


def test_a_start_on_tables_that_lack_something_ends_with_one_clear_line(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    run(store, BREAK)
    environ = {**os.environ, "BATON_HOME": str(tmp_path), "BATON_DATABASE": store_url}
    for process in ("serve", "jobs"):
        done = command(process, environ=environ)
        assert done.returncode == 1
        assert "column conversation.tossed is missing" in done.stderr
        assert "restore a backup" in done.stderr
        assert "Traceback" not in done.stderr
    found = examine(Settings(home=tmp_path, database=store_url))
    wrong = [one for one in found if not one.ok and "tossed" in one.what]
    assert "restore a backup" in wrong[0].mend
