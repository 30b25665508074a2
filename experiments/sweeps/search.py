"""Hyperparameter sweep: resumable trials of one history, results kept in a folder.

A trial's key is a digest of history, recipe and build. One whose result lies in the folder is not
run again, so a sweep that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.datasets.ledger_export import History, Page, write
from experiments.sweeps import trials
from experiments.sweeps.backends import Backend
from learning.ledger.model_state import Exclusions

Result = dict[str, Any]
HISTORY, FACTS, TRIALS = "history.jsonl.gz", "history.json", "trials"


@dataclass(slots=True)
class Sweep:
    """A folder with a history and the results so far."""

    folder: Path
    history: History

    @classmethod
    def resume(cls, folder: Path) -> Sweep | None:
        """The sweep that a folder holds, if its history is there: it was not finished."""
        try:
            body = json.loads((folder / FACTS).read_text())
            return cls(folder, History(**body)) if (folder / HISTORY).exists() else None
        except (OSError, ValueError, TypeError):
            return None

    @classmethod
    def begin(
        cls, folder: Path, pages: Iterator[Page], without: Exclusions = Exclusions()
    ) -> Sweep:
        """Write the history into the folder; results that are there already are kept."""
        (folder / TRIALS).mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / FACTS).unlink(missing_ok=True)
        history = write(folder / HISTORY, pages, without)
        _write_atomically(folder / FACTS, history.body())
        return cls(folder, history)

    def run(
        self, engine: Backend, recipes: Sequence[str], on_result: Callable[[Result], None]
    ) -> SweepResult:
        """Run what has no result yet. `on_result` gets each result, stored ones first."""
        results = {recipe: self._result(recipe) for recipe in recipes}
        outcome = SweepResult([result for result in results.values() if result is not None])
        outcome.resumed = len(outcome.results)
        for result in outcome.results:
            on_result(result)
        missing = [recipe for recipe, result in results.items() if result is None]
        if missing:
            for result in engine.run(self.folder / HISTORY, self.history, missing):
                if "failed" in result:
                    outcome.failed.append(result)
                else:
                    _write_atomically(self._place(result["recipe"]), result)
                    outcome.results.append(result)
                on_result(result)
        return outcome

    def finish(self) -> None:
        """Remove the history: customers' text lies here no longer than the sweep takes."""
        (self.folder / HISTORY).unlink(missing_ok=True)

    def _place(self, recipe: str) -> Path:
        return self.folder / TRIALS / f"{trials.key(self.history, recipe)}.json"

    def _result(self, recipe: str) -> Result | None:
        try:
            result = json.loads(self._place(recipe).read_text())
        except (OSError, ValueError):
            return None
        return result if isinstance(result, dict) and result.get("recipe") == recipe else None


@dataclass(slots=True)
class SweepResult:
    """Results in any order, failed trials, and the number of results that were there before."""

    results: list[Result]
    failed: list[Result] = field(default_factory=list)
    resumed: int = 0


def name(subject: str, recipes: Sequence[str]) -> str:
    """A sweep's name by what is learned and what is tried: the same command goes on with it."""
    return hashlib.sha256("\n".join((subject, *sorted(recipes))).encode()).hexdigest()[:12]


def _write_atomically(path: Path, value: Any) -> None:
    """All of it or nothing, whenever the process is killed."""
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(value))
    fresh.replace(path)
