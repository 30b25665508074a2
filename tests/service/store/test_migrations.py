"""From every release's schema up to this one, with data in it, on both stores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.sql import sqltypes
from sqlmodel import SQLModel

import service.store.tables  # noqa: F401  (fills SQLModel.metadata)
from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store.database.transactions import MIGRATIONS, Store
from tests.postgres import BOTH, on_both
from tests.service_in_process import ASKS, OTHERS, serving

store_url = on_both("function", stores=BOTH)


def scripts() -> ScriptDirectory:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config)


def revisions() -> list[str]:
    """From the first release on."""
    return [script.revision for script in reversed(list(scripts().walk_revisions()))]


ENDS = [
    one if one in (revisions()[0], revisions()[-2]) else pytest.param(one, marks=pytest.mark.long)
    for one in revisions()
]
"""The first release and the one before this."""


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    made = Store(store_url)
    yield made
    made.close()


def bring_to(store: Store, revision: str) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.write() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)


def fill(connection: Connection, rows: int = 3) -> dict[str, list[dict[str, Any]]]:
    """Rows in every table there is, each value made up from its column's type."""
    there = MetaData()
    there.reflect(connection)
    written: dict[str, list[dict[str, Any]]] = {}
    for table in there.sorted_tables:
        if table.name == "alembic_version":
            continue
        made = [{c.name: _value(c, number) for c in table.columns} for number in range(rows)]
        connection.execute(table.insert(), made)
        written[table.name] = made
    return written


def _value(column: Any, number: int) -> Any:
    kind = column.type
    if column.nullable and number == 0:
        return None
    if isinstance(kind, sqltypes.JSON):
        return {"number": number, "text": "ü ☃"}
    if isinstance(kind, sqltypes.LargeBinary):
        return hashlib.sha256(f"{column.name} {number}".encode()).digest()
    if isinstance(kind, sqltypes.Boolean):
        return bool(number % 2)
    if isinstance(kind, sqltypes.Float):
        return number + 0.1
    if isinstance(kind, sqltypes.Integer):
        return number + 1
    return f"{column.name} {number} ☃"


def content(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    there = MetaData()
    there.reflect(connection)
    return {
        table.name: [dict(row._mapping) for row in connection.execute(table.select())]
        for table in there.sorted_tables
        if table.name != "alembic_version"
    }


def differences(connection: Connection) -> Sequence[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return compare_metadata(context, SQLModel.metadata)


def test_there_is_one_line_of_revisions_from_the_first_release_on() -> None:
    assert revisions()[0] == "0001"
    assert len(scripts().get_heads()) == 1


@pytest.mark.parametrize("revision", ENDS)
def test_data_of_every_release_is_there_after_the_upgrade(store: Store, revision: str) -> None:
    bring_to(store, revision)
    with store.write() as connection:
        written = fill(connection)
    store.migrate()
    with store.read() as connection:
        found = content(connection)
        assert differences(connection) == []
    for name, rows in written.items():
        assert len(found[name]) == len(rows)
        for row in rows:
            kept = {column: row[column] for column in row if column in found[name][0]}
            assert any(kept.items() <= _plain(one).items() for one in found[name]), (name, kept)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: bytes(v) if isinstance(v, memoryview) else v for name, v in row.items()}


def test_a_column_that_no_revision_makes_is_noticed(store: Store) -> None:
    """What the comparison above is for."""
    store.migrate()
    with store.write() as connection:
        connection.execute(text("ALTER TABLE lease ADD COLUMN forgotten VARCHAR"))
    with store.read() as connection:
        assert differences(connection) != []


def test_an_upgrade_that_fails_leaves_the_schema_as_it_was(store: Store) -> None:
    with store.write() as connection:
        connection.execute(text("CREATE TABLE message (in_the_way INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        store.migrate()
    with store.read() as connection:
        assert set(inspect(connection).get_table_names()) == {"message"}
    with store.write() as connection:
        connection.execute(text("DROP TABLE message"))
    store.migrate()
    with store.read() as connection:
        assert differences(connection) == []


def test_processes_that_start_at_once_migrate_once(store_url: str, tmp_path: Path) -> None:
    def start(_: int) -> dict[str, str]:
        store = Store(store_url)
        try:
            return prepare(Settings(home=tmp_path, database=store_url), store)
        finally:
            store.close()

    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(start, range(4)))
    assert all(one == keys[0] for one in keys)
    store = Store(store_url)
    with store.read() as connection:
        found = content(connection)
    store.close()
    assert [row["position"] for row in found["ledger"]] == [1, 2]
    assert len(found["key"]) == 5


@pytest.mark.parametrize("revision", ENDS)
def test_an_installation_serves_after_the_upgrade(
    store: Store, store_url: str, revision: str, tmp_path: Path
) -> None:
    """An installation of this release, as if its schema had grown from an older one."""
    bring_to(store, revision)
    with serving(tmp_path, database=store_url) as service:
        place = service.workspace()
        handoff = place.bot.decided("c", "m", ASKS)["handoff"]
        place.agent.posted(f"/v1/handoffs/{handoff['id']}/outcome", {"verdict": "needed"})
        place.bot.decided("d", "m", OTHERS[0])
    with (
        serving(tmp_path, database=store_url) as service,
        service.caller(place.keys["engineer"]) as engineer,
    ):
        assert engineer.got("/v1/standing")["position"] == 3
