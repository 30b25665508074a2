"""Whether the database's tables are this build's: the schema itself, not only Alembic's number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import ProgrammingError
from sqlmodel import SQLModel

import service.store.tables  # noqa: F401  (fills SQLModel.metadata)

SHOWN_MAX = 8
"""So much of what is missing is named; the rest is counted."""


class SchemaError(ProgrammingError):
    """A statement names what this database does not have: it can never work here."""


class SchemaMismatchError(RuntimeError):
    """The tables are not this build's; the message names what differs, `hint` says what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Schema:
    """A database's schema beside this build's: the revision, and what of it does not fit."""

    revision: str | None
    head: str
    known: bool
    wrong: tuple[str, ...]

    @property
    def what(self) -> str:
        shown = ", ".join(self.wrong[:SHOWN_MAX])
        more = len(self.wrong) - SHOWN_MAX
        told = f"{shown} and {more} more" if more > 0 else shown
        return f"the database's schema (revision {self.revision}) is not this build's: {told}"

    @property
    def mend(self) -> str:
        if self.revision is None:
            return "BATON_DATABASE or --home names a database that is not Baton's, or an empty one"
        if not self.known:
            return "a newer Baton made it: start that one, or restore a backup from before"
        if self.revision != self.head:
            return f"start `baton serve` of this build: it brings the schema to {self.head}"
        return (
            "no revision makes up for this: the tables were made by a build from before the first "
            "release, or changed by hand; start the build that made them, `baton export` there, "
            "and play that into a new installation; or restore a backup"
        )

    def error(self) -> SchemaMismatchError:
        return SchemaMismatchError(self.what, self.mend)


def look(connection: Connection, scripts: ScriptDirectory) -> Schema:
    """Compare the tables' columns and indexes with this build's."""
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {one.revision for one in scripts.walk_revisions()}
    head, wrong = scripts.get_current_head() or "", list(_wrong(connection))
    if revision in known and revision != head:
        wrong.append(f"revision {head} is still to come")
    return Schema(revision, head, revision in known, tuple(wrong))


def _wrong(connection: Connection) -> Iterator[str]:
    """What this build needs and does not find, and what it would leave empty and must not. More
    than it needs is a newer build's, and harmless.
    """
    inspector = inspect(connection)
    every_column = {name: found for (_, name), found in inspector.get_multi_columns().items()}
    every_index = {name: found for (_, name), found in inspector.get_multi_indexes().items()}
    for table in SQLModel.metadata.sorted_tables:
        if table.name not in every_column:
            yield f"table {table.name} is missing"
            continue
        columns = {column["name"]: column for column in every_column[table.name]}
        missing = [one.name for one in table.columns if one.name not in columns]
        yield from (f"column {table.name}.{name} is missing" for name in missing)
        for name, column in columns.items():
            must = not column["nullable"] and column.get("default") is None
            if must and name not in table.columns:
                yield f"column {table.name}.{name} must be filled, and this build does not know it"
        indexes = {index["name"] for index in every_index.get(table.name, ())}
        named = sorted(str(index.name) for index in table.indexes)
        yield from (f"index {name} is missing" for name in named if name not in indexes)


def names_what_is_not_there(error: BaseException | None) -> bool:
    """Whether the driver refused a statement because it does not fit the schema, or is no SQL."""
    if isinstance(error, sqlite3.OperationalError):
        code: Any = getattr(error, "sqlite_errorcode", None)
        return code == sqlite3.SQLITE_ERROR and not str(error).startswith("cannot ")
    # class 42 but for 42501, which is a matter of rights
    state = getattr(error, "sqlstate", None) or ""
    return (
        isinstance(error, psycopg.Error)
        and state.startswith("42")
        and not isinstance(error, psycopg.errors.InsufficientPrivilege)
    )
