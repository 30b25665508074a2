"""MLflow's files under a home: a database that a kill left half made is set aside, so that MLflow
starts anew and is given everything again.
"""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

MLFLOW_DATABASE = "mlflow.sqlite3"
HALF_MADE = re.compile(rb"table \S+ already exists")
"""What MLflow says of tables that stand where it wants to make them."""

_TAIL_BYTES = 20_000


def is_half_made(folder: Path) -> bool:
    """Whether MLflow's tables are there and its revision is not: it was killed while it made them,
    and never starts on them.
    """
    path = folder / MLFLOW_DATABASE
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            query = "SELECT name FROM sqlite_master WHERE type = 'table'"
            tables = {row[0] for row in connection.execute(query)}
            if "alembic_version" not in tables:
                return bool(tables)
            return not connection.execute("SELECT 1 FROM alembic_version").fetchall()
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True


def says_half_made(log: Path, since: int) -> bool:
    """Whether MLflow said so itself, in its log from a byte on."""
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - _TAIL_BYTES))
        return HALF_MADE.search(file.read()) is not None


def set_aside(folder: Path) -> Path:
    """Move the database away, under a name that says when; nothing is deleted."""
    aside = folder / f"{MLFLOW_DATABASE}.half-made-{int(time.time())}"
    for end in ("", "-wal", "-shm", "-journal"):
        path = folder / f"{MLFLOW_DATABASE}{end}"
        if path.exists():
            path.rename(f"{aside}{end}")
    return aside
