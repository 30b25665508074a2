"""Files of a published version that were changed in MLflow are told of, and published anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from experiments.registry.registered_versions import Registry
from service.operations import doctor
from service.runtime.settings import Settings
from service.store import security_log
from service.store.ledger import version_rows
from service.versions.mlflow.artifact_check import ArtifactCheck
from service.versions.mlflow.publish_version import MlflowPublisher
from tests.mlflow_server import running_mlflow
from tests.service_in_process import InProcess, Place, serving


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, mlflow_url: str) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("home"), mlflow_url=mlflow_url) as running:
        yield running


class Published:
    """A workspace whose first version is in MLflow."""

    def __init__(self, service: InProcess, url: str) -> None:
        self.place: Place = service.workspace()
        self.settings: Settings = service.baton.settings
        self.store, self.registry = service.baton.store, Registry(url)
        self._publisher = MlflowPublisher(self.store, self.registry)
        self.checker = ArtifactCheck(self.store, self.registry)
        self.publish()

    def publish(self) -> None:
        self._publisher.publish(self.place.name)

    @property
    def number(self) -> str:
        with self.store.read() as connection:
            (number,) = version_rows.published(connection, self.place.name)
        return number

    def files(self) -> Any:
        client = self.registry._client
        model_id = self.registry._model_id(self.place.name, self.number)
        place = client.get_logged_model(model_id).artifact_location
        return get_artifact_repository(place, tracking_uri=self.registry.tracking_uri)

    def alarms(self) -> list[str]:
        with self.store.read() as connection:
            events = security_log.newest(connection, 1000)
        return [
            event.subject
            for event in events
            if (event.kind, event.workspace) == ("artifact_altered", self.place.name)
        ]

    def told_by_doctor(self) -> list[bool]:
        what = f"workspace {self.place.name}: 1 versions at MLflow's aliases"
        found = doctor.examine(self.settings)
        return [finding.ok for finding in found if finding.what.startswith(what)]


@pytest.fixture
def published(service: InProcess, mlflow_url: str) -> Published:
    return Published(service, mlflow_url)


def change(files: Any, folder: Path) -> None:
    (folder / "baton_published.py").write_text("print('anything')")
    files.log_artifact(str(folder / "baton_published.py"), "code")


def add(files: Any, folder: Path) -> None:
    (folder / "numpy.py").write_text("print('anything')")
    files.log_artifact(str(folder / "numpy.py"), "code")


def remove(files: Any, _folder: Path) -> None:
    files.delete_artifacts("state.npz")


@pytest.mark.long
def test_files_as_they_were_written_raise_no_alarm(published: Published) -> None:
    before = published.number
    for _ in range(2):
        published.checker.check()
    assert (published.number, published.alarms()) == (before, [])
    assert published.told_by_doctor() == [True]


@pytest.mark.parametrize(
    "meddle", [change, *(pytest.param(one, marks=pytest.mark.long) for one in (add, remove))]
)
def test_files_that_were_changed_are_told_of_and_published_anew(
    published: Published, meddle: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    before = published.number
    meddle(published.files(), tmp_path)
    assert published.told_by_doctor() == [False]
    published.checker.check()
    assert published.alarms() == [f"version 1, MLflow's {before}"]
    published.publish()
    assert published.number != before
    assert published.registry.aliases(published.place.name)["champion"] == published.number
    published.checker.check()
    assert len(published.alarms()) == 1
    assert published.told_by_doctor() == [True]
