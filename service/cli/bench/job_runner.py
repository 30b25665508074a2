"""Background tasks of `jobs`, one at a time, for the benchmark of version costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.registry.registered_versions import Registry
from learning.ledger.model_state import Exclusions
from learning.models.recipes import DEFAULT
from service.jobs.maintenance import Maintenance
from service.operations import warm_start
from service.operations.bootstrap import prepare
from service.runtime import logs
from service.runtime.settings import INSTALLATION, Settings
from service.store.database.transactions import Store
from service.store.ledger import version_rows
from service.versions.evaluation.evaluate import Evaluator
from service.versions.mlflow.publish_version import MlflowPublisher
from service.versions.model_lines import ModelLines, rebuild


class JobRunner:
    """Task runner of one installation on SQLite, in the folder `home`; for one thread."""

    def __init__(self, home: Path, mlflow_url: str = "") -> None:
        logs.configure("error", process="bench")
        settings = Settings(home=home, mlflow_url=mlflow_url)
        self._store = Store(settings.database_url)
        prepare(settings, self._store)
        self._lines = ModelLines(self._store)
        self._evaluator = Evaluator(self._store, self._lines, settings.models_max)
        self._maintenance = Maintenance(self._store, settings)
        self._publisher = MlflowPublisher(self._store, Registry(mlflow_url)) if mlflow_url else None

    def warm(self, history: Path) -> int:
        """Learn recorded conversations; returns the number of lessons in them."""
        file = warm_start.HistoryFile(history)
        report = warm_start.warm_start(self._store, INSTALLATION, file, actor="bench", per_second=0)
        return report.lessons

    def learn(self) -> int:
        """Bring the serving line to the ledger's end; returns the position."""
        return self._lines.champion(INSTALLATION).position

    def evaluate(self) -> None:
        self._evaluator.evaluate(INSTALLATION)

    def save(self) -> int:
        """Save the serving line as a version; returns its size in bytes."""
        number = self._maintenance.save(INSTALLATION, self._lines.champion(INSTALLATION))
        with self._store.read() as connection:
            return len(version_rows.state(connection, INSTALLATION, number) or b"")

    def mend(self) -> None:
        self._maintenance.rebuild_corrected()

    def publish(self) -> None:
        """Publish to MLflow what is not published yet; nothing where there is no MLflow."""
        if self._publisher is not None:
            self._publisher.publish()

    def rebuild(self, recipe: str, progress: Callable[[int, int], None]) -> int:
        """Learn the whole ledger anew; returns the number of lessons."""
        state = rebuild(self._store, INSTALLATION, recipe or DEFAULT, Exclusions(), progress)
        return state.window.lessons

    def close(self) -> None:
        self._store.close()
