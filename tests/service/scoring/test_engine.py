"""The engine under strain: full, locked, broken, stopped. Nothing is dropped in silence."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from learning.conversation.state import fold
from service.operations.bootstrap import prepare
from service.runtime.errors import Unavailable
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.scoring.engine import Engine
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, StateCache
from service.store.database.transactions import Store, table
from service.store.ledger import entries
from service.store.tables import Conversation, MessageRow
from tests.service_in_process import (
    ASKS,
    OTHERS,
    QUIET,
    InProcess,
    Place,
    at_once,
    refusal,
    serving,
)
from tests.waiting import LIMIT_SECONDS, until

HOLD = (
    "import sqlite3, sys, time\n"
    "held = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "held.execute('BEGIN IMMEDIATE')\n"
    "print('held', flush=True)\n"
    "sys.stdin.readline()\n"
    "held.execute('ROLLBACK')\n"
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("engine"), poll_seconds=0.05) as running:
        yield running


class Lock:
    """Another process that holds the database's write lock until it is told to let go."""

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(home / "baton.sqlite3")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def let_go(self) -> None:
        self._process.communicate("now\n", timeout=LIMIT_SECONDS)


@contextmanager
def locked(home: Path) -> Iterator[Lock]:
    lock = Lock(home)
    try:
        yield lock
    finally:
        lock.let_go()


def item(conversation: str, text: str = QUIET) -> dict[str, Any]:
    return {"conversation_id": conversation, "message": {"id": "m1", "text": text}}


def batch_sizes(service: InProcess) -> dict[str, float]:
    """How many batches had at most so many requests."""
    said = service.caller().get("/metrics").text
    return {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(said)
        for sample in family.samples
        if sample.name == "baton_batch_requests_bucket"
    }


# Full


def test_beyond_the_queue_every_request_is_told_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path, queue_max=4) as service:
        place = service.default()
        items = [item(f"c{n}") for n in range(10)]
        results = place.bot.posted("/v1/score/batch", {"items": items})["results"]
        statuses = [one.get("status", 200) for one in results]
        assert statuses.count(200) == 4
        assert statuses.count(503) == 6
        busy = next(one["error"] for one in results if one.get("status") == 503)
        assert busy["code"] == "queue_full"
        assert busy["hint"]
        assert place.content()["decision"] == place.content()["conversation"] == 4
        again = [place.bot.decided(f"c{n}", "m1", QUIET) for n in range(10)]
        assert [a for a, s in zip(again, statuses, strict=True) if s == 200] == [
            one for one in results if "error" not in one
        ]
        assert place.content()["decision"] == 10


def test_a_full_queue_is_503_with_a_time_to_wait(tmp_path: Path) -> None:
    with serving(tmp_path, queue_max=3) as service:
        place = service.default()
        place.bot.decided("first", "m1", QUIET)
        at_once(21, lambda _: place.bot.get("/healthz"))  # so many connections are open now
        sent: list[httpx.Request] = []
        with ThreadPoolExecutor(25) as pool:
            with locked(tmp_path):
                blocking = pool.submit(place.bot.score, "blocks", "m1", QUIET)
                place.bot.event_hooks = {"request": [sent.append]}
                waiting = [pool.submit(place.bot.score, f"c{n}", "m1", QUIET) for n in range(20)]
                until(lambda: len(sent) >= 20, "all are sent", every=0.01)
                time.sleep(0.5)
            answers = [one.result(LIMIT_SECONDS) for one in (blocking, *waiting)]
        refused = [one for one in answers if one.status_code != 200]
        assert refused, "twenty requests fitted into a queue of three"
        for one in refused:
            refusal(one, 503, "queue_full")
            assert int(one.headers["retry-after"]) >= 1
        assert place.content()["decision"] == 1 + len(answers) - len(refused)
        said = service.caller().get("/metrics").text
        assert f"baton_refused_total {float(len(refused))}" in said


# Locked


def test_a_locked_database_only_delays(place: Place) -> None:
    place.bot.decided("before", "m1", QUIET)
    home = place.service.baton.settings.home
    with ThreadPoolExecutor(6) as pool:
        with locked(home):
            waiting = [pool.submit(place.bot.score, f"c{n}", "m1", OTHERS[n]) for n in range(5)]
            time.sleep(1.0)
            assert not any(one.done() for one in waiting)
        answers = [one.result(LIMIT_SECONDS) for one in waiting]
    assert {one.status_code for one in answers} == {200}
    assert place.content()["decision"] == 6


def test_readers_are_not_held_up_by_another_writer(place: Place) -> None:
    decided = place.bot.decided("c", "m1", QUIET)
    with locked(place.service.baton.settings.home):
        assert (
            place.agent.got("/v1/conversations/c")["decisions"][0]["id"] == (decided["decision_id"])
        )
        assert place.service.caller().got("/readyz")["ready"] is True


# Broken


def broken_conversation(place: Place, name: str) -> None:
    """A conversation whose stored message no build can fold."""
    store = place.service.baton.store
    row = {"workspace": place.name, "id": name, "length": 1, "begins": 1, "status": "open"}
    row |= {"escalated": False, "opened_at": 1.0, "last_at": 1.0}
    turn = {"workspace": place.name, "conversation_id": name, "seq": 1, "id": "m0"}
    turn |= {"author": "bot", "text": "x", "at": 1.0, "bot": {"nope": 1}, "scored": False}
    with store.write() as connection:
        connection.execute(insert(table(Conversation)).values(**row))
        connection.execute(insert(table(MessageRow)).values(**turn))


def test_a_request_that_breaks_harms_no_other_in_its_batch(place: Place) -> None:
    broken_conversation(place, "broken")
    items = [item("a"), item("broken"), item("b", ASKS), item("broken"), item("c")]
    results = place.bot.posted("/v1/score/batch", {"items": items})["results"]
    assert [one.get("status", 200) for one in results] == [200, 500, 200, 500, 200]
    assert results[1]["error"]["code"] == "broken"
    assert results[2]["handoff"] is not None
    assert place.content()["decision"] == 3
    assert place.bot.decided("a", "m1", QUIET) == results[0]


def test_what_broke_is_500_in_the_one_shape_with_the_requests_id(place: Place) -> None:
    broken_conversation(place, "broken")
    answer = place.bot.score("broken", "m1", QUIET)
    error = refusal(answer, 500, "broken")
    assert answer.headers["x-request-id"] in error["message"]
    assert "Traceback" not in answer.text
    assert place.bot.decided("whole", "m1", QUIET)["version"] == 1


# Many at once


def test_many_callers_in_many_workspaces_each_get_their_own(service: InProcess) -> None:
    places = [service.workspace() for _ in range(3)]

    def one(number: int) -> None:
        place, name = places[number % 3], f"c{number}"
        decided = place.bot.decided(name, "m1", ASKS)
        handoff = decided["handoff"]["id"]
        told = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "not_needed"})
        assert told["conversation_id"] == name
        assert place.agent.got(f"/v1/decisions/{decided['decision_id']}/replay")["identical"]

    at_once(24, one)
    for place in places:
        assert place.engineer.got("/v1/standing")["position"] == 10
        with service.baton.store.read() as connection:
            positions = [entry.position for entry in entries.tail(connection, place.name, 0)]
        assert positions == list(range(1, 11))


def test_no_batch_is_larger_than_the_setting(tmp_path: Path) -> None:
    with serving(tmp_path, batch_max=4) as service:
        place = service.default()
        items = [item(f"c{n}") for n in range(40)]
        results = place.bot.posted("/v1/score/batch", {"items": items})["results"]
        assert not any("error" in one for one in results)
        sizes = batch_sizes(service)
        assert sizes["4.0"] == sizes["+Inf"]
        assert sizes["4.0"] - sizes["2.0"] >= 10


def test_requests_that_wait_together_share_a_transaction(place: Place) -> None:
    before = batch_sizes(place.service)
    items = [item(f"c{n}") for n in range(40)]
    place.bot.posted("/v1/score/batch", {"items": items})
    after = batch_sizes(place.service)
    assert after["+Inf"] - before["+Inf"] < 5


def test_a_refused_request_costs_the_others_nothing(place: Place) -> None:
    place.bot.decided("c0", "m1", "another text")
    before = batch_sizes(place.service)
    items = [item(f"c{n}") for n in range(40)]
    results = place.bot.posted("/v1/score/batch", {"items": items})["results"]
    assert [one.get("status", 200) for one in results] == [409] + [200] * 39
    after = batch_sizes(place.service)
    assert after["+Inf"] - before["+Inf"] < 5


def test_an_idle_process_follows_what_others_append(place: Place) -> None:
    policy = place.engineer.got("/v1/policy")
    with place.service.baton.store.write() as connection:
        entries.append(connection, place.name, "policy", policy, "another process")
    until(lambda: place.engineer.got("/v1/standing")["position"] >= 3, "it follows", every=0.02)


def test_every_batch_learns_what_others_appended_before_it_decides(tmp_path: Path) -> None:
    with serving(tmp_path, poll_seconds=3600) as service:
        place = service.default()
        assert place.bot.decided("c", "m1", QUIET)["position"] == 2
        policy = place.engineer.got("/v1/policy")
        with service.baton.store.write() as connection:
            entries.append(connection, place.name, "policy", policy, "another process")
        assert place.bot.decided("c", "m2", OTHERS[0])["position"] == 3


# Stopped and started


def test_what_was_taken_before_the_end_is_answered(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(12)
    with serving(tmp_path) as service:
        place = service.default()
        first = place.bot.decided("first", "m1", QUIET)["decision_id"]
        lock = Lock(tmp_path)
        sent: list[httpx.Request] = []
        place.bot.event_hooks = {"request": [sent.append]}
        waiting = [pool.submit(place.bot.score, f"c{n}", "m1", OTHERS[n]) for n in range(10)]
        until(lambda: len(sent) == 10, "all are sent", every=0.01)
        time.sleep(0.3)
        threading.Timer(0.7, lock.let_go).start()
    pool.shutdown()
    broken = [one for one in waiting if one.exception() is not None]
    assert all(isinstance(one.exception(), httpx.TransportError) for one in broken)
    answers = [one.result() for one in waiting if one not in broken]
    assert {one.status_code for one in answers} <= {200, 503}
    decided = {one.json()["decision_id"] for one in answers if one.status_code == 200}
    assert decided
    with closing(sqlite3.connect(tmp_path / "baton.sqlite3")) as look:
        stored = {row[0] for row in look.execute("SELECT id FROM decision")}
    assert stored == decided | {first}


async def stopped(store: Store, settings: Settings) -> None:
    engine = Engine(store, settings, Metrics())
    await engine.start()
    taken = [
        asyncio.ensure_future(engine.run("default", lambda _, n=n: n, appends=False))
        for n in range(50)
    ]
    await asyncio.sleep(0)
    await engine.stop()
    await asyncio.sleep(0)
    assert [one.result() for one in taken if one.done()] == list(range(50))
    with pytest.raises(Unavailable, match="shutting down"):
        await engine.run("default", lambda _: 0)


def test_an_engine_that_stops_first_answers_all_that_wait(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, batch_max=1)
    store = Store(settings.database_url)
    prepare(settings, store)
    try:
        asyncio.run(stopped(store, settings))
    finally:
        store.close()


def test_after_a_restart_everything_goes_on_where_it_was(tmp_path: Path) -> None:
    text = "where is my parcel now"
    with serving(tmp_path) as service:
        place = service.default()
        first = place.bot.decided("c", "m1", text)
        place.bot.decided("c", "m2", text)
        decided = place.bot.decided("d", "m1", ASKS)
        place.agent.posted(
            f"/v1/handoffs/{decided['handoff']['id']}/outcome", {"verdict": "needed"}
        )
        standing = place.engineer.got("/v1/standing")
    with serving(tmp_path) as service:
        place = service.default()
        assert place.engineer.got("/v1/standing") == standing
        assert place.bot.decided("c", "m1", text) == first
        third = place.bot.decided("c", "m3", text)
        assert "repeated_by_customer" in {trigger["name"] for trigger in third["triggers"]}
        assert third["handoff"] is not None
        assert place.bot.decided("d", "m2", QUIET)["action"] == "human_active"


def test_a_forgotten_state_is_folded_again_to_the_same(place: Place) -> None:
    for n in range(3):
        place.bot.decided("c", f"m{n}", OTHERS[n], bot={"intent": f"i{n}", "fallback": True})
        place.bot.decided("d", f"m{n}", OTHERS[n + 3])
    store, states = place.service.baton.store, StateCache(capacity=1)
    found = []
    for name in ("c", "d", "c"):
        with store.write() as connection:
            batch = Batch(connection, states)
            batch.open(place.name, {name: ()})
            found.append(batch.conversation(place.name, name).state)
            batch.cache_states()
            assert len(states._entries) == 1
    with store.read() as connection:
        rows = conversation_rows.messages(connection, place.name, "c")
    assert found[0] == found[2] == fold(conversation_rows.message_of(row) for row in rows)
    assert found[0].failures == 3
