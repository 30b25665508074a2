"""What a process serves is proved, lag is confessed, workers share a port, slow clients are cut."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from learning.ledger import checkpoint
from service.jobs import maintenance
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.versions.restore import restore
from service.web import middleware
from service.web.serve import http_server
from service.web.serve.worker_processes import _environ
from tests.postgres import database, on_both
from tests.running import TEXTS, Client, Home, Process, installation, teach, until
from tests.service_in_process import OTHERS, InProcess, Place, refusal, serving
from tests.waiting import LIMIT_SECONDS

store_url = on_both()
EVERY = 4


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    home = tmp_path_factory.mktemp("serving")
    with serving(home, database=store_url, checkpoint_entries=EVERY) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace(mode="shadow")


def learned(place: Place, name: str) -> int:
    """One more entry of the ledger, learned here; its position."""
    place.bot.decided(name, "m", OTHERS[len(name) % len(OTHERS)])
    found = place.bot.posted(f"/v1/conversations/{name}/outcome", {"verdict": "missed"})
    position: int = found["position"]
    assert place.engineer.got("/v1/standing")["position"] == position
    return position


def diverged(service: InProcess, place: Place) -> float:
    text = service.caller().get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("baton_diverged_total{")]
    found = [line for line in lines if f'"{place.name}"' in line]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def upkeep(service: InProcess) -> Maintenance:
    settings = service.baton.settings
    return Maintenance(service.baton.store, settings)


def test_a_process_whose_model_differs_from_a_checkpoint_says_so_and_stands_anew(
    service: InProcess, place: Place
) -> None:
    assert learned(place, "c") == EVERY - 1
    wrong = service.baton.engine._live_models.get_loaded(place.name)
    wrong.state.calibrator.learn(0.5, 1.0, 1.0)
    assert learned(place, "cc") == EVERY
    right = checkpoint.digest(restore(service.baton.store, place.name))
    assert place.engineer.got("/v1/standing")["digest"] != right
    assert set(wrong.unverified) == {EVERY}
    with capture_logs() as logged:
        upkeep(service).checkpoint()
        until(lambda: diverged(service, place) == 1, "it is noticed", every=0.05)
    until(lambda: place.engineer.got("/v1/standing")["digest"] == right, "it stands anew")
    assert "diverged" in str(logged)
    assert learned(place, "ccc") == EVERY + 1
    again = checkpoint.digest(restore(service.baton.store, place.name))
    assert place.engineer.got("/v1/standing")["digest"] == again
    assert diverged(service, place) == 1


def test_a_process_that_holds_the_right_model_is_proved_and_goes_on(
    service: InProcess, place: Place
) -> None:
    for number in range(2 * EVERY):
        learned(place, "c" * (number + 1))
    served = service.baton.engine._live_models.get_loaded(place.name)
    assert set(served.unverified) == {EVERY, 2 * EVERY}
    upkeep(service).checkpoint()
    until(lambda: not served.unverified, "the unverified are proved", every=0.05)
    assert diverged(service, place) == 0


def test_jobs_save_the_serving_line_where_processes_note_their_digests(
    service: InProcess, place: Place
) -> None:
    keeper = upkeep(service)
    for number in range(3 * EVERY):
        learned(place, "c" * (number + 1))
        keeper.evaluate()  # follows the ledger to its head, past the positions
        keeper.checkpoint()
    assert saved(place) == [EVERY, 2 * EVERY, 3 * EVERY]


def test_what_was_learned_is_in_a_checkpoint_in_time_however_little_it_is(
    service: InProcess, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = learned(place, "c")
    keeper = upkeep(service)
    keeper.checkpoint()
    assert saved(place) == [], "so little is not saved at once"
    monkeypatch.setattr(maintenance, "STALE_SECONDS", 0.0)
    keeper.checkpoint()
    keeper.checkpoint()
    assert saved(place) == [position]


def saved(place: Place) -> list[int]:
    """Where the serving line was saved."""
    found = place.engineer.got("/v1/versions")["versions"]
    return sorted(one["position"] for one in found if one["line"])


def test_readiness_falls_when_a_process_lags_and_rises_when_it_has_caught_up(
    service: InProcess, place: Place
) -> None:
    learned(place, "c")
    caller, served = service.caller(), service.baton.engine._live_models.get_loaded(place.name)
    assert caller.get("/readyz").status_code == 200
    served.reloading = True  # type: ignore[assignment]  # as while a switch is being stood
    try:
        for number in range(66):
            place.bot.decided(f"d{number}", "m", OTHERS[number % len(OTHERS)])
            place.bot.posted(f"/v1/conversations/d{number}/outcome", {"verdict": "fine"})
        answer = caller.get("/readyz")
        assert answer.status_code == 503
        assert f"workspace {place.name} is 66 entries behind" in answer.json()["why"]
        assert answer.headers["retry-after"]
    finally:
        served.reloading = None
    until(lambda: caller.get("/readyz").status_code == 200, "it has caught up")


# Fairness


def test_a_flood_in_one_workspace_does_not_starve_another(store_url: str, tmp_path: Path) -> None:
    """Measured in batches: while thousands wait in one workspace, another's go to the front."""
    with serving(tmp_path, batch_max=8, queue_max=4096) as service:
        flooded, quiet = service.workspace(mode="shadow"), service.workspace(mode="shadow")
        quiet.bot.decided("warm", "m", OTHERS[0])
        done = threading.Event()
        batches: list[int] = []
        event.listen(service.baton.store._writer, "commit", lambda _: batches.append(1))

        def flood(number: int) -> None:
            items = [
                {"conversation_id": f"{number}-{n}", "message": {"id": "m", "text": OTHERS[n % 10]}}
                for n in range(256)
            ]
            with suppress(httpx.TransportError):
                turn = 0
                while not done.is_set():
                    for item in items:
                        item["message"]["id"] = f"m{turn}"  # type: ignore[index]
                    flooded.bot.post("/v1/score/batch", json={"items": items})
                    turn += 1

        threads = [threading.Thread(target=flood, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: len(service.baton.engine._queue) > 500, "a flood", every=0.01)
            waits = []
            for number in range(10):
                before, begun = len(service.baton.engine._queue), len(batches)
                quiet.bot.decided(f"q{number}", "m", OTHERS[number % 10])
                waits.append((len(batches) - begun, before))
        finally:
            done.set()
            for thread in threads:
                thread.join(LIMIT_SECONDS)
        busy = [wait / (before / 8) for wait, before in waits if before > 200]
        assert busy, waits
        assert sorted(busy)[len(busy) // 2] < 0.5, "of the batches that those before it take"


# Slow clients


def asked(url: str, sent: bytes) -> bytes:
    """What a server answers to these bytes, and nothing more, until it hangs up."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def test_a_body_that_does_not_come_is_408(
    service: InProcess, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.3)
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {place.keys['bot']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    found = asked(service.url, head.encode())
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_slow" in found
    batch = head.replace("/v1/score", "/v1/score/batch")
    assert asked(service.url, batch.encode()).startswith(b"HTTP/1.1 408 ")


def test_all_bodies_together_are_bounded(
    service: InProcess, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "BODIES_BYTES_MAX", 10_000)
    body = {"conversation_id": "c", "message": {"id": "m", "text": "a" * 20_000}}
    answer = place.bot.post("/v1/score", json=body)
    refusal(answer, 503, "bodies_full")
    assert answer.headers["retry-after"]
    place.bot.decided("c", "m", OTHERS[0])


# Workers


@pytest.fixture(scope="module")
def workers(
    store_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Home, Process]]:
    """An installation of its own: its first keys are made once, and lie in its home."""
    folder = tmp_path_factory.mktemp("workers")
    with ExitStack() as stack:
        given = {}
        if store_url.startswith("postgresql"):
            given["database"] = stack.enter_context(database())
        home = stack.enter_context(installation(folder, **given))
        yield home, home.serve(workers=3)


def test_several_workers_on_one_port_hold_one_model(workers: tuple[Home, Process]) -> None:
    home, process = workers
    place = home.workspace("shared", process)

    def talk(name: str) -> None:
        with place.caller("bot", process) as bot:
            for number in range(8):
                teach(bot, f"{name}{number}", number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(talk, "abcdef"))
    head = len(place.entries())
    assert head == 2 + 48
    builds, expected = set(), place.bare_digest()

    def standing(_: int) -> dict[str, Any]:
        with place.caller("engineer", process) as engineer:
            until(lambda: engineer.standing["position"] == head, "learned", every=0.02)
            return engineer.standing

    with ThreadPoolExecutor(6) as pool:
        builds = {found["digest"] for found in pool.map(standing, range(12))}
    assert builds == {expected}


def children(process: Process) -> list[int]:
    """The workers that live."""
    assert process.process is not None
    found = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text()
    return [int(pid) for pid in found.split() if lives(int(pid))]


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_a_worker_that_dies_is_started_again_and_nothing_acknowledged_is_lost(
    workers: tuple[Home, Process],
) -> None:
    home, process = workers
    place = home.workspace("dying", process)
    told: dict[str, str] = {}

    def talk(name: str) -> None:
        with place.caller("bot", process) as bot:
            for number in range(25):
                answer = bot.score(f"{name}{number}", "m", TEXTS[number % 6])
                told[f"{name}{number}"] = answer["decision_id"]

    with ThreadPoolExecutor(4) as pool:
        talks = [pool.submit(talk, name) for name in "abcd"]
        for _ in range(2):
            time.sleep(0.3)
            os.kill(children(process)[0], signal.SIGKILL)
        for one in talks:
            one.result()
    rows = home.rows("SELECT conversation_id, id FROM decision WHERE workspace = ?", place.name)
    assert {row["conversation_id"]: row["id"] for row in rows} == told
    assert len(rows) == len(told) == 100
    until(lambda: len(children(process)) == 3, "all are there again")


def test_whichever_worker_is_asked_it_tells_what_all_of_them_did(
    workers: tuple[Home, Process],
) -> None:
    home, process = workers
    place = home.workspace("counted", process)
    with place.caller("bot", process) as bot:
        bot.score("counted", "m", TEXTS[0])

    def told() -> set[str]:
        found = httpx.get(f"{process.url}/metrics", trust_env=False, timeout=LIMIT_SECONDS).text
        return {
            line
            for line in found.splitlines()
            if line.startswith("baton_decisions_total{") and 'workspace="counted"' in line
        }

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: told(), range(12)))
    assert len(found[0]) == 1
    assert next(iter(found[0])).endswith(" 1.0")
    assert all(one == found[0] for one in found)


def test_stopping_ends_every_worker_with_status_0_and_frees_the_port(
    tmp_path: Path,
) -> None:
    with installation(tmp_path) as home:
        process = home.serve(workers=2)
        place = home.workspace("stopping", process)
        pids = children(process)
        told: dict[str, str] = {}
        done = threading.Event()

        def talk(name: str) -> None:
            number = 0
            with (
                suppress(ConnectionError),
                Client(process.url, place.keys["bot"], patience_seconds=0.0) as bot,
            ):
                while not done.is_set():
                    answer = bot.score(f"{name}{number}", "m", TEXTS[number % 6])
                    told[f"{name}{number}"] = answer["decision_id"]
                    number += 1

        threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        until(lambda: len(told) > 40, "they talk", every=0.01)
        parent = process.process
        assert parent is not None
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(LIMIT_SECONDS) == 0
        done.set()
        for thread in threads:
            thread.join(LIMIT_SECONDS)
        assert all(not Path(f"/proc/{pid}").exists() for pid in pids)
        rows = home.rows("SELECT conversation_id, id FROM decision WHERE workspace = ?", place.name)
        stored = {row["conversation_id"]: row["id"] for row in rows}
        assert told.items() <= stored.items()
        assert len(told) > 4
        port = int(process.url.rsplit(":", 1)[1])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


@pytest.mark.long
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed, it cannot tell them; they must not go on with the port of nobody."""
    with installation(tmp_path) as home:
        process = home.serve(workers=2)
        pids = children(process)
        process.kill()
        until(lambda: not any(map(lives, pids)), "they end")


def test_a_client_that_says_nothing_is_hung_up_on(tmp_path: Path) -> None:
    """In a process of its own, with the patience of a test."""
    program = (
        "import service.web.serve.http_server as server, sys\n"
        "from pathlib import Path\n"
        "from service.operations.bootstrap import prepare_database\n"
        "from service.runtime.settings import Settings\n"
        "server.HEADERS_SECONDS = 0.5\n"
        "settings = Settings(home=Path(sys.argv[1]), port=int(sys.argv[2]))\n"
        "prepare_database(settings)\n"
        "server.serve(settings)\n"
    )
    assert http_server.HEADERS_SECONDS < http_server.IDLE_SECONDS
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", program, str(tmp_path), str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:

        def alive() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
            return False

        until(alive, "it serves")
        assert asked(url, b"") == b""
        assert asked(url, b"GET /healthz HTTP/1.1\r\nHost:") == b""
        with httpx.Client(base_url=url, trust_env=False, timeout=LIMIT_SECONDS) as client:
            assert client.get("/healthz").status_code == 200
            time.sleep(1)
            assert client.get("/healthz").status_code == 200
    finally:
        process.terminate()
        assert process.wait(LIMIT_SECONDS) == 0


def test_settings_reach_every_worker() -> None:
    given = Settings(home=Path("somewhere"), queue_max=7, database="sqlite:///x")
    assert Settings.from_environ(_environ(given)) == given
