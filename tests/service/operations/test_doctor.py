"""`baton doctor` asks where the processes of a home run, and says whether jobs act."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.operations.doctor import Finding, examine
from service.operations.running_file import Running, RunningProcess
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from tests.mlflow_server import free_port
from tests.running import Home, installation
from tests.service.jobs.test_health_server import address
from tests.service_in_process import QUIET, serving
from tests.waiting import until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with installation(tmp_path_factory.mktemp("doctor")) as home:
        yield home


def one(findings: list[Finding], start: str) -> Finding:
    [found] = [finding for finding in findings if finding.what.startswith(start)]
    return found


def test_processes_are_asked_where_they_run_and_jobs_act_by_their_lease(home: Home) -> None:
    settings = Settings(home=home.folder, port=free_port(), mlflow_url="http://127.0.0.1:9")
    service, jobs = home.serve(), home.jobs()
    assert service.process is not None
    assert jobs.process is not None
    until(lambda: one(examine(settings), "jobs act").ok, "jobs hold their lease")
    assert f":{jobs.process.pid} holds the lease" in one(examine(settings), "jobs act").what
    assert not one(examine(settings), "the API").ok, "without running.json it asks the settings"
    port = int(service.url.rpartition(":")[2])
    assert one(examine(settings, port), "the API").ok

    processes = (
        RunningProcess.of("serve", service.process.pid),
        RunningProcess.of("jobs", jobs.process.pid),
    )
    Running(service.url, address(jobs), "http://127.0.0.1:9", processes).write(home.folder)
    findings = examine(settings)
    assert one(findings, f"the API answers at {service.url}").ok
    assert one(findings, "jobs answers at").ok
    assert one(findings, "serve runs").ok
    jobs.stop()
    findings = examine(settings)
    gone = one(findings, "jobs act")
    assert not gone.ok
    assert "baton jobs" in gone.mend
    assert not one(findings, "jobs runs").ok
    assert not one(findings, "jobs answers at").ok


def test_how_long_texts_are_kept_is_said_and_is_never_wrong(tmp_path: Path) -> None:
    for days, said in ((0.0, "for ever"), (30.0, "30 days")):
        found = one(examine(Settings(home=tmp_path, keep_days=days)), "texts are kept")
        assert found.ok
        assert said in found.what


def test_whether_originals_are_kept_and_their_key_is_here_is_said(tmp_path: Path) -> None:
    def told(secret_key: str | None) -> Finding:
        settings = Settings(home=tmp_path, secret_key=secret_key)
        return one(examine(settings), f"workspace {place.name}: originals")

    with serving(tmp_path, secret_key="the right one") as service:
        place = service.workspace()
        place.policy(redaction={"kinds": ["card"]})
        assert "are not kept" in told(None).what
        assert told(None).ok
        place.policy(redaction={"kinds": ["card"], "originals": "sealed"})
        place.bot.decided("c", "m1", f"{QUIET} 5500 0000 0000 0004")
        assert "are kept, sealed" in told("the right one").what
        assert told("the right one").ok
        for wrong in (None, "another"):
            assert not told(wrong).ok
            assert "BATON_SECRET_KEY" in told(wrong).mend
        assert not (tmp_path / "secret.key").exists(), "who only looks makes no key"


def test_an_upgraded_database_is_told_what_it_lacks_and_then_that_nothing_is_damaged(
    tmp_path: Path,
) -> None:
    """Before: the schema alone, and no word about a database that does not answer. After: versions
    of an older build's recipe are no damaged ones.
    """
    stored = Path(__file__).parents[2] / "data" / "schemas" / "0001.sqlite3.gz"
    (tmp_path / "baton.sqlite3").write_bytes(gzip.decompress(stored.read_bytes()))
    settings = Settings(home=tmp_path, port=free_port(), mlflow_url="http://127.0.0.1:9")
    findings = examine(settings)
    assert not one(findings, "the database's schema").ok
    assert not [finding for finding in findings if finding.what.startswith("the database answers")]
    store = Store(settings.database_url)
    store.migrate()
    store.close()
    findings = examine(settings)
    assert one(findings, "the database's schema").ok
    [versions] = [
        f for f in findings if f.what.startswith("workspace shop") and "damaged" in f.what
    ]
    assert versions.ok, versions.what
