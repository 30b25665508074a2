"""MLflow runs of evaluations and sweeps, with metrics over ledger positions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    Metric,
    Param,
    RunTag,
    ViewType,
)

from experiments.registry import descriptions
from experiments.registry.mlflow_client import Connection, ms, tag_filter
from experiments.registry.run_record import FILE, Curves, NestedRun, RunDataset

BATCH = 900
"""MLflow takes at most 1000 metrics in one request."""

PAGE = "figures.html"
PAGES_KEPT = 50
"""Newest evaluations of a workspace that keep their page of figures (2 MB) and nested runs."""


class Runs(Connection):
    """The runs of a workspace's experiment."""

    def evaluation_run(
        self,
        workspace: str,
        evaluation: str,
        *,
        name: str,
        description: str,
        position: int,
        at: float,
        metrics: Mapping[str, float],
        curves: Curves | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        page: str | None = None,
        lasting: bool = False,
        numbers: Sequence[str] = (),
        nested: Sequence[NestedRun] = (),
        data: RunDataset | None = None,
    ) -> str:
        """Log one evaluation as a run; its run id. Once per `evaluation`, a unique id.

        `metrics` are points at `position`; `curves` have their own ledger positions as steps.
        `files` are texts by their path in the run, `description` is Markdown, `at` is in seconds
        since the epoch. `page` is an HTML page of figures, which goes once there are PAGES_KEPT
        newer ones unless it is `lasting`, and the `nested` runs with it. `numbers` are the MLflow
        numbers of the versions that were evaluated: the run links to them. `data` is what they
        were evaluated on.
        """
        identity = {"baton.evaluation": evaluation}
        self.reach()
        with self._translated_errors():
            experiment = self._experiment(workspace)
            runs = self._runs(experiment, identity)
            done = [run.info.run_id for run in runs if run.info.status == "FINISHED"]
            if done:
                return str(done[0])
            extra = {"mlflow.note.content": description, "baton.position": str(position)}
            run_id = self._run(experiment, runs, name, at, identity | extra | dict(tags or {}))
            points = {key: [(position, value)] for key, value in metrics.items()}
            self._points(run_id, points | {k: list(v) for k, v in (curves or {}).items()}, at)
            if params:
                self._client.log_batch(run_id, params=[Param(k, v) for k, v in params.items()])
            if models := self._models(workspace, numbers):
                self._client.log_inputs(run_id, models=models)
            if data is not None:
                self._log_dataset(run_id, data)
            for line in nested:
                self._log_nested(experiment, run_id, evaluation, line, position, at)
            for path, text in (dict(files or {}) | ({PAGE: page} if page else {})).items():
                self._client.log_text(run_id, text, path)
            if page and not lasting:
                self._client.set_tag(run_id, "baton.figures", "kept")
                self._drop_old_pages(experiment)
            self._client.set_terminated(run_id, end_time=ms(at))
            for run in self._runs(experiment, identity):
                if run.info.run_id != run_id:  # a request that timed out was carried out after all
                    self._client.delete_run(run.info.run_id)
            return run_id

    def _log_dataset(self, run_id: str, data: RunDataset) -> None:
        self._client.log_text(run_id, data.csv(), FILE)
        url = f"{self.tracking_uri}/get-artifact?run_uuid={run_id}&path={FILE}"
        source = ("http", json.dumps({"url": url}))
        dataset = Dataset(data.name, data.digest, *source, data.schema(), data.profile())
        kind = InputTag("mlflow.data.context", "evaluation")
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, [kind])])

    def _log_nested(
        self,
        experiment: str,
        parent: str,
        evaluation: str,
        line: NestedRun,
        position: int,
        at: float,
    ) -> None:
        identity = {"baton.nested": f"{evaluation}: {line.name}", "mlflow.parentRunId": parent}
        runs = self._runs(experiment, identity)
        if any(run.info.status == "FINISHED" for run in runs):
            return
        tags = identity | {"baton.position": str(position)} | dict(line.tags)
        run_id = self._run(experiment, runs, line.name, at, tags)
        points = {key: [(position, value)] for key, value in line.metrics.items()}
        self._points(run_id, points | {key: list(curve) for key, curve in line.curves.items()}, at)
        if line.params:
            self._client.log_batch(run_id, params=[Param(k, v) for k, v in line.params.items()])
        self._client.set_terminated(run_id, end_time=ms(at))

    def remove_run(self, run_id: str) -> None:
        """Delete an evaluation's run with its files and nested runs; nothing where there is none.

        MLflow hides deleted runs; `mlflow gc` removes what remains of them in its database.
        """
        with self._translated_errors():
            run = self._get_or_none(self._client.get_run, run_id)
            if run is None or run.info.lifecycle_stage == "deleted":
                return
            for nested in self._nested(run.info.experiment_id, run_id):
                self._client.delete_run(nested.info.run_id)
            self._erase(run.info.artifact_uri)
            self._client.delete_run(run_id)

    def _nested(self, experiment: str, run_id: str) -> list[Any]:
        within = tag_filter({"mlflow.parentRunId": run_id})
        return list(
            self._client.search_runs([experiment], within, ViewType.ACTIVE_ONLY, max_results=100)
        )

    def _drop_old_pages(self, experiment: str) -> None:
        newest_first = self._client.search_runs(
            [experiment],
            tag_filter({"baton.figures": "kept"}),
            ViewType.ACTIVE_ONLY,
            max_results=PAGES_KEPT + 10,
            order_by=["attributes.start_time DESC"],
        )
        for run in newest_first[PAGES_KEPT:]:
            self._client.log_text(run.info.run_id, descriptions.DROPPED_PAGE, PAGE)
            self._client.set_tag(run.info.run_id, "baton.figures", "dropped")
            for nested in self._nested(experiment, run.info.run_id):
                self._client.delete_run(nested.info.run_id)

    def _models(self, workspace: str, numbers: Sequence[str]) -> list[LoggedModelInput]:
        model_versions = (
            self._get_or_none(
                self._client.get_model_version, descriptions.model_name(workspace), number
            )
            for number in numbers
        )
        sources = [version.source.removeprefix("models:/") for version in model_versions if version]
        return [LoggedModelInput(source) for source in sources if source.startswith("m-")]

    def _runs(self, experiment: str, tags: Mapping[str, str]) -> list[Any]:
        return list(
            self._client.search_runs(
                [experiment],
                tag_filter(tags),
                ViewType.ACTIVE_ONLY,
                max_results=10,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            )
        )

    def _run(
        self, experiment: str, runs: Sequence[Any], name: str, at: float, tags: Mapping[str, str]
    ) -> str:
        if runs:
            run_id = str(runs[0].info.run_id)
            self._client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
            return run_id
        created = self._client.create_run(
            experiment, start_time=ms(at), tags=descriptions.SOURCE | dict(tags), run_name=name
        )
        return str(created.info.run_id)

    def _points(
        self,
        run_id: str,
        points: Mapping[str, Iterable[tuple[int, float]]],
        at: float,
        model_id: str | None = None,
    ) -> None:
        flat = [
            Metric(name, float(value), ms(at), step, model_id=model_id)
            for name, values in points.items()
            for step, value in values
        ]
        for start in range(0, len(flat), BATCH):
            self._client.log_batch(run_id, metrics=flat[start : start + BATCH])


class SweepRuns(Runs):
    """The sweeps of a workspace's experiment. Everything may be asked again, with one effect."""

    def begin(self, workspace: str, sweep: str, *, name: str, description: str, at: float) -> str:
        """The run of a sweep, made or found; its run id. RegistryUnavailable, RegistryRefused."""
        identity = {"baton.kind": "sweep", "baton.sweep": sweep}
        self.reach()
        with self._translated_errors():
            experiment = self._experiment(workspace)
            tags = identity | {"mlflow.note.content": description}
            return self._run(experiment, self._runs(experiment, identity), name, at, tags)

    def trial(self, workspace: str, parent: str, result: Mapping[str, Any], at: float) -> str:
        """A finished trial as a nested run of its sweep; its run id."""
        identity = {"baton.trial": result["key"], "mlflow.parentRunId": parent}
        with self._translated_errors():
            experiment = self._experiment(workspace)
            runs = self._runs(experiment, identity)
            if done := [run.info.run_id for run in runs if run.info.status == "FINISHED"]:
                return str(done[0])
            began = at - result["seconds"]
            tags = identity | {"baton.kind": "trial", "baton.digest": result["digest"]}
            run_id = self._run(experiment, runs, result["recipe"], began, tags)
            plain, _, options = result["recipe"].partition("?")
            parameters = dict(part.split("=", 1) for part in options.split(",") if part)
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
        with self._translated_errors():
            figures = {f"best/{name}": value for name, value in best["later"].items()}
            points = {name: [(best["position"], value)] for name, value in figures.items()}
            self._points(parent, points, at)
            self._client.set_tag(parent, "mlflow.note.content", description)
            self._client.set_tag(parent, "baton.best", best["recipe"])
            self._client.set_terminated(parent, end_time=ms(at))
