"""A workspace of a service in this process, and the jobs' passes over it, one at a time.

Between two passes the jobs are as good as down: all that they remember is in the database.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.registry.registered_versions import Registry
from service.jobs.maintenance import Maintenance
from service.jobs.registry_retention import RegistryRetention
from service.privacy.retention import Retention
from service.runtime.settings import Settings
from service.store.ledger import version_rows
from service.versions.mlflow.publish_version import MlflowPublisher
from tests.service_in_process import OTHERS, InProcess, Place, serving


class Desk:
    """`teach` and `publish`, and what both sides hold afterwards."""

    def __init__(self, service: InProcess, mlflow_url: str, **given: Any) -> None:
        self.place: Place = service.workspace("shadow", name=f"desk-{secrets.token_hex(4)}")
        self.registry, self.store = Registry(mlflow_url), service.baton.store
        self.settings = Settings(**given)
        self.upkeep = Maintenance(self.store, self.settings)
        self._taught = 0

    def teach(self, outcomes: int, verdict: str = "") -> None:
        """As many conversations with their outcomes."""
        for number in range(self._taught, self._taught + outcomes):
            name = f"taught-{number}"
            for turn in range(1 + number % 3):
                said = f"{OTHERS[(3 * number + turn) % len(OTHERS)]} {number % 7}"
                self.place.bot.decided(name, f"m{turn}", said)
            found = verdict or ("missed" if number % 3 == 0 else "fine")
            self.place.bot.posted(f"/v1/conversations/{name}/outcome", {"verdict": found})
        self._taught += outcomes

    def save(self) -> int:
        """A checkpoint of the serving line, now; its number."""
        return self.upkeep.save(self.place.name, self.upkeep._lines.champion(self.place.name))

    def publish(self) -> None:
        """One pass of jobs that have just started."""
        MlflowPublisher(self.store, self.registry).publish(self.place.name)

    def retire(self) -> None:
        retention = Retention(self.store, self.settings)
        RegistryRetention(self.store, self.registry, retention).retire(self.place.name)

    def number(self, version: int) -> str:
        """A version's number in MLflow."""
        with self.store.read() as connection:
            row = version_rows.version(connection, self.place.name, version)
        assert row is not None
        assert row.registry_version is not None, f"version {version} is not published"
        return str(row.registry_version)

    def aliases(self) -> dict[str, str]:
        return self.registry.aliases(self.place.name)

    @property
    def standing(self) -> Any:
        return self.place.engineer.got("/v1/standing")

    @property
    def moves(self) -> Any:
        return self.place.engineer.got("/v1/versions")["moves"]


@contextmanager
def desks(home: Path) -> Iterator[InProcess]:
    """The service that desks stand on: none of its models is saved by itself."""
    with serving(home, checkpoint_entries=1_000_000) as running:
        yield running
