"""MLflow answers nobody who does not know its password, started by `baton up` or by compose."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from experiments.registry.mlflow_client import RegistryUnavailable
from experiments.registry.mlflow_server import USER, mlflow_pages_url
from experiments.registry.registered_versions import Registry
from service.operations.bootstrap import prepare
from service.runtime.first_secrets import mlflow_password, prepare_mlflow
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from tests.mlflow_server import free_port, running, running_mlflow
from tests.waiting import LIMIT_SECONDS

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "bk_a-password-of-a-test"
WAYS = ("up", pytest.param("compose", marks=pytest.mark.long))


@pytest.fixture(scope="module", params=WAYS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("mlflow")
    if request.param == "up":
        with running_mlflow(home, password=PASSWORD) as address:
            yield address
        return
    (home / "password").write_text(PASSWORD)
    port = free_port()
    command = (str(ROOT / "deploy" / "with-mlflow-login"), "--workers=1", f"--port={port}")
    command += (f"--backend-store-uri=sqlite:///{home / 'mlflow.sqlite3'}",)
    command += (f"--artifacts-destination={home / 'artifacts'}", "--serve-artifacts")
    environment = dict(os.environ) | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_PASSWORD_FILE": str(home / "password"),
        "MLFLOW_FOLDER": str(home),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    address = f"http://127.0.0.1:{port}"
    with running(command, home, environment, f"{address}/health"):
        yield address


@pytest.fixture(autouse=True)
def _no_login_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry sets these for its process."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")


API = "/api/2.0/mlflow"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/1/models/m/artifacts/code/baton_published.py"
ATTEMPTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", f"{API}/registered-models/alias", {"name": "w", "alias": "champion", "version": "2"}),
    ("DELETE", f"{API}/registered-models/delete", {"name": "w"}),
    ("POST", f"{API}/experiments/create", {"name": "x", "artifact_location": "file:///tmp"}),
    ("POST", f"{API}/experiments/search", {"max_results": 10}),
    ("GET", f"{API}/registered-models/search", {}),
    ("PUT", ARTIFACT, {"import": "os"}),
    ("GET", ARTIFACT, {}),
    ("GET", "/", {}),
    ("GET", "/get-artifact?path=x&run_uuid=y", {}),
    ("POST", "/graphql", {"query": "{ __typename }"}),
)


@pytest.mark.parametrize("method, path, body", ATTEMPTS)
@pytest.mark.parametrize("login", [None, (USER, "wrong"), ("admin", "password1234"), (USER, "")])
def test_without_the_password_nothing_is_answered(
    url: str, method: str, path: str, body: dict[str, Any], login: tuple[str, str] | None
) -> None:
    answer = httpx.request(
        method, url + path, json=body or None, auth=login, timeout=LIMIT_SECONDS, trust_env=False
    )
    assert answer.status_code == 401


def test_who_has_the_password_publishes_and_is_shown_the_pages(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(url, password=PASSWORD)
    registry.describe("login", "a story")
    assert registry.aliases("login") == {}
    assert "/#/experiments/" in mlflow_pages_url(url, "login", password=PASSWORD)
    assert mlflow_pages_url(url, "login") == url


def test_a_wrong_password_is_told_as_such_and_tried_again(url: str) -> None:
    with pytest.raises(RegistryUnavailable, match=r"keys\.json"):
        Registry(url, password="another").aliases("login")


def test_the_password_is_made_once_and_lies_beside_the_keys(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    assert mlflow_password(settings) == ""
    made = prepare_mlflow(settings)
    assert prepare_mlflow(settings) == mlflow_password(settings) == made
    store = Store(settings.database_url)
    keys = prepare(settings, store)
    assert prepare(settings, store) == keys
    store.close()
    file = settings.home / "keys.json"
    assert json.loads(file.read_text()) == keys | {"mlflow": made}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert prepare_mlflow(settings) == made
    assert mlflow_password(Settings(home=settings.home, mlflow_password="set")) == "set"
