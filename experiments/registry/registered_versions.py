"""Registered models in MLflow: publish, fetch, remove and tag versions; move aliases."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from experiments.registry import descriptions, model_package
from experiments.registry.mlflow_client import TIMEOUT_SECONDS, RegistryRefused, ms, tag_filter
from experiments.registry.runs import Runs

NOTE = "mlflow.note.content"


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A model version in MLflow. `version` is Baton's number, None for one that is not Baton's."""

    number: str
    version: int | None
    position: int | None
    digest: str | None
    recipe: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version that was published: its MLflow number, and the digest of its files as written."""

    number: str
    digest: str


class Registry(Runs):
    """Model registry of one MLflow server."""

    def __init__(
        self, tracking_uri: str, timeout_seconds: int = TIMEOUT_SECONDS, password: str = ""
    ) -> None:
        super().__init__(tracking_uri, timeout_seconds, password)
        model_package.code()

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
    ) -> PublishedVersion:
        """Register a saved version with all that it needs to score.

        Once for every (workspace, version, digest), however often it is asked and wherever it was
        cut off. `state` is a checkpoint's bytes, `at` seconds since the epoch. `metrics` become
        points at `position` on the workspace's one run `versions`.
        """
        identity = {"baton.version": str(version), "baton.digest": digest}
        all_tags = identity | {"baton.recipe": recipe, "baton.position": str(position)}
        all_tags |= {} if parent is None else {"baton.parent": str(parent)}
        all_tags |= dict(tags or {})
        description = descriptions.about_version(
            version, recipe, position, parent, reason, metrics or {}
        )
        self.reach()
        with self._translated_errors():
            if numbers := self._numbers(workspace, identity):
                model_id = self._model_id(workspace, numbers[0])
                return PublishedVersion(numbers[0], _package_digest(model_id, state, at, all_tags))
            experiment = self._experiment(workspace)
            self._model(workspace)
            model_id = self._upload_model(
                experiment, version, state, at, identity, all_tags, description
            )
            self._log_version_metrics(experiment, model_id, position, at, metrics or {})
            self._client.create_model_version(
                descriptions.model_name(workspace),
                f"models:/{model_id}",
                tags=all_tags,
                description=description,
                await_creation_for=0,
                model_id=model_id,
            )
            first, *surplus = self._numbers(workspace, identity)
            for number in surplus:  # a request that timed out was carried out after all
                self._client.delete_model_version(descriptions.model_name(workspace), number)
            return PublishedVersion(first, _package_digest(model_id, state, at, all_tags))

    def get_version(self, workspace: str, number: str) -> RegisteredVersion | None:
        """A model version by its MLflow number; None if there is none."""
        with self._translated_errors():
            model_version = self._get_or_none(
                self._client.get_model_version, descriptions.model_name(workspace), str(number)
            )
        return None if model_version is None else _version_of(model_version)

    def state(self, workspace: str, number: str) -> bytes:
        """The checkpoint inside a published version. The bytes are not verified here."""
        with self._translated_errors(), tempfile.TemporaryDirectory() as folder:
            logged_model = self._client.get_logged_model(self._model_id(workspace, number))
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{logged_model.artifact_location}/{model_package.STATE}",
                dst_path=folder,
                tracking_uri=self.tracking_uri,
            )
            return Path(path).read_bytes()

    def artifacts_digest(self, workspace: str, number: str) -> str | None:
        """The digest of a published version's files as they are now; None where some are gone."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                with self._translated_errors():
                    model = self._client.get_logged_model(self._model_id(workspace, number))
                    path = mlflow.artifacts.download_artifacts(
                        artifact_uri=model.artifact_location,
                        dst_path=folder,
                        tracking_uri=self.tracking_uri,
                    )
            except RegistryRefused:
                return None
            return model_package.digest(Path(path))

    def _model_id(self, workspace: str, number: str) -> str:
        name = descriptions.model_name(workspace)
        source = self._client.get_model_version(name, str(number)).source or ""
        return source.removeprefix("models:/")

    def remove(self, workspace: str, number: str) -> None:
        """Delete a model version with its files; nothing happens where there is none."""
        with self._translated_errors():
            name = descriptions.model_name(workspace)
            model_version = self._get_or_none(self._client.get_model_version, name, str(number))
            if model_version is None:
                return
            self._client.delete_model_version(name, str(number))
            model_id = (model_version.source or "").removeprefix("models:/")
            model = self._get_or_none(self._client.get_logged_model, model_id)
            if model is not None:
                self._erase(model.artifact_location)
                self._client.delete_logged_model(model_id)

    def tag(self, workspace: str, number: str, name: str, value: str) -> None:
        """Write a tag on a model version: why a move was refused, for example."""
        with self._translated_errors():
            self._client.set_model_version_tag(
                descriptions.model_name(workspace), str(number), name, value
            )

    def drop_tag(self, workspace: str, number: str, name: str) -> None:
        """Remove a tag of a model version; nothing happens where there is none."""
        with self._translated_errors():
            self._get_or_none(
                self._client.delete_model_version_tag,
                descriptions.model_name(workspace),
                str(number),
                name,
            )

    def tagged(self, workspace: str, name: str) -> dict[str, str]:
        """The versions that have a tag, by their MLflow number, with its value."""
        query = f"name = '{descriptions.model_name(workspace)}' and tags.`{name}` LIKE '%'"
        with self._translated_errors():
            found = self._client.search_model_versions(query, max_results=1000)
        return {str(version.version): version.tags[name] for version in found}

    def aliases(self, workspace: str) -> dict[str, str]:
        """Every alias of the workspace's model and the MLflow number it stands at.

        Read from the registered model: a search over versions answers without their aliases.
        """
        with self._translated_errors():
            model = self._get_or_none(
                self._client.get_registered_model, descriptions.model_name(workspace)
            )
        return {} if model is None else {a: str(n) for a, n in sorted(model.aliases.items())}

    def set_alias(self, workspace: str, alias: str, number: str) -> None:
        """Move an alias. RegistryRefused for a number that is not registered."""
        with self._translated_errors():
            self._client.set_registered_model_alias(
                descriptions.model_name(workspace), alias, str(number)
            )

    def drop_alias(self, workspace: str, alias: str) -> None:
        """Remove an alias; nothing happens where there is none."""
        with self._translated_errors():
            self._get_or_none(
                self._client.delete_registered_model_alias,
                descriptions.model_name(workspace),
                alias,
            )

    def describe(self, workspace: str, story: str) -> None:
        """Write the descriptions of the experiment and the registered model, in Markdown.
        A description that an engineer has rewritten is left as it is.
        """
        with self._translated_errors():
            experiment, name = self._experiment(workspace), descriptions.model_name(workspace)
            about = descriptions.note(descriptions.about_experiment(workspace, story))
            tags = self._client.get_experiment(experiment).tags
            if descriptions.is_own(tags.get(NOTE), tags):
                for tag, value in about.items():
                    self._client.set_experiment_tag(experiment, tag, value)
            model = self._get_or_none(self._client.get_registered_model, name)
            if model is not None and descriptions.is_own(model.description, model.tags):
                text = descriptions.about_model(workspace, story)
                self._client.update_registered_model(name, text)
                mark = descriptions.note(text)[descriptions.WRITTEN]
                self._client.set_registered_model_tag(name, descriptions.WRITTEN, mark)

    def _model(self, workspace: str) -> None:
        text = descriptions.about_model(workspace)
        self._create_unless_exists(
            self._client.create_registered_model,
            descriptions.model_name(workspace),
            tags={
                "baton.workspace": workspace,
                descriptions.WRITTEN: descriptions.note(text)[descriptions.WRITTEN],
            },
            description=text,
        )

    def _numbers(self, workspace: str, tags: Mapping[str, str]) -> list[str]:
        query = f"name = '{descriptions.model_name(workspace)}' and {tag_filter(tags)}"
        model_versions = self._client.search_model_versions(query, max_results=100)
        return sorted((str(version.version) for version in model_versions), key=int)

    def _upload_model(
        self,
        experiment: str,
        version: int,
        state: bytes,
        at: float,
        identity: Mapping[str, str],
        tags: Mapping[str, str],
        description: str,
    ) -> str:
        models = self._client.search_logged_models(
            [experiment], tag_filter(identity), max_results=10
        )
        model = (
            min(models, key=lambda candidate: str(candidate.status) != "READY")
            if models
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
                model_package.write(Path(folder), model.model_id, state, at, tags)
                self._client.log_model_artifacts(model.model_id, folder)
            # tags of MLflow's own are dropped where a model is created
            about = descriptions.SOURCE | {"mlflow.note.content": description}
            self._client.set_logged_model_tags(model.model_id, about)
            self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _log_version_metrics(
        self, experiment: str, model_id: str, position: int, at: float, metrics: Mapping[str, float]
    ) -> None:
        if not metrics:
            return
        identity = {"baton.kind": "versions"}
        tags = identity | {"mlflow.note.content": descriptions.ABOUT_VERSIONS}
        run_id = self._run(experiment, self._runs(experiment, identity), "versions", at, tags)
        points = {name: [(position, value)] for name, value in metrics.items()}
        self._points(run_id, points, at, model_id)
        self._client.set_terminated(run_id, end_time=ms(at))


def _version_of(model_version: Any) -> RegisteredVersion:
    tags = dict(model_version.tags)

    def whole(name: str) -> int | None:
        text = tags.get(name, "")
        return int(text) if text.isdecimal() else None

    return RegisteredVersion(
        number=str(model_version.version),
        version=whole("baton.version"),
        position=whole("baton.position"),
        digest=tags.get("baton.digest"),
        recipe=tags.get("baton.recipe"),
        tags=tags,
    )


def _package_digest(model_id: str, state: bytes, at: float, tags: Mapping[str, str]) -> str:
    """The digest of a package as it is written, whoever uploaded it."""
    with tempfile.TemporaryDirectory() as folder:
        model_package.write(Path(folder), model_id, state, at, tags)
        return model_package.digest(Path(folder))
