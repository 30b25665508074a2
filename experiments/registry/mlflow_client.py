"""MLflow client with time limits; errors are unavailable (retry) or refused (do not)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from experiments.registry import descriptions
from experiments.registry.mlflow_server import USER

TIMEOUT_SECONDS = 10
PROBE_SECONDS = 3.0


class RegistryUnavailable(ConnectionError):
    """MLflow did not answer, or answered that it cannot now. Ask again later."""


class RegistryRefused(ValueError):
    """MLflow answered that it will not do this; asking again changes nothing."""


class Connection:
    """Base of the MLflow client: time limits, error translation, the experiment.

    The time limits, and the login, are MLflow's environment variables, which this sets for the
    process: a request that has no answer after `timeout_seconds`, twice, is RegistryUnavailable.
    """

    def __init__(
        self, tracking_uri: str, timeout_seconds: int = TIMEOUT_SECONDS, password: str = ""
    ) -> None:
        self.tracking_uri = tracking_uri.rstrip("/")
        os.environ.update(
            MLFLOW_HTTP_REQUEST_TIMEOUT=str(timeout_seconds),
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
            MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="0",
            MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER="false",
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
        )
        if password:
            os.environ.update(MLFLOW_TRACKING_USERNAME=USER, MLFLOW_TRACKING_PASSWORD=password)
        self._client = MlflowClient(self.tracking_uri, self.tracking_uri)

    def reach(self) -> None:
        """Raise RegistryUnavailable within 3 s unless the server is up."""
        try:
            requests.get(f"{self.tracking_uri}/health", timeout=PROBE_SECONDS).raise_for_status()
        except requests.RequestException as error:
            raise RegistryUnavailable(f"no MLflow at {self.tracking_uri}: {error}") from error

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
            if status == 401:
                raise RegistryUnavailable(
                    f"MLflow at {self.tracking_uri} does not take the login: "
                    "BATON_MLFLOW_PASSWORD, or `mlflow` in keys.json, is another's"
                ) from error
            if status == 429 or status >= 500:
                raise RegistryUnavailable(f"MLflow at {self.tracking_uri}: {error}") from error
            raise RegistryRefused(f"MLflow at {self.tracking_uri} refused: {error}") from error
        except (requests.RequestException, JSONDecodeError, ConnectionError, TimeoutError) as error:
            raise RegistryUnavailable(f"MLflow at {self.tracking_uri}: {error}") from error

    def _get_or_none(self, ask: Any, *arguments: str) -> Any:
        try:
            return ask(*arguments)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" or _is_no_alias(error):
                return None
            raise

    def _create_unless_exists(self, make: Any, *arguments: Any, **more: Any) -> Any:
        try:
            return make(*arguments, **more)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return None

    def _erase(self, location: str) -> None:
        """Delete files that are in MLflow's keeping; those elsewhere are not ours to delete."""
        if location.startswith("mlflow-artifacts:"):
            place = get_artifact_repository(location, tracking_uri=self.tracking_uri)
            place.delete_artifacts()  # type: ignore[no-untyped-call]

    def _experiment(self, workspace: str) -> str:
        name = descriptions.experiment_name(workspace)
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            tags = descriptions.experiment_tags(workspace)
            created = self._create_unless_exists(self._client.create_experiment, name, tags=tags)
            return str(created) if created else self._experiment(workspace)
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)


def tag_filter(tags: Mapping[str, str]) -> str:
    return " and ".join(f"tags.`{name}` = '{value}'" for name, value in sorted(tags.items()))


def _is_no_alias(error: MlflowException) -> bool:
    return error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in str(error).lower()


def ms(at: float) -> int:
    return int(at * 1000)
