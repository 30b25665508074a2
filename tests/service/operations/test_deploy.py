"""The image and the compose file name what there is: files, commands, settings, routes."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.runtime.settings import Settings
from service.web.middleware import BODIES_BYTES_MAX
from tests.house.test_docs import commands

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROXY = ROOT / "deploy" / "haproxy.cfg"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_every_service_runs_a_command_that_exists() -> None:
    runs = {
        name: service["command"][1]
        for name, service in SERVICES.items()
        if service.get("command", [""])[0] == "deploy/with-database"
    }
    assert runs == {"api": "serve", "jobs": "jobs"}
    assert set(runs.values()) <= commands().keys()
    assert SERVICES["mlflow"]["command"][0] == "deploy/with-mlflow-login"
    assert {"mlflow_password"} == set(SERVICES["mlflow"]["secrets"])
    assert "mlflow_password" in SERVICES["jobs"]["secrets"]


def test_every_setting_of_the_image_and_the_services_exists() -> None:
    known = {one.metadata["variable"] for one in fields(Settings)}
    given = {name for service in SERVICES.values() for name in service.get("environment", {})}
    given |= set(re.findall(r"\b(BATON_\w+)=", DOCKERFILE))
    assert {name for name in given if name.startswith("BATON_")} <= known


def test_every_file_that_is_mounted_or_copied_exists() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, flags=re.MULTILINE):
        assert (ROOT / line).exists()
        assert f"!{line}" in ignored
    for mount in mounts():
        source = mount.partition(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def mounts() -> Iterator[str]:
    for service in SERVICES.values():
        yield from service.get("volumes", ())


def test_every_service_of_baton_runs_without_privileges_and_within_limits() -> None:
    for name, service in SERVICES.items():
        assert service["deploy"]["resources"]["limits"]["memory"]
        if service.get("image") == "baton":
            assert (service["user"], service["read_only"]) == ("10001", True), name
            assert service["cap_drop"] == ["ALL"]
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
    assert re.findall(r"^USER (\S+)", DOCKERFILE.rpartition("FROM ")[2], re.MULTILINE) == ["10001"]


def test_what_a_process_may_keep_fits_its_memory() -> None:
    """As the operators' guide adds it up: itself, its models and states, bodies, and its reader."""
    settings = Settings()
    kept = (300 + 100) * 2**20 + settings.models_max * 16 * 2**20
    kept += settings.states_bytes_max + BODIES_BYTES_MAX
    limit = SERVICES["api"]["deploy"]["resources"]["limits"]["memory"]
    assert kept <= int(limit.removesuffix("g")) * 2**30


def test_two_apis_stand_behind_the_proxy_and_who_is_waited_for_says_that_it_is_well() -> None:
    """`jobs` serve nobody: one that is alive may wait for another's lease."""
    assert SERVICES["api"]["deploy"]["replicas"] == 2
    for name in SERVICES:
        check = SERVICES[name]["healthcheck"]
        assert {"test", "interval", "timeout", "retries"} <= check.keys(), name
    assert "/readyz" in str(SERVICES["api"]["healthcheck"]["test"])
    port = next(one.default for one in fields(Settings) if one.name == "jobs_port")
    assert f":{port}/healthz" in str(SERVICES["jobs"]["healthcheck"]["test"])
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert {name: set(on) for name, on in waits.items() if on} == {
        "api": {"database"},
        "jobs": {"database"},
        "proxy": {"api"},
    }
    healthy = [on for one in waits.values() for on in one.values()]
    assert all(on == {"condition": "service_healthy"} for on in healthy)


def test_no_log_of_a_container_grows_without_end() -> None:
    for name, service in SERVICES.items():
        options = service["logging"]["options"]
        assert {"max-size", "max-file"} <= options.keys(), name


def test_what_must_last_is_on_volumes() -> None:
    kept = {name: str(SERVICES[name].get("volumes")) for name in SERVICES}
    assert "database:/var/lib/postgresql/data" in kept["database"]
    assert "home:/home/baton/.baton" in kept["api"]
    assert "home:/home/baton/.baton" in kept["jobs"]
    assert "mlflow:/mlflow" in kept["mlflow"]


def heard(peer: str, **headers: str) -> tuple[str, str]:
    """Scheme and address of a caller as an API of the compose file sees it."""
    seen: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope)

    trusted = SERVICES["api"]["environment"]["FORWARDED_ALLOW_IPS"]
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Any = {"type": "http", "scheme": "http", "client": (peer, 1), "headers": raw}
    asyncio.run(ProxyHeadersMiddleware(app, trusted)(scope, None, None))  # type: ignore[arg-type]
    return seen[0]["scheme"], seen[0]["client"][0]


def test_behind_tls_the_proxy_is_believed_and_a_stranger_is_not() -> None:
    told = {"x_forwarded_proto": "https", "x_forwarded_for": "6.6.6.6, 203.0.113.9, 172.18.0.1"}
    assert heard("172.18.0.5", **told) == ("https", "203.0.113.9")
    assert heard("198.51.100.7", **told) == ("http", "198.51.100.7")
    assert "option forwardfor" in PROXY.read_text(encoding="utf-8")


def test_the_wheel_has_every_page_of_the_console_and_all_that_text_is_read_by(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    folders = (ROOT / "service" / "web" / "console", ROOT / "learning" / "text")
    files = [path for folder in folders for path in folder.rglob("*.*") if path.is_file()]
    wanted = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert len(wanted) > 30
    assert wanted - packed == set()


def test_no_password_stands_in_any_of_the_files() -> None:
    names = ("database_password", "mlflow_password")
    assert COMPOSE["secrets"] == {name: {"file": f"./secrets/{name}"} for name in names}
    for name, service in SERVICES.items():
        for variable in service.get("environment", ()):
            assert "PASSWORD" not in variable or variable.endswith("_FILE"), (name, variable)
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_database_is_named_with_the_password_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sesame\n")
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$BATON_DATABASE $*"\n')
    fake.chmod(0o755)
    said = subprocess.run(
        [ROOT / "deploy" / "with-database", "serve", "--workers", "2"],
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "DATABASE_PASSWORD_FILE": str(tmp_path / "password"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    url = "postgresql+psycopg://baton:sesame@database/baton"
    assert said.stdout == f"{url} -m service serve --workers 2\n"


def test_the_proxy_asks_for_readiness_at_the_port_that_the_api_has() -> None:
    text = PROXY.read_text(encoding="utf-8")
    port = next(one.default for one in fields(Settings) if one.name == "port")
    assert "option httpchk GET /readyz" in text
    assert f"api:{port}" in text


@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")
def test_the_proxy_takes_its_configuration() -> None:
    found = subprocess.run(
        ["haproxy", "-c", "-f", PROXY], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")
def test_the_proxy_takes_what_the_guide_says_of_tls_and_of_one_machine(tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=baton.example.org -days 1"
    made = subprocess.run(
        [*command.split(), "-keyout", "-"], check=True, capture_output=True, text=True
    )
    certificate = tmp_path / "baton.pem"
    certificate.write_text(made.stdout)
    guide = (ROOT / "docs" / "guides" / "operators.md").read_text(encoding="utf-8")
    tls, one_machine = re.findall(r"```\n(    .*?)```", guide.partition("## Proxy")[2], re.DOTALL)[
        :2
    ]
    text = PROXY.read_text(encoding="utf-8")
    assert text.count("    bind :8000\n") == 1
    text = text.replace("    bind :8000\n", tls).replace("/etc/haproxy/baton.pem", str(certificate))
    local = re.sub(r"resolvers docker\n(?:    .*\n)+", "", text)
    local = "".join([*local.splitlines(keepends=True)[:-2], one_machine])
    for name, config in (("compose", text), ("one-machine", local)):
        path = tmp_path / f"{name}.cfg"
        path.write_text(config)
        found = subprocess.run(
            ["haproxy", "-c", "-f", path], capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, (name, found.stderr)


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_the_compose_file_is_of_the_schema(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    found = subprocess.run(
        ["docker-compose", "config", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
