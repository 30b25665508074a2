"""Played through HTTP, a stream gives the very numbers of the bare loop."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import httpx
import pytest

from experiments.datasets.streams import SETS, Episode, data_folder, read
from experiments.replay.client import BatonClient, RefusedError
from experiments.replay.play import PlayedStream, bare, through_http, workspace_key
from experiments.simulation.world import episodes
from learning.conversation.state import BotReport
from learning.models.recipes import RECIPES
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parents[3]
SERVE = (
    "import os\n"
    "from service.web.serve.http_server import serve\n"
    "from service.operations.bootstrap import prepare_database\n"
    "from service.runtime.settings import Settings\n"
    "settings = Settings.from_environ(os.environ)\n"
    "prepare_database(settings)\n"
    "serve(settings)\n"
)


class Service:
    """A real service in a process of its own, which can be killed and started again."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = os.environ | {"BATON_HOME": str(self.home), "BATON_PORT": str(self.port)}
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE], cwd=ROOT, env=environ, stdout=log, stderr=log
            )

    def ready(self) -> None:
        def is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self.home / "log").read_text()
            with suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
            return False

        until(is_ready, "the service is ready")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(LIMIT_SECONDS)
            self._process = None

    def workspace(self, workspace: str, recipe: str = "", mode: str = "shadow") -> str:
        admin = json.loads((self.home / "keys.json").read_text())["admin"]
        return workspace_key(self.url, admin, workspace, mode=mode, recipe=recipe)


@contextmanager
def running(home: Path) -> Iterator[Service]:
    service = Service(home)
    service.start()
    try:
        service.ready()
        yield service
    finally:
        service.end()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("parity")) as service:
        yield service


def same(one: PlayedStream, other: PlayedStream) -> None:
    assert one.tally.probabilities == other.tally.probabilities
    assert one.tally.labels == other.tally.labels
    first, second = one.report.json(), other.report.json()
    assert first.pop("decisions_per_second") > 0.0
    assert second.pop("decisions_per_second") > 0.0
    assert first == second


@pytest.mark.parametrize("recipe", RECIPES)
def test_http_says_what_the_bare_loop_says_to_the_bit(service: Service, recipe: str) -> None:
    stream = list(episodes(seed=3, count=12))
    key = service.workspace(f"simulated-{recipe}", recipe)
    same(through_http(stream, service.url, key), bare(stream, recipe=recipe))


def awkward() -> list[Episode]:
    """Conversations with soft labels on both sides, reports, odd texts, and turns unscored."""
    (plain,) = islice(episodes(seed=5, count=1), 1)
    odd = ("", "\u200b🙂 ÀÉÎ\t\n", "我要找人工客服", "w12 w7 w1", "x" * 5000, "<b>'\"\\</b>")
    report = BotReport(intent="refund", confidence=0.1 + 0.2, fallback=True, attempt="look up")
    found = []
    for number in range(6):
        messages = []
        for place, message in enumerate(plain.messages):
            bot = report if message.author == "bot" and place % 3 == 1 else None
            text = odd[(place + number) % 6] if place % 2 else message.text
            attributes = (("plan", "gold"), ("spent", 1e3 / 3), ("vip", True))
            changed = replace(message, id=f"a{number}/{place}", text=text, bot=bot)
            given = place in plain.scored and number % 2 == 0
            messages.append(replace(changed, attributes=attributes if given else ()))
        scored = tuple(place for place in range(len(messages)) if place % 3 != 2)
        labels = tuple((place, (place * 7 + number) % 11 / 10) for place in scored[number % 2 :])
        found.append(Episode(f"awkward.{number}", tuple(messages), labels, scored))
    return found


def test_odd_texts_reports_and_soft_labels_make_no_difference(service: Service) -> None:
    key = service.workspace("awkward")
    same(through_http(awkward(), service.url, key, handoffs=True), bare(awkward(), handoffs=True))


def test_playing_the_same_stream_again_changes_nothing(service: Service) -> None:
    stream = list(episodes(seed=4, count=5))
    key = service.workspace("again")
    same(through_http(stream, service.url, key), through_http(stream, service.url, key))


def test_live_escalations_are_judged_by_agents_and_learned(service: Service) -> None:
    stream = list(episodes(seed=8, count=40))
    key = service.workspace("judged", mode="live")
    first = through_http(stream, service.url, key, live=True)
    again = through_http(stream, service.url, key, live=True)
    same(first, again)
    assert first.service == again.service
    assert first.service is not None
    assert first.service.handoffs > first.service.not_needed
    assert first.service.kept + first.service.escalated == 40
    found = first.service.handoffs + first.service.kept
    assert first.report.position == 2 + found
    assert first.service.rates()["handoffs"] == first.service.handoffs


def test_a_key_below_engineer_cannot_replay_labels(service: Service) -> None:
    admin = json.loads((service.home / "keys.json").read_text())["admin"]
    with BatonClient(service.url, admin) as caller:
        made = caller.post("/v1/workspaces", {"id": "below", "mode": "shadow"})
    with pytest.raises(RefusedError, match="engineer"):
        through_http(episodes(seed=4, count=1), service.url, made["keys"]["bot"])


KILLS = 5


@pytest.mark.long
def test_a_replay_outlives_kills_at_random_instants(tmp_path: Path) -> None:
    """Nothing acknowledged is missing or doubled: same probabilities, same final digest."""
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    stream = list(episodes(seed=6, count=200))
    expected = bare(stream)
    with running(tmp_path) as service:
        key = service.workspace("killed")
        killed, over = [], threading.Event()

        def kill() -> None:
            while len(killed) < KILLS and not over.wait(chance.uniform(0.05, 0.5)):
                service.end(signal.SIGKILL)
                killed.append(True)
                service.start()
                service.ready()

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            played = through_http(stream, service.url, key)
        finally:
            over.set()
            killer.join()
        assert len(killed) == KILLS
        same(played, expected)
        service.end(signal.SIGKILL)
        service.start()
        service.ready()
        with BatonClient(service.url, key) as caller:
            assert caller.get("/v1/standing")["digest"] == expected.report.digest


DATA = data_folder(os.environ)


@pytest.mark.data
@pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the recorded conversations are not in {DATA}; set BATON_DATA"
)
@pytest.mark.parametrize("name", SETS)
def test_recorded_conversations_say_the_same_both_ways(service: Service, name: str) -> None:
    stream = list(islice(read(DATA / SETS[name][0]), 25))
    key = service.workspace(f"recorded-{name}")
    same(through_http(stream, service.url, key), bare(stream))
