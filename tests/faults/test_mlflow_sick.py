"""An MLflow that is sick or silent: learning goes on, and no other job waits for it."""

from __future__ import annotations

import http.server
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from experiments.registry.registered_versions import Registry
from service.jobs import scheduler as jobs_module
from service.jobs.maintenance import Maintenance
from service.operations.bootstrap import prepare
from service.runtime.job_metrics import JobMetrics
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.versions.mlflow.publish_version import MlflowPublisher
from tests import postgres
from tests.running import installation, teach, until
from tests.service_in_process import OTHERS, serving
from tests.waiting import LIMIT_SECONDS

store_url = postgres.on_both("function")


class Sick(http.server.BaseHTTPRequestHandler):
    """Answers 500, or nothing for long; `stuck` it is well, and answers nothing else."""

    how = "500"
    asked = 0
    seconds = 3

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.how == "slow" or (self.how == "stuck" and self.path != "/health"):
            time.sleep(self.seconds)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(200 if self.path == "/health" and self.how != "slow" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


def sicker(**values: Any) -> type[Sick]:
    return type("Sicker", (Sick,), {"asked": 0, **values})


@pytest.mark.parametrize("how", ["500", "slow", "down"])
def test_with_mlflow_sick_publishing_is_put_off_and_learning_goes_on(
    how: str, tmp_path: Path
) -> None:
    sick = sicker(how=how)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), sick) as server:
        url = f"http://127.0.0.1:{server.server_port}" if how != "down" else "http://127.0.0.1:9"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with serving(tmp_path, checkpoint_entries=2) as service:
            place = service.workspace(mode="shadow")
            store = service.baton.store
            publishing = MlflowPublisher(store, Registry(url, timeout_seconds=1))
            upkeep = Maintenance(store, service.baton.settings)
            for number in range(6):
                place.bot.decided(f"c{number}", "m", OTHERS[number])
                place.bot.posted(f"/v1/conversations/c{number}/outcome", {"verdict": "fine"})
            upkeep.checkpoint()
            with capture_logs() as logged:
                publishing.publish()
                once = sick.asked
                publishing.publish()
            assert once <= 4, "it is not asked again and again"
            assert sick.asked <= 2 * once
            assert [one["event"] for one in logged].count("mlflow_away") == 1, "it is said once"
            versions = place.engineer.got("/v1/versions")["versions"]
            assert len(versions) == 2
            assert {one["registry_version"] for one in versions} == {None}
            assert place.bot.decided("after", "m", OTHERS[0])["position"] == 8
        server.shutdown()
    assert sick.asked or how == "down"


def test_a_job_that_waits_for_others_holds_up_neither_the_lease_nor_what_is_done_here(
    store_url: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, database=store_url, lease_seconds=3)
    store = Store(store_url)
    prepare(settings, store)
    leader = jobs_module.Leader(store, settings.lease_seconds)
    leader.renew()
    began, ends, done = threading.Event(), threading.Event(), list[int]()

    def wait() -> None:
        began.set()
        assert ends.wait(LIMIT_SECONDS * 2)

    tasks = {"waits": (wait, 0.05, "outside"), "works": (lambda: done.append(1), 0.05, "model")}
    scheduler = jobs_module.schedule(settings, leader, tasks, JobMetrics())
    scheduler.start()
    try:
        until(began.is_set, "one waits")
        before, lasts = len(done), leader._until
        until(lambda: len(done) > before + 2, "the other is done again and again")
        until(lambda: leader._until > lasts, "the lease is renewed")
        assert not ends.is_set()
    finally:
        ends.set()
        scheduler.shutdown()
        store.close()


@pytest.mark.long
def test_an_mlflow_that_never_answers_holds_up_no_other_job_and_costs_no_lease(
    tmp_path: Path,
) -> None:
    """`jobs` save checkpoints and keep their lease, with all of their patience for MLflow."""
    stuck = sicker(how="stuck", seconds=2 * LIMIT_SECONDS)
    given = {"checkpoint_seconds": 0.2, "checkpoint_entries": 3, "lease_seconds": 6}
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), stuck) as server,
        installation(tmp_path, publish_seconds=0.2, **given) as home,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        service = home.serve()
        place = home.workspace("stuck", service)
        home.jobs(mlflow_url=f"http://127.0.0.1:{server.server_port}")
        until(lambda: stuck.asked > 1, "jobs wait for MLflow")
        (leads,) = home.rows("SELECT holder, expires_at FROM lease")
        with place.caller("bot", service) as bot:
            for number in range(3):
                teach(bot, f"c{number}", number)
        saved = "SELECT number FROM version WHERE workspace = ? AND line > 0"
        until(lambda: home.rows(saved, place.name), "a checkpoint, meanwhile")
        renewed = {leads["expires_at"]}

        def is_kept() -> bool:
            (now,) = home.rows("SELECT holder, expires_at FROM lease")
            assert now["holder"] == leads["holder"]
            renewed.add(now["expires_at"])
            return len(renewed) > 3

        until(is_kept, "the lease is renewed, meanwhile")
        server.shutdown()
