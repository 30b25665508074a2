"""A pass of `jobs` over a workspace whose challenger is proven, killed with SIGKILL at a step.

    python -m tests.killed_jobs DATABASE FOLDER MLFLOW_URL WORKSPACE

A step is a statement to the database, a commit, or the beginning or end of a call to MLflow. First
the steps of one pass are written down; then, for each of INSTANTS, a copy of the database under a
workspace name of its own is passed over by a process that is killed there, and by one that is not.
Prints what is there afterwards, as a JSON line for each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from experiments.registry.registered_versions import Registry
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.versions.mlflow.publish_version import MlflowPublisher

SWITCHED = "INSERT INTO ledger"
INSTANTS = {
    "the switch is written": (SWITCHED, 0),
    "all of the decision is written, and not committed": ("commit", 0),
    "the decision is committed": ("commit", 1),
    "a version is published, and that is not noted": ("ends publish", 0),
    "the champion's alias is moved, and that is not noted": ("ends set_alias", 0),
    "the run is made, and that is not noted": ("ends evaluation_run", 0),
}
"""When the process is killed: at the first step of a kind from the switch on, or so many later."""


class Steps:
    """Writes down the steps of this process, and kills it at one of them (from 1; 0: at none)."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.done: list[str] = []

    def __call__(self, what: str) -> None:
        self.done.append(what)
        if len(self.done) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def listen(self) -> None:
        """Hear of every statement and commit of this process."""

        @event.listens_for(Engine, "before_cursor_execute")
        def execute(_1: Any, _2: Any, statement: str, *_: Any) -> None:
            self(statement)

        @event.listens_for(Engine, "commit")
        def commit(_: Any) -> None:
            self("commit")


def instant(steps: list[str], what: str, later: int) -> int:
    """The number of the first step of a kind from the switch on, or of one so many later."""
    switched = next(n for n, step in enumerate(steps) if step.startswith(SWITCHED))
    found = next(n for n, step in enumerate(steps) if n >= switched and step.startswith(what))
    return found + 1 + later


class Counted(Registry):
    """MLflow, each public call of which is two steps."""

    steps: Steps

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found) or isinstance(found, Steps):
            return found

        def called(*given: Any, **more: Any) -> Any:
            self.steps(f"begins {name}")
            answer = found(*given, **more)
            self.steps(f"ends {name}")
            return answer

        return called


def passed(home: Path, workspace: str, mlflow_url: str, kill_at: int) -> list[str]:
    """One pass of jobs that have just started: evaluate, act, publish. Gives the steps it took."""
    steps = Steps(kill_at)
    steps.listen()
    settings = Settings(home=home)
    store = Store(settings.database_url)
    registry = Counted(mlflow_url)
    registry.steps = steps
    Maintenance(store, settings).evaluate_one(workspace)
    MlflowPublisher(store, registry).publish(workspace)
    return steps.done


def forked(do: Callable[[], list[str]]) -> list[str] | None:
    """What a process of its own finds; None where it was killed."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            said = json.dumps(do()).encode()
            with os.fdopen(writes, "wb") as tell:
                tell.write(said)
            code = 0
        finally:
            os._exit(code)
    os.close(writes)
    with os.fdopen(reads) as told:
        said = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return None
    assert os.waitstatus_to_exitcode(status) == 0, "a pass failed: see above"
    found: list[str] = json.loads(said)
    return found


def copied(database: Path, folder: Path, old: str, name: str) -> Path:
    """A copy of the database whose one workspace of interest has another name."""
    home = folder / name
    home.mkdir()
    shutil.copy(database, home / "baton.sqlite3")
    with closing(sqlite3.connect(home / "baton.sqlite3")) as connection:
        tables = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            if "workspace" in columns and table != "security_event":  # which is append-only
                sql = f"UPDATE {table} SET workspace = ? WHERE workspace = ?"
                connection.execute(sql, (name, old))
        connection.execute("UPDATE workspace SET id = ? WHERE id = ?", (name, old))
        connection.commit()
    return home


def after(home: Path, workspace: str, registry: Registry) -> dict[str, Any]:
    """What the ledger, the challengers and MLflow say."""
    with closing(sqlite3.connect(home / "baton.sqlite3")) as connection:

        def rows(sql: str) -> list[Any]:
            return connection.execute(sql, (workspace,)).fetchall()

        switches = rows(
            "SELECT position, body FROM ledger WHERE workspace = ? AND kind = 'switch' "
            "ORDER BY position"
        )
        position, body = switches[-1][0], json.loads(switches[-1][1])
        served = connection.execute(
            "SELECT registry_version FROM version WHERE workspace = ? AND (line = ? OR number = ?)"
            " ORDER BY position DESC, number DESC LIMIT 1",
            (workspace, position, body["version"]),
        ).fetchone()[0]
        versions = rows("SELECT number FROM version WHERE workspace = ?")
        evaluations = rows("SELECT id FROM evaluation WHERE workspace = ? AND run_id IS NOT NULL")
        told = rows("SELECT kind FROM event WHERE workspace = ?")
        challengers = rows("SELECT status FROM challenger WHERE workspace = ?")
    found = registry._client.search_model_versions(f"name = 'baton-{workspace}'")
    return {
        "switches": len(switches),
        "rule": body["evidence"].get("rule"),
        "served": served,
        "alias": registry.aliases(workspace).get("champion"),
        "versions": len(versions),
        "published": sorted(int(one.tags["baton.version"]) for one in found),
        "runs": len(evaluations),
        "told": sorted(kind for (kind,) in told),
        "challengers": [status for (status,) in challengers],
    }


def main(database: Path, folder: Path, mlflow_url: str, workspace: str) -> None:
    whole = copied(database, folder, workspace, "whole")
    steps = forked(lambda: passed(whole, "whole", mlflow_url, 0))
    assert steps is not None
    registry = Registry(mlflow_url)
    for when, (what, later) in INSTANTS.items():
        kill_at = instant(steps, what, later)
        name = f"killed-{kill_at}"
        home = copied(database, folder, workspace, name)
        first = forked(lambda h=home, w=name, k=kill_at: passed(h, w, mlflow_url, k))
        forked(lambda h=home, w=name: passed(h, w, mlflow_url, 0))
        found = {"when": when, "step": kill_at, "of": len(steps), "killed": first is None}
        print(json.dumps(found | after(home, name, registry)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
