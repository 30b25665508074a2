"""Sweeps as MLflow runs: one for each, and a nested one for every trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow.entities import Param

from experiments.registry.connection import ms
from experiments.registry.runs import Runs


class Sweeps(Runs):
    """The sweeps of a workspace's experiment. Everything may be asked again, with one effect."""

    def begin(self, workspace: str, sweep: str, *, name: str, description: str, at: float) -> str:
        """The run of a sweep, made or found; its run id. RegistryUnavailable, RegistryRefused."""
        known = {"baton.kind": "sweep", "baton.sweep": sweep}
        self.reach()
        with self._asking():
            experiment = self._experiment(workspace)
            tags = known | {"mlflow.note.content": description}
            return self._run(experiment, self._runs(experiment, known), name, at, tags)

    def trial(self, workspace: str, parent: str, result: Mapping[str, Any], at: float) -> str:
        """A finished trial as a nested run of its sweep; its run id."""
        known = {"baton.trial": result["key"], "mlflow.parentRunId": parent}
        with self._asking():
            experiment = self._experiment(workspace)
            found = self._runs(experiment, known)
            if done := [run.info.run_id for run in found if run.info.status == "FINISHED"]:
                return str(done[0])
            began = at - result["seconds"]
            tags = known | {"baton.kind": "trial", "baton.digest": result["digest"]}
            run_id = self._run(experiment, found, result["recipe"], began, tags)
            plain, _, given = result["recipe"].partition("?")
            parameters = dict(part.split("=", 1) for part in given.split(",") if part)
            params = [Param("recipe", plain), *(Param(k, v) for k, v in parameters.items())]
            self._client.log_batch(run_id, params=params)
            figures = dict(result["measures"])
            figures |= {f"later/{name}": value for name, value in result["later"].items()}
            points = {n: [(result["position"], value)] for n, value in figures.items()}
            self._points(run_id, points, at)
            self._client.set_terminated(run_id, end_time=ms(at))
            return run_id

    def end(self, parent: str, best: Mapping[str, Any], description: str, at: float) -> None:
        """Close a sweep's run, with its best trial."""
        with self._asking():
            figures = {f"best/{name}": value for name, value in best["later"].items()}
            points = {name: [(best["position"], value)] for name, value in figures.items()}
            self._points(parent, points, at)
            self._client.set_tag(parent, "mlflow.note.content", description)
            self._client.set_tag(parent, "baton.best", best["recipe"])
            self._client.set_terminated(parent, end_time=ms(at))
