"""MLflow logging of a sweep: a run with nested trials; missed ones are logged on resuming."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from experiments.registry.markdown import table
from experiments.registry.mlflow_client import RegistryRefused, RegistryUnavailable
from experiments.registry.runs import SweepRuns
from experiments.sweeps.search import Result, Sweep
from experiments.sweeps.trials import MEASURES, ranked

SHOWN_MAX = 50
_COLUMNS = {"recipe": "recipe", **{name: name.replace("_", " ") for name in MEASURES}}


class SweepLog:
    """Logs trials as they end. After MLflow was away or refused once, nothing more is logged."""

    def __init__(
        self, url: str, workspace: str, sweep: Sweep, subject: str, password: str = ""
    ) -> None:
        self._registry, self._workspace = SweepRuns(url, password=password), workspace
        self._subject = f"{subject} up to position {sweep.history.position}"
        self._parent: str | None = None
        self.why: str | None = None
        self.logged = 0
        name = f"sweep of {self._subject}"
        with self._recording_errors():
            self._parent = self._registry.begin(
                workspace, sweep.folder.name, name=name, description=name, at=time.time()
            )

    def trial(self, result: Result) -> None:
        """A trial that ended; one that failed has no figures to log."""
        if self._parent is not None and self.why is None and "failed" not in result:
            with self._recording_errors():
                self._registry.trial(self._workspace, self._parent, result, time.time())
                self.logged += 1

    def end(self, results: Sequence[Result], by: str) -> None:
        """Close the sweep's run with the table of its best trials."""
        if self._parent is None or self.why is not None or not results:
            return
        rows = [{"recipe": f"`{r['recipe']}`", **r["later"]} for r in ranked(results, by)]
        text = (
            f"{len(rows)} trials of {self._subject}, by {by} of the later half of the lessons.\n\n"
        )
        table_rows = ([_figure(row.get(name)) for name in _COLUMNS] for row in rows[:SHOWN_MAX])
        text += table(list(_COLUMNS.values()), table_rows)
        with self._recording_errors():
            self._registry.end(self._parent, ranked(results, by)[0], text, time.time())

    @contextmanager
    def _recording_errors(self) -> Iterator[None]:
        try:
            yield
        except (RegistryUnavailable, RegistryRefused) as error:
            self.why = str(error)

    def body(self) -> dict[str, Any]:
        """Run id, trials logged and the reason of a failure, as plain JSON."""
        return {"run": self._parent, "trials": self.logged, "why": self.why}


def _figure(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
