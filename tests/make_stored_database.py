"""Make the stored database of this build's schema, which later builds must open.

    python -m tests.make_stored_database

plays a few simulated conversations against a service of its own, has `jobs` do their tasks once,
and writes tests/data/schemas/REVISION.sqlite3.gz, and beside it what it holds as JSON. Do it once
for each revision, in the build that is released with it, and never again: a database made anew
would only show that a build can read what it has written itself.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.build_info import build_id
from experiments.simulation.demo import play
from learning.ledger import checkpoint
from service.jobs.maintenance import Maintenance
from service.outcomes.annotator_review import AnnotatorMonitor
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.store.ledger import entries, version_rows
from service.versions.restore import restore
from tests.service_in_process import serving

FOLDER = Path(__file__).parent / "data" / "schemas"
CONVERSATIONS, SEED = 130, 11
BYTES_MAX = 600 * 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with serving(home, checkpoint_entries=5) as service:
            play(service.url, service.keys, CONVERSATIONS, SEED, 2, Console(quiet=True), left=2)
            place = service.workspace(name="shop", recipe="bayes-4")
            play(service.url, place.keys, CONVERSATIONS // 4, SEED + 1, 2, Console(quiet=True))
            _upkeep(service.baton.store, service.baton.settings)
            play(service.url, service.keys, CONVERSATIONS // 8, SEED + 2, 2, Console(quiet=True))
        _written(home / "baton.sqlite3")


def _upkeep(store: Store, settings: Settings) -> None:
    keeper = Maintenance(store, settings)
    for task in (
        keeper.draw_audits,
        keeper.detect_missed,
        keeper.checkpoint,
        keeper.evaluate,
        keeper.expire,
    ):
        task()
    AnnotatorMonitor(store).review_annotators()


def _written(path: Path) -> None:
    packed = path.with_name("packed.sqlite3")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for table in ("key", "session", "remembered", "lease"):  # nobody's keys are told
            connection.execute(f"DELETE FROM {table}")
        connection.execute("VACUUM INTO ?", (str(packed),))
    held = holds(packed)
    data = gzip.compress(packed.read_bytes(), 9, mtime=0)
    if len(data) > BYTES_MAX:
        raise SystemExit(f"{len(data)} bytes are too many: play fewer conversations")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{held['revision']}.sqlite3.gz").write_bytes(data)
    (FOLDER / f"{held['revision']}.json").write_text(json.dumps(held, indent=1) + "\n")
    print(f"{held['revision']}: {len(data)} bytes")


def holds(path: Path) -> dict[str, Any]:
    """What a database holds: each version's bytes and model by their digests, where each workspace
    stands and with what model, how many rows, and which decisions can be made again.
    """
    store = Store(f"sqlite:///{path}")
    found: dict[str, Any] = {"revision": store.schema().revision, "build": build_id()}
    found["workspaces"] = {}
    with store.read() as connection:
        names = list(entries.workspaces(connection))
    for name in names:
        with store.read() as connection:
            rows = [
                (row, version_rows.state(connection, name, row.number))
                for row in version_rows.versions(connection, name)
            ]
        standing = restore(store, name)
        found["workspaces"][name] = {
            "position": standing.position,
            "digest": checkpoint.digest(standing),
            "versions": [
                {
                    "number": row.number,
                    "recipe": row.recipe,
                    "position": row.position,
                    "sha256": hashlib.sha256(state or b"").hexdigest(),
                    "digest": row.digest,
                }
                for row, state in rows
            ],
        }
    store.close()
    found["rows"] = counted(path)
    return found


def counted(path: Path) -> dict[str, int]:
    """How many rows each table has."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for (name,) in sorted(names)
            if name != "alembic_version" and not name.startswith("sqlite_")
        }


if __name__ == "__main__":
    main()
