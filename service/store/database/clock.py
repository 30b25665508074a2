"""The database's time: one clock for all processes, whatever their hosts' clocks say.

Order, leases and claims are decided by it. SQLite has its host's clock. PostgreSQL is asked every
ASK_SECONDS; in between this process's monotonic clock counts on, which nobody sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, text

ASK_SECONDS = 10.0

_NOW = text("SELECT extract(epoch FROM clock_timestamp())")
_asked: WeakKeyDictionary[Engine, tuple[float, float]] = WeakKeyDictionary()


def database_time(connection: Connection, host_clock: Callable[[], float] = time.time) -> float:
    """Seconds since the epoch by the database's clock."""
    if connection.dialect.name == "sqlite":
        return host_clock()
    engine, monotonic = connection.engine, time.monotonic()
    asked = _asked.get(engine)
    if asked is None or monotonic - asked[1] > ASK_SECONDS:
        asked = _asked[engine] = float(connection.execute(_NOW).scalar_one()), time.monotonic()
        return asked[0]
    return asked[0] + monotonic - asked[1]
