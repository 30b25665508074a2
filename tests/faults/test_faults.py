"""Broken on purpose, under load: what was acknowledged is there once, and everything goes on.

`make soak` kills hundreds of times (BATON_TEST_KILLS); the instants are drawn from BATON_TEST_SEED.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from experiments.replay.client import RefusedError
from learning.ledger import checkpoint
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.store.database import transactions
from service.store.database.transactions import Store
from service.store.ledger import entries
from service.versions.restore import restore
from tests import postgres
from tests.faults.test_crash import repeated, under_load, whole
from tests.running import TEXTS, Home, Place, Process, installation, until
from tests.service_in_process import OTHERS, refusal, serving
from tests.waiting import LIMIT_SECONDS

KILLS = int(os.environ.get("BATON_TEST_KILLS", "0"))
"""0: a few, as part of all tests."""

store_url = postgres.on_both("function", stores=postgres.BOTH)


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


@pytest.mark.long
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


# Checkpoints


@pytest.mark.parametrize(
    "damage",
    ["flipped", *(pytest.param(how, marks=pytest.mark.long) for how in ("cut", "empty"))],
)
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
