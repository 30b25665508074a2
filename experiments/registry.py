"""MLflow: versions, aliases and evaluation runs; the only door to mlflow, used by `jobs` alone.

Nothing of Baton depends on what stands here: scoring and learning go on while MLflow is away, and
everything in this module may be asked again until it has worked, with one effect. What a version
or an evaluation is known by is kept in tags, and looked for before anything is made.

Importing this module imports mlflow (2 to 6 s) and does nothing else. MLflow reads
MLFLOW_DISABLE_TELEMETRY when it is imported: the process must have set it to `true` before.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from experiments import bundle, desk
from experiments.desk import experiment_name, model_name

TIMEOUT_SECONDS = 10
PROBE_SECONDS = 3.0
BATCH = 900
"""MLflow takes at most 1000 metrics in one request."""

Curves = Mapping[str, Sequence[tuple[int, float]]]


class RegistryUnavailable(ConnectionError):
    """MLflow did not answer, or answered that it cannot now. Ask again later."""


class RegistryRefused(ValueError):
    """MLflow answered that it will not do this; asking again changes nothing."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A model version in MLflow. `version` is Baton's number, None for one that is not Baton's."""

    number: str
    version: int | None
    position: int | None
    digest: str | None
    recipe: str | None
    tags: Mapping[str, str]


class Registry:
    """What Baton asks of one MLflow server.

    The server's time limits are MLflow's environment variables, which this sets for the process:
    a request that has no answer after `timeout_seconds`, twice, is RegistryUnavailable.
    """

    def __init__(self, tracking_uri: str, timeout_seconds: int = TIMEOUT_SECONDS) -> None:
        self.tracking_uri = tracking_uri.rstrip("/")
        os.environ.update(
            MLFLOW_HTTP_REQUEST_TIMEOUT=str(timeout_seconds),
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
            MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="0",
            MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER="false",
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
        )
        self._client = MlflowClient(self.tracking_uri, self.tracking_uri)

    def reach(self) -> None:
        """Raise RegistryUnavailable within 3 s unless the server is up."""
        try:
            requests.get(f"{self.tracking_uri}/health", timeout=PROBE_SECONDS).raise_for_status()
        except requests.RequestException as error:
            raise RegistryUnavailable(f"no MLflow at {self.tracking_uri}: {error}") from error

    # -- versions ---------------------------------------------------------------------------

    def publish(
        self,
        workspace: str,
        version: int,
        *,
        state: bytes,
        recipe: str,
        position: int,
        digest: str,
        at: float,
        parent: int | None = None,
        reason: str = "",
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Register a saved version with all that it needs to score; its MLflow number.

        Once for every (workspace, version, digest), however often it is asked and wherever it was
        cut off. `state` is a checkpoint's bytes, `at` seconds since the epoch. `metrics` become
        points at `position` on the workspace's one run `versions`.
        """
        known = {"baton.version": str(version), "baton.digest": digest}
        every = known | {"baton.recipe": recipe, "baton.position": str(position)}
        every |= {} if parent is None else {"baton.parent": str(parent)}
        every |= dict(tags or {})
        said = desk.about_version(version, recipe, position, parent, reason, metrics or {})
        self.reach()
        with self._asking():
            if found := self._numbers(workspace, known):
                return found[0]
            experiment = self._experiment(workspace)
            self._model(workspace)
            model_id = self._files(experiment, version, state, at, known, every, said)
            self._measured(experiment, model_id, position, at, metrics or {})
            self._client.create_model_version(
                model_name(workspace),
                f"models:/{model_id}",
                tags=every,
                description=said,
                await_creation_for=0,
                model_id=model_id,
            )
            first, *surplus = self._numbers(workspace, known)
            for number in surplus:  # a request that timed out was carried out after all
                self._client.delete_model_version(model_name(workspace), number)
            return first

    def registered(self, workspace: str, number: str) -> Registered | None:
        """What MLflow knows of a model version, by its MLflow number."""
        with self._asking():
            found = self._found(self._client.get_model_version, model_name(workspace), str(number))
        return None if found is None else _registered(found)

    def state(self, workspace: str, number: str) -> bytes:
        """The checkpoint inside a published version. The bytes are not verified here."""
        with self._asking(), tempfile.TemporaryDirectory() as folder:
            found = self._client.get_model_version(model_name(workspace), str(number))
            model_id = (found.source or "").removeprefix("models:/")
            place = self._client.get_logged_model(model_id)
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{place.artifact_location}/{bundle.STATE}",
                dst_path=folder,
                tracking_uri=self.tracking_uri,
            )
            return Path(path).read_bytes()

    def tag(self, workspace: str, number: str, name: str, value: str) -> None:
        """Write a tag on a model version: why a move was refused, for example."""
        with self._asking():
            self._client.set_model_version_tag(model_name(workspace), str(number), name, value)

    # -- aliases ----------------------------------------------------------------------------

    def aliases(self, workspace: str) -> dict[str, str]:
        """Every alias of the workspace's model and the MLflow number it stands at.

        Read from the registered model: a search over versions answers without their aliases.
        """
        with self._asking():
            found = self._found(self._client.get_registered_model, model_name(workspace))
        return {} if found is None else {a: str(n) for a, n in sorted(found.aliases.items())}

    def alias_of(self, workspace: str, alias: str) -> str | None:
        """The MLflow number that an alias stands at; None where there is no such alias."""
        return self.aliases(workspace).get(alias)

    def set_alias(self, workspace: str, alias: str, number: str) -> None:
        """Move an alias. RegistryRefused for a number that is not registered."""
        with self._asking():
            self._client.set_registered_model_alias(model_name(workspace), alias, str(number))

    def drop_alias(self, workspace: str, alias: str) -> None:
        """Remove an alias; nothing happens where there is none."""
        with self._asking():
            self._found(self._client.delete_registered_model_alias, model_name(workspace), alias)

    # -- runs -------------------------------------------------------------------------------

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
        numbers: Sequence[str] = (),
    ) -> str:
        """Log one evaluation as a run; its run id. Once per `evaluation`, a unique id.

        `metrics` are points at `position`; `curves` have their own ledger positions as steps.
        `files` are texts by their path in the run (`figures.html`, `report.json`), `description`
        is Markdown, `at` is in seconds since the epoch. `numbers` are the MLflow numbers of the
        versions that were evaluated: the run links to them.
        """
        known = {"baton.evaluation": evaluation}
        self.reach()
        with self._asking():
            experiment = self._experiment(workspace)
            runs = self._runs(experiment, known)
            done = [run.info.run_id for run in runs if run.info.status == "FINISHED"]
            if done:
                return str(done[0])
            extra = {"mlflow.note.content": description, "baton.position": str(position)}
            run_id = self._run(experiment, runs, name, at, known | extra | dict(tags or {}))
            points = {key: [(position, value)] for key, value in metrics.items()}
            self._points(run_id, points | {k: list(v) for k, v in (curves or {}).items()}, at)
            if params:
                self._client.log_batch(run_id, params=[Param(k, v) for k, v in params.items()])
            if models := self._models(workspace, numbers):
                self._client.log_inputs(run_id, models=models)
            for path, text in (files or {}).items():
                self._client.log_text(run_id, text, path)
            self._client.set_terminated(run_id, end_time=_ms(at))
            first, *surplus = self._runs(experiment, known)
            for run in surplus:
                self._client.delete_run(run.info.run_id)
            return str(first.info.run_id)

    def desk_url(self, workspace: str, run_id: str | None = None) -> str:
        """Where an engineer finds a workspace's evaluations, or one of them."""
        with self._asking():
            return desk.page(self.tracking_uri, self._experiment(workspace), run_id)

    # -- what the above is made of ----------------------------------------------------------

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
            if status == 429 or status >= 500:
                raise RegistryUnavailable(f"MLflow at {self.tracking_uri}: {error}") from error
            raise RegistryRefused(f"MLflow at {self.tracking_uri} refused: {error}") from error
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            raise RegistryUnavailable(f"MLflow at {self.tracking_uri}: {error}") from error

    def _found(self, ask: Any, *arguments: str) -> Any:
        try:
            return ask(*arguments)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" or _no_alias(error):
                return None
            raise

    def _made(self, make: Any, *arguments: Any, **more: Any) -> Any:
        try:
            return make(*arguments, **more)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return None

    def _experiment(self, workspace: str) -> str:
        name = experiment_name(workspace)
        found = self._client.get_experiment_by_name(name)
        if found is None:
            tags = desk.experiment_tags(workspace)
            made = self._made(self._client.create_experiment, name, tags=tags)
            return str(made) if made else self._experiment(workspace)
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _model(self, workspace: str) -> None:
        self._made(
            self._client.create_registered_model,
            model_name(workspace),
            tags={"baton.workspace": workspace},
            description=desk.about_model(workspace),
        )

    def _numbers(self, workspace: str, tags: Mapping[str, str]) -> list[str]:
        query = f"name = '{model_name(workspace)}' and {_tagged(tags)}"
        found = self._client.search_model_versions(query, max_results=100)
        return sorted((str(version.version) for version in found), key=int)

    def _files(
        self,
        experiment: str,
        version: int,
        state: bytes,
        at: float,
        known: Mapping[str, str],
        tags: Mapping[str, str],
        said: str,
    ) -> str:
        found = self._client.search_logged_models([experiment], _tagged(known), max_results=1)
        model = (
            found[0]
            if found
            else self._client.create_logged_model(
                experiment,
                f"version-{version}",
                tags=dict(tags),
                params={"recipe": tags["baton.recipe"], "position": tags["baton.position"]},
                model_type="baton",
            )
        )
        if str(model.status) != "READY":
            with tempfile.TemporaryDirectory() as folder:
                bundle.write(Path(folder), model.model_id, state, at)
                self._client.log_model_artifacts(model.model_id, folder)
            # tags of MLflow's own are dropped where a model is created
            about = desk.SOURCE | {"mlflow.note.content": said}
            self._client.set_logged_model_tags(model.model_id, about)
            self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _measured(
        self, experiment: str, model_id: str, position: int, at: float, metrics: Mapping[str, float]
    ) -> None:
        if not metrics:
            return
        known = {"baton.kind": "versions"}
        tags = known | {"mlflow.note.content": desk.ABOUT_VERSIONS}
        run_id = self._run(experiment, self._runs(experiment, known), "versions", at, tags)
        points = {name: [(position, value)] for name, value in metrics.items()}
        self._points(run_id, points, at, model_id)
        self._client.set_terminated(run_id, end_time=_ms(at))

    def _models(self, workspace: str, numbers: Sequence[str]) -> list[LoggedModelInput]:
        found = (
            self._found(self._client.get_model_version, model_name(workspace), number)
            for number in numbers
        )
        sources = [version.source.removeprefix("models:/") for version in found if version]
        return [LoggedModelInput(source) for source in sources if source.startswith("m-")]

    def _runs(self, experiment: str, tags: Mapping[str, str]) -> list[Any]:
        return list(
            self._client.search_runs(
                [experiment],
                _tagged(tags),
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
        made = self._client.create_run(
            experiment, start_time=_ms(at), tags=desk.SOURCE | dict(tags), run_name=name
        )
        return str(made.info.run_id)

    def _points(
        self,
        run_id: str,
        points: Mapping[str, Iterable[tuple[int, float]]],
        at: float,
        model_id: str | None = None,
    ) -> None:
        flat = [
            Metric(name, float(value), _ms(at), step, model_id=model_id)
            for name, values in points.items()
            for step, value in values
        ]
        for start in range(0, len(flat), BATCH):
            self._client.log_batch(run_id, metrics=flat[start : start + BATCH])


def _registered(found: Any) -> Registered:
    tags = dict(found.tags)

    def whole(name: str) -> int | None:
        text = tags.get(name, "")
        return int(text) if text.isdecimal() else None

    return Registered(
        number=str(found.version),
        version=whole("baton.version"),
        position=whole("baton.position"),
        digest=tags.get("baton.digest"),
        recipe=tags.get("baton.recipe"),
        tags=tags,
    )


def _tagged(tags: Mapping[str, str]) -> str:
    return " and ".join(f"tags.`{name}` = '{value}'" for name, value in sorted(tags.items()))


def _no_alias(error: MlflowException) -> bool:
    return error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in str(error).lower()


def _ms(at: float) -> int:
    return int(at * 1000)
