"""Precompiled SQL statements of every batch: compiled once for each dialect, then run by the
driver.

SQLAlchemy's work for each execution, parameter and row costs several times what the statement
does. Errors are still SQLAlchemy's, and a lost connection leaves the pool as ever.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    JSON,
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Table,
    bindparam,
    func,
    select,
)
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import Boolean, NullType


def json_text(value: Any) -> str:
    """Serialize to JSON with pydantic-core: the same numbers as `json`, several times as fast."""
    return to_json(value).decode()


def run(connection: Connection, sql: str, parameters: Any = (), *, many: bool = False) -> Any:
    """Execute SQL with the driver; gives its cursor. Raises DatabaseError."""
    cursor = connection.connection.cursor()
    try:
        if many:
            cursor.executemany(sql, parameters)
        else:
            cursor.execute(sql, parameters)
    except connection.dialect.loaded_dbapi.Error as error:
        connection._handle_dbapi_exception(error, sql, None, None, None)
    return cursor


class AnyOf(ColumnElement[Any]):
    """Whether a column is one of a list that is given: one text of SQL, however long the list."""

    inherit_cache = True
    type = NullType()  # a Boolean would be compared with 1 on SQLite

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        self.column = column
        self.parameters: BindParameter[Any] = bindparam(name)


@compiles(AnyOf, "sqlite")
def _any_of_json(clause: AnyOf, compiler: SQLCompiler, **options: Any) -> str:
    elements = func.json_each(clause.parameters).table_valued("value")
    return compiler.process(clause.column.in_(select(elements.c.value)), **options)


@compiles(AnyOf, "postgresql")
def _any_of_array(clause: AnyOf, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(clause.column == func.any(clause.parameters), **options)


class _Compiled:
    """A SELECT compiled for one dialect, with its parameters and row type."""

    def __init__(self, statement: Select[Any], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        self.names = compiled.positiontup
        self.constants = {
            name: value for name, value in compiled.params.items() if value is not None
        }
        self.lists_as_json = dialect.name == "sqlite"
        columns = statement.selected_columns
        self.row: Any = namedtuple("Row", columns.keys())  # type: ignore[misc]
        self.read = [
            (place, read)
            for place, column in enumerate(columns)
            if isinstance(column.type, (JSON, Boolean))
            and (read := column.type.dialect_impl(dialect).result_processor(dialect, None))
        ]

    def parameters(self, values: dict[str, Any]) -> Any:
        values = self.constants | values
        if self.lists_as_json:
            values = {k: json_text(v) if isinstance(v, list) else v for k, v in values.items()}
        return values if self.names is None else tuple(values[name] for name in self.names)

    def make_row(self, row: Sequence[Any]) -> Any:
        if not self.read:
            return self.row._make(row)
        values = list(row)
        for place, read in self.read:
            values[place] = read(values[place])
        return self.row._make(values)


class CompiledSelect:
    """A SELECT of columns; its rows have the columns' names."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, **values: Any) -> list[Any]:
        """Every row, given a value for each parameter; a list for one that is `AnyOf`."""
        compiled = self._compiled.get(connection.dialect.name)
        if compiled is None:
            compiled = _Compiled(self._statement, connection.dialect)
            self._compiled[connection.dialect.name] = compiled
        cursor = run(connection, compiled.sql, compiled.parameters(values))
        return [compiled.make_row(row) for row in cursor.fetchall()]


class BulkInsert:
    """A bulk INSERT or upsert: one statement (PostgreSQL), or prepared once and run for each
    (SQLite).

    Of rows that exist already the columns in `changes` are updated, or, with `skips`, nothing is.
    """

    def __init__(self, into: Table, *, changes: Collection[str] = (), skips: bool = False) -> None:
        self._into = into
        self._names = [column.name for column in into.columns]
        self._json = {c.name for c in into.columns if isinstance(c.type, JSON)}
        self._changes = changes
        self._skips = skips
        self._sql: dict[str, str] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, each with every column of the table."""
        write(connection, [(self, rows)])

    def values(self, rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """The rows' values, in the order of the columns."""
        return [[self._value(name, row[name]) for name in self._names] for row in rows]

    def sql(self, dialect: Dialect) -> str:
        """The SQL: for one row on SQLite, for any number of rows, as one JSON, on PostgreSQL."""
        if dialect.name not in self._sql:
            self._sql[dialect.name] = self._compile(dialect)
        return self._sql[dialect.name]

    def _value(self, name: str, value: Any) -> Any:
        return value if value is None or name not in self._json else json_text(value)

    def _compile(self, dialect: Dialect) -> str:
        quoted = dialect.identifier_preparer.quote
        columns = ", ".join(map(quoted, self._names))
        if dialect.name == "sqlite":
            source = f"VALUES ({', '.join('?' * len(self._names))})"
        else:
            types = (f"{quoted(c.name)} {c.type.compile(dialect)}" for c in self._into.columns)
            given = f"json_to_recordset(%s::json) AS given ({', '.join(types)})"
            source = " ".join(("SELECT", columns, "FROM", given))
        into = f"{quoted(self._into.name)} ({columns})"
        return " ".join(("INSERT INTO", into, source, self._conflict(quoted)))

    def _conflict(self, quoted: Callable[[str], str]) -> str:
        key = ", ".join(quoted(column.name) for column in self._into.primary_key)
        if self._changes:
            sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in self._changes)
            return f"ON CONFLICT ({key}) DO UPDATE SET {sets}"
        return "ON CONFLICT DO NOTHING" if self._skips else ""


def write(
    connection: Connection, parts: Sequence[tuple[BulkInsert, Sequence[Mapping[str, Any]]]]
) -> None:
    """Insert rows into several tables: in one statement (CTEs) on PostgreSQL, to save round
    trips.
    """
    parts = [(bulk, rows) for bulk, rows in parts if rows]
    dialect = connection.dialect
    if dialect.name == "sqlite":
        for bulk, rows in parts:
            run(connection, bulk.sql(dialect), bulk.values(rows), many=True)
    elif parts:
        *first, last = (bulk.sql(dialect) for bulk, _ in parts)
        preceding = ", ".join(
            f"part_{number} AS ({statement})" for number, statement in enumerate(first)
        )
        sql = " ".join(("WITH", preceding, last)) if preceding else last
        run(connection, sql, [json_text(rows) for _, rows in parts])


__all__ = ["AnyOf", "BulkInsert", "CompiledSelect", "json_text", "run", "write"]
