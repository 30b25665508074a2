"""Broken on purpose, under load: what was acknowledged is there once, and everything goes on.

`make soak` kills hundreds of times (BATON_TEST_KILLS); the instants are drawn from BATON_TEST_SEED.
"""

from __future__ import annotations

import http.server
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from experiments.registry.registered_versions import Registry
from experiments.replay.client import RefusedError
from learning.ledger import checkpoint
from service.jobs import scheduler as jobs_module
from service.jobs.maintenance import Maintenance
from service.operations.bootstrap import prepare
from service.runtime.job_metrics import JobMetrics
from service.runtime.settings import Settings
from service.store import access
from service.store.conversations import batch
from service.store.database import transactions
from service.store.database.transactions import Store
from service.store.ledger import entries
from service.versions.mlflow.publish_version import MlflowPublisher
from service.versions.restore import restore
from tests import postgres
from tests.faults.test_crash import repeated, under_load, whole
from tests.running import TEXTS, Home, Place, Process, installation, teach, until
from tests.service_in_process import ASKS, OTHERS, refusal, serving
from tests.waiting import LIMIT_SECONDS

KILLS = int(os.environ.get("BATON_TEST_KILLS", "0"))
"""0: a few, as part of all tests."""

store_url = postgres.on_both("function")


@pytest.fixture
def draw() -> random.Random:
    seed = int(os.environ.get("BATON_TEST_SEED", "20261123"))
    print(f"BATON_TEST_SEED={seed}")
    return random.Random(seed)


def given(url: str, **more: Any) -> dict[str, Any]:
    return more | ({"database": url} if url.startswith("postgresql") else {})


def ends_well(place: Place, process: Process, told: list[Any]) -> None:
    """All of what must hold after any disturbance."""
    whole(place, told)
    head = len(place.entries())
    with place.caller("engineer", process) as engineer:
        until(lambda: engineer.standing["position"] == head, "all is learned")
        assert engineer.standing["digest"] == place.bare_digest()
    assert sum(len(one.outcomes) for one in told) > 4
    repeated(place, process, told)


def healthy(process: Process) -> bool:
    url = f"{process.url}/healthz"
    return httpx.get(url, trust_env=False, timeout=LIMIT_SECONDS).status_code == 200


# Processes


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("kind", postgres.ONE)
def test_service_and_jobs_killed_at_random_instants_lose_and_double_nothing(
    kind: str, tmp_path: Path, draw: random.Random
) -> None:
    kills = KILLS or {"sqlite": 2, "postgresql": 4}[kind]
    jobs_also = {"checkpoint_seconds": 0.2, "checkpoint_entries": 5, "lease_seconds": 2}
    with (
        postgres.store(kind, tmp_path) as url,
        installation(tmp_path, **given(url, **jobs_also)) as home,
    ):
        service, jobs = home.serve(), [home.jobs(), home.jobs()]
        told: list[Any] = []
        for turn in range(-(-kills // 50)):  # a ledger of its own every 50 kills: it is all checked
            place = home.workspace(f"killed-{turn}", service, mode="live")
            now = min(50, kills - 50 * turn)

            def disturb(now: int = now) -> None:
                for number in range(now):
                    time.sleep(draw.uniform(0.02, 0.6))
                    if number % 4 == 3:
                        one = draw.choice(jobs)
                        one.kill()
                        one.start()
                    else:
                        service.kill()
                        service.start().ready()
                time.sleep(1.5)

            told = under_load(place, service, disturb, patience_seconds=900)
            ends_well(place, service, told)
            print(
                f"{50 * turn + now} kills on {kind}: {sum(len(t.outcomes) for t in told)} outcomes"
            )
        for one in jobs:
            one.kill()
        for row in home.rows("SELECT state, digest FROM version"):
            assert checkpoint.digest(checkpoint.load(bytes(row["state"]))) == row["digest"]


def test_a_leader_of_jobs_that_is_killed_is_followed_by_another_on_postgresql(
    tmp_path: Path,
) -> None:
    with (
        postgres.database() as url,
        installation(tmp_path, database=url, lease_seconds=2, checkpoint_seconds=0.2) as home,
    ):
        service, jobs = home.serve(), [home.jobs(), home.jobs()]
        place = home.workspace("led", service)

        def leader() -> Process | None:
            rows = home.rows("SELECT holder FROM lease WHERE expires_at > ?", time.time())
            pids = {str(job.process.pid): job for job in jobs if job.process is not None}
            return pids.get(rows[0]["holder"].rsplit(":", 1)[1]) if rows else None

        first = until(leader, "one leads")
        first.kill()
        (other,) = [one for one in jobs if one is not first]
        until(lambda: leader() is other, "the other leads")
        assert place.entries()


# PostgreSQL


def test_postgresql_killed_and_started_again_under_load_loses_and_doubles_nothing(
    tmp_path: Path, draw: random.Random
) -> None:
    with postgres.server() as database:
        database.run("CREATE DATABASE baton")
        with installation(tmp_path, database=database.url("baton")) as home:
            service = home.serve()
            place = home.workspace("dead", service, mode="live")

            def disturb() -> None:
                for _ in range(2):
                    time.sleep(draw.uniform(0.3, 0.8))
                    database.kill()
                    url = f"{service.url}/readyz"
                    answer = httpx.get(url, trust_env=False, timeout=LIMIT_SECONDS)
                    assert answer.status_code == 503
                    assert healthy(service)
                    database.start()
                time.sleep(2.5)

            told = under_load(place, service, disturb)
            ends_well(place, service, told)
            assert "request_broke" not in service.said


def test_connections_cut_under_load_lose_and_double_nothing(
    tmp_path: Path, draw: random.Random
) -> None:
    with (
        postgres.database() as url,
        installation(tmp_path, database=url) as home,
    ):
        service = home.serve()
        place = home.workspace("cut", service, mode="live")
        name = url.rsplit("?", 1)[0].rsplit("/", 1)[1]
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = ? AND pid <> pg_backend_pid()"
        )

        def disturb() -> None:
            for _ in range(8):
                time.sleep(draw.uniform(0.05, 0.4))
                assert home.rows(cut, name)
            time.sleep(1.5)

        told = under_load(place, service, disturb)
        ends_well(place, service, told)
        assert "request_broke" not in service.said


def test_without_its_database_every_route_says_503_and_comes_back(tmp_path: Path) -> None:
    with postgres.server() as database:
        database.run("CREATE DATABASE baton")
        with serving(tmp_path, database=database.url("baton")) as service:
            place = service.workspace()
            decided = place.bot.decided("c", "m", OTHERS[0])
            time.sleep(1.1)  # keys are remembered for a second
            database.kill()
            path = f"/v1/decisions/{decided['decision_id']}"
            for answer in (
                place.bot.score("c", "m2", OTHERS[1]),
                place.agent.get(path),
                place.agent.get("/v1/handoffs"),
                place.engineer.get("/v1/quality"),
                place.agent.post("/v1/conversations/c/outcome", json={"verdict": "fine"}),
            ):
                refusal(answer, 503, "database")
                assert answer.headers["retry-after"]
            database.start()
            again = until(lambda: place.bot.score("c", "m2", OTHERS[1]), "it is back")
            assert again.status_code == 200
            assert place.agent.got(path)["probability"] == decided["probability"]
            policy = place.engineer.got("/v1/policy")
            with service.baton.store.write() as connection:
                entries.append(connection, place.name, "policy", policy, "another process")
            standing = partial(place.engineer.got, "/v1/standing")
            until(lambda: standing()["position"] == 3, "it follows others again")


def test_a_postgresql_that_is_frozen_is_refused_at_once_and_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays connected, so that no timeout of its own ends a wait."""
    monkeypatch.setitem(transactions.STALL_SECONDS, transactions.WRITING, 1)
    monkeypatch.setitem(transactions.STALL_SECONDS, transactions.READING, 1)
    with postgres.server() as database:
        database.run("CREATE DATABASE baton")
        with serving(tmp_path, database=database.url("baton")) as service:
            place = service.workspace()
            decided = place.bot.decided("c", "m", OTHERS[0])
            waited: list[str] = []
            for engine in (service.baton.store._writer, service.baton.store._reader):
                event.listen(
                    engine, "before_cursor_execute", lambda _c, _r, sql, *_: waited.append(sql)
                )
            with database.frozen():
                refusal(place.bot.score("c", "m2", OTHERS[1]), 503, "database")
                silent = len(waited)
                for _ in range(20):
                    refusal(place.bot.score("c", "m2", OTHERS[1]), 503, "database")
                    refusal(place.agent.get("/v1/handoffs"), 503, "database")
                    assert place.bot.get("/healthz").status_code == 200
                    assert place.bot.get("/readyz").status_code == 503
                assert len(waited) == silent, "nobody else waits for it"
            until(lambda: place.bot.get("/readyz").status_code == 200, "it is back")
            assert place.bot.score("c", "m2", OTHERS[1]).status_code == 200
            path = f"/v1/decisions/{decided['decision_id']}"
            assert place.agent.got(path)["probability"] == decided["probability"]


# The disk


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here to make a small disk with")
    if made.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def test_a_full_disk_is_503_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with small_disk(folder), installation(folder) as home:
        service = home.serve()
        place = home.workspace("full", service, mode="live")
        ballast = folder / "ballast"
        statuses: list[int] = []

        def fill() -> None:
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)

        def disturb() -> None:
            time.sleep(1)
            fill()
            with place.caller("bot", service, 0.0) as bot:
                for number in range(200):
                    try:
                        bot.score(f"full{number}", "m", "please write " + 300 * "a long text ")
                    except RefusedError as error:
                        statuses.append(error.status)
                        if len(statuses) == 5:
                            break
            assert healthy(service)
            ballast.unlink()
            time.sleep(3)

        told = under_load(place, service, disturb)
        assert statuses == 5 * [503]
        ends_well(place, service, told)


# The clock


class Clock:
    """Time as it is, moved by `by` seconds."""

    def __init__(self) -> None:
        self.by = 0.0

    def time(self) -> float:
        return time.time() + self.by

    def time_ns(self) -> int:
        return time.time_ns() + int(self.by * 1e9)


def test_a_clock_that_steps_back_changes_no_order_and_no_decision(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(batch, "time", SimpleNamespace(time=clock.time, time_ns=clock.time_ns))
    with serving(tmp_path, database=store_url) as service:
        place = service.workspace()
        decided = []
        for number, by in enumerate((0.0, -3600.0, 3600.0, 0.0, -86_400.0)):
            clock.by = by
            decided.append(place.bot.decided("c", f"m{number}", OTHERS[number]))
        handoff = place.bot.decided("d", "m", ASKS)["handoff"]
        place.agent.posted(f"/v1/handoffs/{handoff['id']}/claim")
        clock.by = -7200.0
        Maintenance(service.baton.store, service.baton.settings).expire()
        place.agent.posted(f"/v1/handoffs/{handoff['id']}/outcome", {"verdict": "needed"})
        place.agent.posted(f"/v1/handoffs/{handoff['id']}/return")
        place.bot.posted("/v1/conversations/c/outcome", {"verdict": "missed"})
        found = place.agent.got("/v1/conversations/c")
        assert [row["id"] for row in found["messages"]] == [f"m{n}" for n in range(5)]
        assert found["last_at"] >= found["opened_at"]
        for answer in decided:
            replay = place.agent.got(f"/v1/decisions/{answer['decision_id']}/replay")
            assert replay["identical"] is True, replay
        assert len({one["decision_id"] for one in decided}) == 5
        standing = place.engineer.got("/v1/standing")
        assert standing["position"] == 4
        assert standing["digest"] == checkpoint.digest(restore(service.baton.store, place.name))


def test_a_lease_is_kept_by_its_holder_when_the_clock_steps_back(
    store_url: str, tmp_path: Path
) -> None:
    store = Store(store_url)
    prepare(Settings(home=tmp_path, database=store_url), store)

    def takes(holder: str, now: float) -> bool:
        with store.write() as connection:
            return access.take_lease(connection, "jobs", holder, now, now + 10)

    assert takes("a", 1000.0)
    assert not takes("b", 1009.0)
    assert takes("a", 1009.0), "it is renewed before it ends"
    assert not takes("b", 1018.0)
    assert takes("a", 500.0), "its own lease is renewed whatever the time"
    assert not takes("b", 505.0)
    assert takes("b", 511.0), "a lease that ended at the stepped-back time is free"
    assert not takes("a", 450.0)
    assert takes("a", -3600.0), "nobody waits an hour for a holder that a stepped clock left behind"
    store.close()


def test_a_leader_whose_clock_steps_back_leads_no_longer_for_it(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may have the lease by then: how long one's own lasts is told by no clock's date."""
    store, clock = Store(store_url), Clock()
    prepare(Settings(home=tmp_path, database=store_url), store)
    ticking = SimpleNamespace(time=clock.time, monotonic=time.monotonic)
    monkeypatch.setattr(jobs_module, "time", ticking)
    leader = jobs_module.Leader(store, 1.0)
    leader.renew()
    assert leader.is_active
    clock.by = -3600.0
    until(lambda: not leader.is_active, "its lease has ended")
    store.close()


# MLflow


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


@pytest.mark.parametrize("how", ["500", "slow", "down"])
def test_with_mlflow_sick_publishing_is_put_off_and_learning_goes_on(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sick = type("Sicker", (Sick,), {"how": how, "asked": 0})
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
            publishing.publish()
            once = sick.asked
            publishing.publish()
            assert once <= 4, "it is not asked again and again"
            assert sick.asked <= 2 * once
            assert "mlflow_away" in "".join(capsys.readouterr())
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
        assert ends.wait(2 * LIMIT_SECONDS)

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
    stuck = type("Stuck", (Sick,), {"how": "stuck", "asked": 0, "seconds": 2 * LIMIT_SECONDS})
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


# Checkpoints


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_newest_checkpoint_is_passed_over_at_start(
    store_url: str, tmp_path: Path, damage: str
) -> None:
    store = Store(store_url)
    settings = Settings(home=tmp_path, database=store_url, checkpoint_entries=3)
    with serving(tmp_path, database=store_url, checkpoint_entries=3) as service:
        place = service.workspace(mode="shadow")
        upkeep = Maintenance(store, settings)
        for number in range(8):
            place.bot.decided(f"c{number}", "m", OTHERS[number])
            place.bot.posted(f"/v1/conversations/c{number}/outcome", {"verdict": "missed"})
            upkeep.checkpoint()
        whole_digest = place.engineer.got("/v1/standing")["digest"]
    postgresql = store_url.startswith("postgresql")
    folder = tmp_path if postgresql else Path(str(store.url.database)).parent
    home = Home(folder, {"database": store_url} if postgresql else {})
    newest = "number = (SELECT max(number) FROM version WHERE workspace = ?)"
    (row,) = home.rows(
        f"SELECT state FROM version WHERE workspace = ? AND {newest}", place.name, place.name
    )
    state = bytearray(bytes(row["state"]))
    if damage == "flipped":
        state[len(state) // 2] ^= 0xFF
    else:
        state = state[: len(state) // 2] if damage == "cut" else bytearray()
    home.change(
        f"UPDATE version SET state = ? WHERE workspace = ? AND {newest}",
        bytes(state),
        place.name,
        place.name,
    )
    assert checkpoint.digest(restore(store, place.name)) == whole_digest
    with serving(tmp_path, database=store_url) as service:
        with service.caller(place.keys["engineer"]) as engineer:
            assert engineer.got("/v1/standing")["digest"] == whole_digest
        with service.caller(place.keys["bot"]) as bot:
            assert bot.decided("new", "m", TEXTS[0])["position"] == 10
    store.close()
