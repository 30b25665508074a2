"""The topology of docker-compose.yml by hand: database, two replicas, proxy, jobs, MLflow."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests import postgres
from tests.faults.test_crash import under_load, whole
from tests.mlflow_server import free_port, running_mlflow
from tests.running import Client, installation, until
from tests.waiting import LIMIT_SECONDS


class Proxy:
    """Round robin over TCP among the backends that accept; in place of the compose file's."""

    def __init__(self, ports: list[int]) -> None:
        self.port = free_port()
        self._turns = itertools.cycle(ports)
        self._ports = ports

    async def serve(self, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        await stop.wait()
        server.close()
        passing = asyncio.all_tasks() - {asyncio.current_task()}
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in itertools.islice(self._turns, len(self._ports)):
            try:
                back = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            both = (_pipe(reader, back[1]), _pipe(back[0], writer))
            await asyncio.gather(*both, return_exceptions=True)
            return
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def proxy(ports: list[int]) -> Iterator[str]:
    made, started = Proxy(ports), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        loop.call_soon(started.set)
        loop.run_until_complete(made.serve(stop))

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(LIMIT_SECONDS), "the proxy starts"
    try:
        yield f"http://127.0.0.1:{made.port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(LIMIT_SECONDS)
        loop.close()


@pytest.mark.slow
def test_the_topology_serves_learns_publishes_and_survives_a_replica(tmp_path: Path) -> None:
    given = {
        "checkpoint_seconds": 0.5,
        "checkpoint_entries": 10,
        "publish_seconds": 1,
        "evaluate_seconds": 2,
    }
    with (
        postgres.database() as url,
        running_mlflow(tmp_path / "mlflow") as mlflow,
        installation(tmp_path, database=url, mlflow_url=mlflow, **given) as home,
    ):
        replicas = [home.serve(), home.serve()]
        home.jobs()
        with proxy([int(one.url.rsplit(":", 1)[1]) for one in replicas]) as front:
            through = type(replicas[0])(("serve",), {}, replicas[0].log, front)
            until(lambda: _ready(front), "the proxy answers")
            place = home.workspace("topology", through, mode="live")

            def disturb() -> None:
                replicas[0].kill()
                until(lambda: len(place.entries()) > 20, "the other goes on")
                replicas[0].start().ready()
                until(lambda: len(place.entries()) > 30, "both go on")

            told = under_load(place, through, disturb)
            whole(place, told)
        head, digests = len(place.entries()), set()
        for one in replicas:
            with place.caller("engineer", one) as engineer:
                until(lambda e=engineer: e.standing["position"] == head, "all is learned")
                digests.add(engineer.standing["digest"])
        assert digests == {place.bare_digest()}
        sql = "SELECT count(*) AS n FROM version WHERE workspace = ? AND registry_version IS NULL"
        until(lambda: home.rows(sql, place.name)[0]["n"] == 0, "MLflow has every version")
        assert len(home.rows("SELECT number FROM version WHERE workspace = ?", place.name)) > 1
        with Client(replicas[1].url, place.keys["bot"]) as bot:
            position = bot.score("after", "m", "where is my parcel")["position"]
            assert head <= position <= len(place.entries()), "jobs may move the policy meanwhile"


def _ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    return False
