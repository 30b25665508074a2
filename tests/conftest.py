"""What all tests share: an environment that says nothing of Baton, and patient property tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import postgres
from tests.mlflow_server import running_mlflow
from tests.service_in_process import InProcess, Place

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("baton", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("baton")


_STAY = ("BATON_DATA", "BATON_TEST_POSTGRES_URL")


LONGEST = (
    *("faults", "stories", "jobs", "crash", "retention", "serving", "replication", "machine"),
    *("sweep", "today", "conversation", "every_page", "bench", "parity"),
)
"""Files that take longest, by a part of their names: begun first, no worker is left with one."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        named = [n for n, part in enumerate(LONGEST) if f"test_{part}" in item.path.name]
        return min(named, default=len(LONGEST))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the collector need not walk it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    """A test's Baton is set by the test alone; what stays says where data and servers are."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("BATON_") and name not in _STAY:
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """What a bench sets for its own process (only errors, say) silences no later test."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def place(service: InProcess) -> Place:
    """A live workspace of its own, in the service that the test's module runs."""
    return service.workspace()


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real MLflow server for all tests that ask for it: each keeps to workspaces of its own."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture
def registry(mlflow_url: str) -> Any:
    """Baton's door to that server."""
    from experiments.registry.registered_versions import Registry

    return Registry(mlflow_url)


@pytest.fixture(scope="session")
def client(mlflow_url: str) -> Any:
    """MLflow's own client of that server."""
    from mlflow import MlflowClient

    return MlflowClient(mlflow_url, mlflow_url)


@pytest.fixture(autouse=True, scope="session")
def _no_server_stays_behind() -> Iterator[None]:
    yield
    postgres.end_shared()
