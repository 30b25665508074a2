"""A SQLite connection whose cursors end with their transaction.

SQLite leaves a snapshot only once the last statement that was read in part is closed, whatever was
committed or rolled back. One that a traceback still holds would keep the connection, and whoever
gets it next from the pool, at what the database was then.
"""

from __future__ import annotations

import sqlite3
from typing import Any
from weakref import ref

CURSORS_MAX = 1000
"""References to cursors that are kept before those of cursors that are gone are dropped."""


class SqliteConnection(sqlite3.Connection):
    """A connection that closes what was not read to its end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cursors: list[ref[sqlite3.Cursor]] = []

    def cursor(self, *arguments: Any) -> sqlite3.Cursor:  # type: ignore[override]
        cursor: sqlite3.Cursor = super().cursor(*arguments)
        self._cursors.append(ref(cursor))
        if len(self._cursors) > CURSORS_MAX:
            self._cursors = [one for one in self._cursors if one() is not None]
        return cursor

    def close_cursors(self) -> None:
        for one in self._cursors:
            if (cursor := one()) is not None:
                cursor.close()
        self._cursors.clear()
