"""Many processes on one PostgreSQL: one order, one effect, one model; and locks never for ever."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import text

from experiments.replay.client import RefusedError, path_of
from learning.decision.policy import Policy
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.scoring.engine import Engine
from service.store.conversations.batch import Batch, StateCache
from service.store.database import transactions
from service.store.database.transactions import Store, UnavailableError, is_lock_timeout
from service.store.ledger import entries as ledger
from tests import postgres
from tests.running import TEXTS, Client, Home, Place, Process, installation, teach, until
from tests.waiting import LIMIT_SECONDS


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with (
        postgres.database() as url,
        installation(tmp_path_factory.mktemp("postgres"), database=url) as home,
    ):
        yield home


@pytest.fixture(scope="module")
def first(home: Home) -> Process:
    return home.serve()


@pytest.fixture(scope="module")
def second(home: Home, first: Process) -> Process:
    return home.serve()


def both(*calls: Callable[[], Any]) -> list[Any]:
    """What these give when they are called at the same instant; errors are given, too."""
    ready = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        ready.wait(LIMIT_SECONDS)
        try:
            return call()
        except RefusedError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


# Two processes


def test_one_conversation_at_two_processes_is_decided_in_one_order(
    home: Home, first: Process, second: Process
) -> None:
    place = home.workspace("order", first)
    with (
        place.caller("agent", first) as one,
        place.caller("agent", second) as other,
        place.caller("engineer", first) as engineer,
        place.caller("engineer", second) as witness,
    ):

        def talk(client: Client, name: str) -> list[dict[str, Any]]:
            return [client.score("c", f"{name}{n}", f"{TEXTS[n % 6]} {n}") for n in range(20)]

        told = both(lambda: talk(one, "a"), lambda: talk(other, "b"))
        rows = home.rows("SELECT seq, id FROM message WHERE workspace = ? ORDER BY seq", place.name)
        assert [row["seq"] for row in rows] == list(range(1, 41))
        for name in "ab":
            assert [row["id"] for row in rows if row["id"][0] == name] == [
                f"{name}{n}" for n in range(20)
            ]
        for answer in (*told[0][::4], *told[1][::4]):
            replay = one.get(path_of("decisions", answer["decision_id"], "replay"))
            assert replay["identical"] is True, replay
        position = one.outcome("c", "missed")["position"]
        until(lambda: witness.standing["position"] == position, "learned", every=0.02)
        until(lambda: engineer.standing["position"] == position, "learned", every=0.02)
        digests = {engineer.standing["digest"], witness.standing["digest"], place.bare_digest()}
        assert len(digests) == 1


def test_one_message_sent_to_two_processes_at_once_has_one_effect_and_one_answer(
    home: Home, first: Process, second: Process
) -> None:
    place = home.workspace("once", first, mode="live")
    with place.caller("bot", first) as one, place.caller("bot", second) as other:
        for n in range(12):
            said = TEXTS[n % len(TEXTS)]
            answers = both(
                lambda n=n, said=said: one.score(f"c{n}", "m", said),
                lambda n=n, said=said: other.score(f"c{n}", "m", said),
            )
            assert answers[0] == answers[1]
    decisions = home.rows("SELECT id FROM decision WHERE workspace = ?", place.name)
    assert len(decisions) == 12
    handoffs = home.rows("SELECT conversation_id FROM handoff WHERE workspace = ?", place.name)
    assert len({row["conversation_id"] for row in handoffs}) == len(handoffs) > 0


def test_one_key_of_idempotency_at_two_processes_at_once_has_one_effect(
    home: Home, first: Process, second: Process
) -> None:
    place = home.workspace("keyed", first)

    def issue(process: Process, n: int) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {place.keys['admin']}",
            "Idempotency-Key": f"key-{n}",
        }
        with httpx.Client(trust_env=False, headers=headers, timeout=LIMIT_SECONDS) as client:
            return client.post(f"{process.url}/v1/keys", json={"role": "bot"})

    for n in range(8):
        answers = both(lambda n=n: issue(first, n), lambda n=n: issue(second, n))
        assert [one.status_code for one in answers] == [200, 200], [one.text for one in answers]
        assert answers[0].content == answers[1].content
    issued = home.rows("SELECT id FROM key WHERE workspace = ?", place.name)
    assert len(issued) == len(place.keys) + 8


def test_of_two_agents_at_two_processes_one_gets_the_handoff(
    home: Home, first: Process, second: Process
) -> None:
    place = home.workspace("claims", first, mode="live")
    with place.caller("admin", first) as admin, place.caller("bot", first) as bot:
        keys = [
            admin.post("/v1/keys", {"role": "agent", "name": name})["key"] for name in ("a", "b")
        ]
        with Client(first.url, keys[0]) as one, Client(second.url, keys[1]) as other:
            for n in range(10):
                handoff = bot.score(f"c{n}", "m", "please let me talk to a human")["handoff"]
                path = path_of("handoffs", handoff["id"], "claim")
                found = both(lambda p=path: one.post(p, {}), lambda p=path: other.post(p, {}))
                refused = [x for x in found if isinstance(x, RefusedError)]
                assert [x.code for x in refused] == ["already_claimed"], found
                (row,) = home.rows("SELECT claimed_by FROM handoff WHERE id = ?", handoff["id"])
                (taken,) = [x for x in found if not isinstance(x, RefusedError)]
                assert row["claimed_by"] == taken["claimed_by"]


def test_contradicting_outcomes_at_two_processes_at_once_leave_one(
    home: Home, first: Process, second: Process
) -> None:
    place = home.workspace("verdicts", first)
    with place.caller("agent", first) as one, place.caller("agent", second) as other:
        for n in range(10):
            one.score(f"c{n}", "m", TEXTS[n % 6])
            found = both(
                lambda n=n: one.outcome(f"c{n}", "missed"),
                lambda n=n: other.outcome(f"c{n}", "fine"),
            )
            assert [type(x) for x in found].count(RefusedError) == 1, found
            (kept,) = [x for x in found if not isinstance(x, RefusedError)]
            path = path_of("outcomes", kept["id"])
            gone = both(lambda p=path: one.delete(p), lambda p=path: other.delete(p))
            assert gone[0] == gone[1]
    kinds = [entry.kind for entry in place.entries()]
    assert (kinds.count("outcome"), kinds.count("retraction")) == (10, 10)


def test_an_outcome_posted_at_one_process_is_learned_by_the_other_while_it_idles(
    home: Home, first: Process, second: Process
) -> None:
    """How soon, `baton bench freshness` measures; by default it looks five times a second."""
    place = home.workspace("seen", first)
    with place.caller("bot", first) as bot, place.caller("engineer", second) as engineer:
        assert engineer.standing["position"] == 2
        for number in range(7):
            position = teach(bot, f"c{number}", number)["position"]
            until(lambda wanted=position: engineer.standing["position"] >= wanted, "learned")


def test_random_load_at_two_processes_never_deadlocks_and_ends_in_one_model(
    home: Home, first: Process, second: Process
) -> None:
    """Few conversations, two workspaces, everything that locks something, in random order."""
    places = [home.workspace(f"random-{n}", first, mode="live") for n in range(2)]
    before = deadlocks(home)

    def load(seed: int) -> list[str]:
        draw, broken = random.Random(seed), []
        process = (first, second)[seed % 2]
        clients = [place.caller("agent", process) for place in places]
        for step in range(40):
            client = draw.choice(clients)
            names = draw.sample([f"c{n}" for n in range(6)], 6)
            try:
                act(client, draw, names, f"m{seed}-{step}")
            except RefusedError as error:
                if error.status not in (404, 409, 422):
                    broken.append(str(error))
        for client in clients:
            client.__exit__(None, None, None)
        return broken

    with ThreadPoolExecutor(6) as pool:
        broken = [said for found in pool.map(load, range(6)) for said in found]
    assert broken == []
    assert deadlocks(home) == before
    for place in places:
        entries = place.entries()
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        for process in (first, second):
            with place.caller("engineer", process) as engineer:
                until(lambda e=engineer, n=len(entries): e.standing["position"] == n, "learned")
                assert engineer.standing["digest"] == place.bare_digest()


def test_conversations_begun_in_opposite_orders_at_once_never_deadlock(
    home: Home, first: Process
) -> None:
    place = home.workspace("opposite", first)
    before, both = deadlocks(home), threading.Barrier(2)
    names = [f"c{number:03}" for number in range(300)]

    def begin(store: Store, names: list[str]) -> None:
        for turn in range(8):
            both.wait(LIMIT_SECONDS)
            try:
                with store.write() as connection:
                    batch = Batch(connection, StateCache())
                    batch.open(place.name, {f"{turn}-{name}": () for name in names})
                    batch.remove_unused_conversations()
            except UnavailableError as error:  # a busy machine: one waited for the other's locks
                if not is_lock_timeout(error):
                    raise

    stores = Store(home.url), Store(home.url)
    try:
        with ThreadPoolExecutor(2) as pool:
            for one in [
                pool.submit(begin, store, order)
                for store, order in zip(stores, (names, names[::-1]), strict=True)
            ]:
                one.result()
    finally:
        for store in stores:
            store.close()
    assert deadlocks(home) == before


def test_conversations_opened_at_once_are_locked_in_one_order(
    home: Home, first: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All come to one that is held from outside, with all that they have locked before it."""
    place = home.workspace("again", first)
    names = [f"c{number:02}" for number in range(60)]
    with place.caller("bot", first) as bot:
        bot.scores(names, TEXTS[0])
    timeouts = transactions._TIMEOUTS[transactions.WRITING]
    for name in ("lock_timeout", "statement_timeout"):
        monkeypatch.setitem(timeouts, name, 1000 * int(LIMIT_SECONDS))
    monkeypatch.setitem(transactions.STALL_SECONDS, transactions.WRITING, 2 * int(LIMIT_SECONDS))
    stores = [Store(home.url) for _ in range(6)]
    before, wanted = deadlocks(home), dict.fromkeys(names, ())

    def again(store: Store) -> None:
        with store.write() as connection:
            Batch(connection, StateCache()).open(place.name, wanted)

    lock = "SELECT * FROM conversation WHERE workspace = %s AND id = 'c30' FOR UPDATE"
    wait = (
        "SELECT count(*) AS waiting FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    try:
        for store in stores:
            again(store)  # so that all are connected
        with ThreadPoolExecutor(len(stores)) as pool:
            with held(home, lock, place.name):
                opened = [pool.submit(again, store) for store in stores]
                until(lambda: home.rows(wait)[0]["waiting"] == len(stores), "all wait", every=0)
            for one in opened:
                one.result()
        assert deadlocks(home) == before
    finally:
        for store in stores:
            store.close()


def test_batches_over_several_workspaces_lock_them_in_one_order(
    home: Home, first: Process, tmp_path: Path
) -> None:
    places = [home.workspace(f"turn-{n}", first) for n in range(2)]
    settings = Settings(home=tmp_path, database=home.url, models_max=4)
    before, both = deadlocks(home), threading.Barrier(2)

    def slowly(batch: Batch, name: str) -> int:
        position = ledger.append(batch.connection, name, "policy", Policy().model_dump(), "test")
        time.sleep(0.2)
        return position

    async def ask(names: list[str]) -> list[int]:
        store = Store(home.url)
        engine = Engine(store, settings, Metrics())
        try:
            for name in names:
                await engine.model_state(name)
            both.wait(LIMIT_SECONDS)
            works = [engine.run(x, lambda batch, x=x: slowly(batch, x)) for x in names]
            return await asyncio.gather(*works)
        finally:
            await engine.stop()
            store.close()

    names = [place.name for place in places]
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(asyncio.run, ask(order)) for order in (names, names[::-1])]
        given = [one.result() for one in asked]
    assert sorted(position for found in given for position in found) == [3, 3, 4, 4]
    assert deadlocks(home) == before


def act(client: Client, draw: random.Random, names: list[str], message: str) -> None:
    """One random request."""
    what = draw.randrange(6)
    if what <= 1:
        items = [
            {"conversation_id": name, "message": {"id": message, "text": draw.choice(TEXTS)}}
            for name in names[:4]
        ]
        results = client.post("/v1/score/batch", {"items": items})["results"]
        assert all("decision_id" in one for one in results), results
    elif what == 2:
        client.outcome(names[0], draw.choice(("missed", "fine")))
    elif what == 3:
        client.post(path_of("conversations", names[0], "close"), {"resolution": "unknown"})
    else:
        waiting = client.get("/v1/handoffs?status=waiting")["handoffs"]
        waiting += client.get("/v1/handoffs?status=claimed")["handoffs"]
        if waiting:
            path = path_of("handoffs", draw.choice(waiting)["id"])
            if what == 4:
                client.post(f"{path}/outcome", {"verdict": draw.choice(("needed", "not_needed"))})
            client.post(f"{path}/{draw.choice(('claim', 'return', 'resolve'))}", {})


def deadlocks(home: Home) -> int:
    (row,) = home.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(row["deadlocks"])


def test_after_its_connections_were_cut_a_process_answers_the_next_request(
    home: Home, first: Process
) -> None:
    place = home.workspace("cut", first)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with place.caller("bot", first, 0.0) as bot:
        for number in range(3):
            bot.score("c", f"m{number}", TEXTS[number])
            assert home.rows(cut)
    rows = home.rows("SELECT id FROM message WHERE workspace = ?", place.name)
    assert [row["id"] for row in rows] == ["m0", "m1", "m2"]


# Locks and timeouts


@contextmanager
def held(home: Home, sql: str, *given: Any) -> Iterator[None]:
    """A foreign transaction that holds a lock until the block ends."""
    with psycopg.connect(home.database) as connection:
        connection.execute(sql, given)
        yield
        connection.rollback()


def test_a_conversation_locked_from_outside_is_503_and_others_go_on(
    home: Home, first: Process
) -> None:
    place = home.workspace("locked", first)
    lock = "SELECT * FROM conversation WHERE workspace = %s AND id = 'c' FOR UPDATE"
    with place.caller("bot", first, 0.0) as bot:
        bot.score("c", "m0", TEXTS[0])
        items = [
            {"conversation_id": name, "message": {"id": "m1", "text": TEXTS[1]}} for name in "cd"
        ]
        with held(home, lock, place.name):
            found = bot.post("/v1/score/batch", {"items": items})["results"]
            assert (found[0]["status"], found[0]["error"]["code"]) == (503, "database")
            assert found[1]["action"] in ("continue", "offer", "escalate")
        assert bot.score("c", "m1", TEXTS[1])["action"]
    rows = home.rows("SELECT id FROM message WHERE workspace = ?", place.name)
    assert sorted(row["id"] for row in rows) == ["m0", "m1", "m1"]


def test_a_ledger_locked_from_outside_refuses_outcomes_and_loses_none(
    home: Home, first: Process
) -> None:
    place = home.workspace("headlocked", first)
    with place.caller("bot", first, 0.0) as bot, place.caller("bot", first) as patient:
        for n in range(12):
            bot.score(f"c{n}", "m", TEXTS[n % 6])
        with held(home, "SELECT * FROM workspace WHERE id = %s FOR UPDATE", place.name):
            found = both(*(lambda n=n: _fresh(place, first, n) for n in range(12)))
            assert {one.status for one in found} == {503}
            assert bot.score("still", "m", TEXTS[0])["action"]
        for n in range(12):
            assert patient.outcome(f"c{n}", "fine")["position"]
    assert len(place.entries()) == 2 + 12


def _fresh(place: Place, process: Process, n: int) -> Any:
    with place.caller("bot", process, 0.0) as bot:
        return bot.outcome(f"c{n}", "fine")


def test_a_process_that_stops_in_a_transaction_is_cut_off(
    home: Home, first: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks must not hold up every other process for ever."""
    place = home.workspace("stopped", first)
    head = "SELECT 1 FROM workspace WHERE id = :id FOR UPDATE"
    monkeypatch.setattr(transactions, "IDLE_MS", 500)
    stopped, other = Store(home.url), Store(home.url)
    try:
        held = stopped._writer.connect()
        held.execute(text(head), {"id": place.name})
        with other.write() as free:
            free.execute(text(head), {"id": place.name})
        with pytest.raises(transactions.DatabaseError):
            held.execute(text("SELECT 1"))
    finally:
        stopped.close()
        other.close()


def test_every_commit_is_synchronous_and_no_statement_or_lock_waits_for_long(home: Home) -> None:
    store = Store(home.url)
    try:
        with store.write() as connection:
            for name, value in (
                ("idle_in_transaction_session_timeout", "10s"),
                ("synchronous_commit", "on"),
                ("statement_timeout", "10s"),
                ("lock_timeout", "2s"),
            ):
                assert connection.execute(text(f"SHOW {name}")).scalar_one() == value
        with store.read() as connection:
            for name, value in (("statement_timeout", "20s"), ("lock_timeout", "2s")):
                assert connection.execute(text(f"SHOW {name}")).scalar_one() == value
    finally:
        store.close()
