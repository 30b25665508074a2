"""How much work something is, in steps that do not depend on the machine or on what else it does.

    with asked(service) as work:
        browser.get("/console/queue")
    assert work.statements == 9

What grows with the past is found by doing it at one size and at four times that size. How long
either takes is measured by `baton bench`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from sqlalchemy import event

from tests.service_in_process import InProcess


@dataclass(slots=True)
class Asked:
    """What requests asked of the database: statements, and steps of SQLite's virtual machine.

    PostgreSQL tells no steps: they are 0 there."""

    sql: list[str] = field(default_factory=list)
    steps: int = 0

    @property
    def statements(self) -> int:
        return len(self.sql)


@contextmanager
def asked(service: InProcess) -> Iterator[Asked]:
    """Counts what routes look up in threads; not what the engine does, which follows by itself."""
    found, store = Asked(), service.baton.store

    def looks() -> bool:
        return threading.current_thread().name.startswith("uvloop")

    def step() -> int:
        found.steps += looks()
        return 0

    def execute(connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if looks():
            found.sql.append(sql)
            if store.is_sqlite:
                raw = connection.connection.dbapi_connection
                raw.set_progress_handler(step, 1)

    def clear(connection: Any, *_: Any) -> None:
        """In the thread that uses it: another would wait for SQLite, holding Python's lock."""
        if store.is_sqlite:
            connection.connection.dbapi_connection.set_progress_handler(None, 0)

    event.listen(store._reader, "before_cursor_execute", execute)
    try:
        yield found
    finally:
        event.remove(store._reader, "before_cursor_execute", execute)
        event.listen(store._reader, "before_cursor_execute", clear)


def calls(do: Callable[[], Any]) -> int:
    """How many functions are called, built in ones too, while something is done in this thread."""
    count, before = 0, sys.getprofile()

    def called(_frame: FrameType, what: str, _given: Any) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    sys.setprofile(called)
    try:
        do()
    finally:
        sys.setprofile(before)
    return count
