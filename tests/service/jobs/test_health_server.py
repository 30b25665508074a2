"""The health address of `jobs`: alive, ready, and what Prometheus is told of the installation."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.jobs.health_server import HealthServer
from service.jobs.installation_figures import InstallationFigures
from service.runtime.job_metrics import JobMetrics
from tests.running import Home, Process, installation, teach
from tests.service_in_process import ASKS, QUIET, serving
from tests.waiting import until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(body: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def named(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def address(jobs: Process) -> str:
    """Where a `jobs` process says that its health address is."""
    said = until(lambda: re.search(r'"health": "([^"]+)"', jobs.said), "it tells its address")
    return said[1]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    given = {"checkpoint_seconds": 0.5, "checkpoint_entries": 4, "evaluate_seconds": 1}
    with installation(tmp_path, **given) as home:
        yield home


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def test_jobs_are_alive_and_ready_and_say_who_leads_and_what_ran(home: Home) -> None:
    service = home.serve()
    first = home.jobs()
    one = address(first)
    until(lambda: get(f"{one}/readyz").json()["leader"], "it leads")
    second = home.jobs()
    other = address(second)
    for url, leads in ((one, True), (other, False)):
        assert get(f"{url}/healthz").json() == {"status": "ok"}
        assert get(f"{url}/readyz").json() == {"ready": True, "why": [], "leader": leads}
        assert get(f"{url}/nothing").status_code == 404

    place = home.workspace("told", service)
    with place.caller("engineer", service) as engineer:
        for number in range(6):
            teach(engineer, f"c{number}", number)

    def told() -> Samples | None:
        samples = parsed(get(f"{one}/metrics").text)
        key = ("baton_newest_checkpoint_timestamp_seconds", (("workspace", "told"),))
        ran = ("baton_job_runs_total", (("result", "ok"), ("task", "evaluate")))
        return samples if key in samples and samples.get(ran) else None

    samples = until(told, "the leader tells of the workspace")
    assert named(samples, "baton_jobs_leader") == 1
    assert named(samples, "baton_job_last_success_timestamp_seconds", task="audit") > 1e9
    assert named(samples, "baton_serving_version", workspace="told") >= 1
    assert named(samples, "baton_audits_open", workspace="told") >= 0
    assert named(samples, "baton_publishing_owed", workspace="told") >= 1
    until(
        lambda: parsed(get(f"{one}/metrics").text).get(("baton_mlflow_up", ())) == 0,
        "it tells that MLflow is away",
    )
    follower = parsed(get(f"{other}/metrics").text)
    assert named(follower, "baton_jobs_leader") == 0
    assert not any(name == "baton_serving_version" for name, _ in follower)


def test_the_jobs_log_names_its_passes_and_a_port_that_is_taken_is_told(home: Home) -> None:
    first = home.jobs()
    taken = int(address(first).rpartition(":")[2])
    second = home.jobs(jobs_port=taken)
    assert get(f"{address(second)}/healthz").status_code == 200
    line = next(x for x in second.said.splitlines() if "health_port_taken" in x)
    assert json.loads(line)["port"] == taken
    assert "_guarded" not in first.said + second.said


def test_a_process_whose_lease_nobody_looks_after_is_not_alive() -> None:
    silence = 0.0
    server = HealthServer(
        "127.0.0.1", 0, JobMetrics(), lambda: ["it rains"], lambda: False, lambda: silence, 60.0
    )
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}"
        assert get(f"{url}/healthz").status_code == 200
        silence = 3600.0
        assert get(f"{url}/healthz").status_code == 503
        unready = get(f"{url}/readyz")
        assert (unready.status_code, unready.json()["why"]) == (503, ["it rains"])
    finally:
        server.stop()


def test_the_figures_are_those_of_the_database_and_new_outcomes_are_counted_once(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as service:
        place, metrics = service.default(), JobMetrics()
        metrics.set_leader(True)
        figures = InstallationFigures(service.baton.store, metrics)
        handoff = place.escalated()
        figures.collect()
        waiting = parsed(metrics.render().decode())
        team = place.agent.got("/v1/handoffs")["handoffs"][0]["team"]
        where = {"workspace": "default", "team": team}
        assert named(waiting, "baton_handoffs_waiting", **where) == 1
        oldest = named(waiting, "baton_handoff_oldest_timestamp_seconds", **where)
        assert oldest <= time.time()
        place.agent.posted(f"/v1/handoffs/{handoff}/claim")
        place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
        place.agent.posted(f"/v1/handoffs/{handoff}/resolve")
        place.bot.decided("d", "m1", QUIET)
        figures.collect()
        figures.collect()
        after = parsed(metrics.render().decode())
        assert not any(name == "baton_handoffs_waiting" for name, _ in after)
        label = {"workspace": "default", "source": "agent", "verdict": "needed"}
        assert named(after, "baton_outcomes_total", **label) == 1
        assert named(after, "baton_disk_free_bytes") > 0
        metrics.set_leader(False)
        assert not any("baton_serving" in name for name, _ in parsed(metrics.render().decode())), (
            "who no longer leads tells nothing of the installation"
        )
        metrics.set_leader(True)
        place.escalated("e", ASKS)
        figures.collect()
        again = parsed(metrics.render().decode())
        assert named(again, "baton_handoffs_waiting", **where) == 1
        assert named(again, "baton_serving_version", workspace="default") >= 1
