"""Simulated bots and agents play through HTTP, end by themselves, and say truly how it went."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from rich.console import Console

from experiments.replay.client import BatonClient, RefusedError
from experiments.simulation.arrival_schedule import EventSchedule
from experiments.simulation.demo import play
from experiments.simulation.scoreboard import NEWEST, Scoreboard, line, table, trail
from experiments.simulation.world import World, WorldSettings
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).resolve().parents[3]
KEYS = {"bot": "b", "agent": "a"}
SERVE = (
    "import os\n"
    "from service.web.serve.http_server import serve\n"
    "from service.operations.bootstrap import prepare_database\n"
    "from service.runtime.settings import Settings\n"
    "settings = Settings.from_environ(os.environ)\n"
    "prepare_database(settings)\n"
    "serve(settings)\n"
)


Live = tuple[str, dict[str, str]]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A real service in a process of its own: its URL and its first keys."""
    home = tmp_path_factory.mktemp("demo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environ = os.environ | {"BATON_HOME": str(home), "BATON_PORT": str(port)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE], cwd=ROOT, env=environ, stdout=log, stderr=log
        )
    try:

        def is_ready() -> bool:
            assert process.poll() is None, (home / "log").read_text()
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
            return False

        until(is_ready, "the service is ready")
        yield url, json.loads((home / "keys.json").read_text())
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)


@pytest.fixture
def service(installation: Live, request: pytest.FixtureRequest) -> Live:
    """The service, and the keys of a workspace where nothing has happened yet."""
    url, keys = installation
    name = f"w{zlib.crc32(request.node.name.encode())}"
    with BatonClient(url, keys["admin"]) as admin:
        return url, admin.post("/v1/workspaces", {"id": name})["keys"]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=100)


def test_a_play_ends_and_its_figures_are_those_of_the_service(
    service: Live,
) -> None:
    url, keys = service
    console = quiet()
    found = play(url, keys, conversations=120, seed=3, concurrency=4, console=console)
    assert found.complete
    assert found.conversations == 120
    assert found.decisions > 200
    assert found.handoffs >= found.escalations > 0
    assert found.outcomes > 30
    assert found.lessons >= found.outcomes / 2
    with BatonClient(url, keys["engineer"]) as engineer:
        quality = engineer.get("/v1/quality")
        standing = engineer.get("/v1/standing")
    assert quality["conversations"]["closed"] == 120
    assert quality["conversations"]["kept"] == round(120 * (found.automation_rate or 0))
    judged = quality["handoffs"]["outcomes"]
    assert judged["pending"] == 0
    assert judged["false_escalation_rate"]["rate"] == pytest.approx(found.false_escalation_rate)
    assert quality["model"]["lessons"] == found.lessons
    assert standing["position"] == found.outcomes + 2
    assert found.position == standing["position"]
    assert "120 conversations" in console.file.getvalue()  # type: ignore[attr-defined]
    assert json.loads(json.dumps(found.json(), allow_nan=False))["position"] == found.position


@pytest.mark.long
def test_the_last_handoffs_are_left_to_whoever_opens_the_console(service: Live) -> None:
    url, keys = service
    found = play(url, keys, conversations=60, seed=4, console=quiet(), left=4)
    assert found.complete
    assert found.conversations == 60
    with BatonClient(url, keys["agent"]) as agent:
        waiting = agent.get("/v1/handoffs?status=waiting")["handoffs"]
    assert len(waiting) == 4
    assert found.handoffs > 4


@pytest.mark.long
def test_verdicts_stand_under_the_agents_own_names_and_a_second_play_issues_no_more_keys(
    service: Live,
) -> None:
    url, keys = service
    for seed in (5, 6):
        assert play(url, keys, conversations=30, seed=seed, console=quiet()).complete
    with BatonClient(url, keys["admin"]) as admin:
        names = [key["name"] for key in admin.get("/v1/keys")["keys"]]
        resolved = admin.get("/v1/handoffs?status=resolved")["handoffs"]
    for name in ("ada", "ben", "cleo"):
        assert names.count(name) == 1
    assert {row["claimed_by"] for row in resolved} == {"ada", "ben", "cleo"}


def test_the_same_play_again_is_new_conversations(service: Live) -> None:
    url, keys = service
    first = play(url, keys, conversations=10, seed=9, console=quiet())
    again = play(url, keys, conversations=10, seed=9, console=quiet())
    assert first.complete
    assert again.complete
    assert first.position == 2 + first.outcomes
    assert again.position == first.position + again.outcomes


def test_a_terminal_sees_a_bar_and_the_table(service: Live) -> None:
    url, keys = service
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    play(url, keys, conversations=12, seed=1, console=screen)
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "12/12" in shown
    assert "false escalations" in shown


class _Double(BaseHTTPRequestHandler):
    """A Baton that continues always: busy at first, or refusing, or for ever slow."""

    busy: ClassVar[int] = 0
    refuses: ClassVar[bool] = False
    seconds: ClassVar[float] = 0.0
    seen: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.seconds)
        kind = type(self)
        if kind.busy > 0:
            kind.busy -= 1
            self._answer(503, {"error": {"code": "busy", "message": "later"}})
        elif self.refuses:
            self._answer(403, {"error": {"code": "role_too_low", "message": "no"}})
        else:
            self.seen.append(said.get("conversation_id", self.path))
            given = {"decision_id": "d", "action": "continue", "probability": 0.25, "triggers": []}
            self._answer(200, given | {"handoff": None, "version": 1, "position": 2})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def double(busy: int = 0, refuses: bool = False, seconds: float = 0.0) -> Iterator[str]:
    _Double.busy, _Double.refuses, _Double.seconds = busy, refuses, seconds
    _Double.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Double)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_busy_service_is_waited_for() -> None:
    with double(busy=9) as url:
        found = play(url, KEYS, conversations=5, concurrency=3, console=quiet())
    assert found.complete
    assert found.conversations == 5
    assert found.automation_rate == 1.0
    assert found.false_escalation_rate is None


def test_a_refusal_ends_the_play_with_its_reason() -> None:
    with double(refuses=True) as url, pytest.raises(RefusedError, match="role_too_low"):
        play(url, KEYS, conversations=50, concurrency=3, console=quiet())


def test_a_play_is_bounded_in_time() -> None:
    """Of days of conversations some are played."""
    with double(seconds=0.05) as url:
        found = play(
            url, KEYS, conversations=1_000_000, concurrency=2, console=quiet(), seconds_max=2.0
        )
    assert not found.complete
    assert found.conversations < 1_000_000


@pytest.mark.long
def test_what_was_missed_is_counted_by_the_hidden_truth() -> None:
    """Where the bot keeps everything, the share missed is the world's base rate."""
    with double() as url:
        settings = WorldSettings(base_rate=0.4, caught=0.0)
        found = play(url, KEYS, conversations=300, console=quiet(), settings=settings)
    assert found.handoffs == 0
    assert abs((found.missed_rate or 0) - 0.4) < 0.09


def test_the_agenda_does_what_is_due_by_the_clock_of_the_simulation() -> None:
    world, done = World(), list[str]()

    def begin(number: int) -> None:
        done.append(f"begin {number}")
        if number == 0:
            agenda.put(world.began(2), lambda: done.append("due with the third"))
            agenda.put(world.began(90), lambda: done.append("late"))
            agenda.put(world.began(70), lambda: done.append("earlier"))

    agenda = EventSchedule(world, 4, begin)
    agenda.work()
    assert done == [
        *("begin 0", "begin 1", "begin 2", "due with the third", "begin 3", "earlier", "late")
    ]


def test_the_agenda_loses_no_job_between_threads() -> None:
    done = list[int]()

    def begin(number: int) -> None:
        agenda.put(0.0, lambda: agenda.put(0.0, lambda: done.append(number)))

    agenda = EventSchedule(World(), 500, begin)
    threads = [threading.Thread(target=agenda.work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
    assert sorted(done) == list(range(500))


def test_an_error_in_a_job_stops_everybody() -> None:
    def begin(number: int) -> None:
        if number == 3:
            raise LookupError("broken")

    agenda = EventSchedule(World(), 100, begin)
    with pytest.raises(LookupError):
        agenda.work()
    assert agenda.stopped
    agenda.work()


def test_the_scoreboard_takes_the_loss_of_the_newest_lessons_again_and_again() -> None:
    board = Scoreboard()
    for _ in range(NEWEST // 2):
        board.add_outcome("not_needed", [(0.5, 0.0), (0.5, 0.0)])
    for _ in range(NEWEST):
        board.add_outcome("needed", [(0.9, 1.0)])
    found = board.summary()
    plain, sure = 0.693147, 0.105361
    expected = (plain, plain, plain, (plain + sure) / 2, sure)
    assert found.losses == pytest.approx(expected, abs=1e-6)
    assert found.log_loss == pytest.approx(sure, abs=1e-6)
    assert found.auc is None
    assert found.lessons == 2 * NEWEST
    assert found.false_escalation_rate == pytest.approx(1 / 3)
    assert found.false_escalation_rate_newest == 0.0


def test_what_no_lesson_counts_for_still_counts_as_an_outcome() -> None:
    board = Scoreboard()
    board.add_outcome("unknowable", [])
    assert board.summary().outcomes == 1
    assert board.summary().lessons == 0


def test_nothing_played_is_shown_as_nothing() -> None:
    found = Scoreboard().summary()
    assert found.missed_rate is found.log_loss is found.truth_auc is None
    assert "0 conversations" in line(found)
    console = quiet()
    console.print(table(found))
    assert "conversations" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_trail_averages_neighbours_and_keeps_every_block() -> None:
    assert trail(()) == ""
    assert trail((0.5,)) == "0.50"
    assert trail((0.6, 0.4, 0.2, 0.0), most=2) == "0.50 > 0.10"
