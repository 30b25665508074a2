"""What is looked for again and again is found in an index: it takes no longer as the past grows.

Of SQLite's plan, which does not depend on how much there is; PostgreSQL has the same indexes
(`test_migrations`), and reads tables as small as a test's whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event

from service.store.database.transactions import Store
from service.store.labels import audit_rows
from service.store.reports import decision_history

LOOKS: dict[str, tuple[Callable[[Connection], Any], str]] = {
    "coins to toss": (
        lambda connection: audit_rows.due_for_sampling(connection, "w", time.time(), 100),
        "SEARCH conversation USING INDEX conversation_untossed (workspace=? AND closed_at<?)",
    ),
    "answers to offers": (
        lambda connection: decision_history.answers(connection, "w", 100),
        "SEARCH decision USING INDEX decision_answered (workspace=?)",
    ),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path_factory.mktemp('indexes') / 'baton.sqlite3'}")
    made.migrate()
    yield made
    made.close()


@pytest.mark.parametrize("what", LOOKS)
def test_a_look_reads_an_index_that_holds_little_else(store: Store, what: str) -> None:
    look, wanted = LOOKS[what]
    asked: list[tuple[str, Any]] = []
    with store.read() as connection:
        event.listen(
            connection,
            "before_cursor_execute",
            lambda _c, _cursor, sql, given, _context, _many: asked.append((sql, given)),
        )
        look(connection)
        sql, given = asked[0]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", given).all()
    assert [row.detail for row in plan] == [wanted]
