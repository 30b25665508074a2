"""An answer is a promise: what it tells is on the disk before it leaves."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import event, text

from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store.database import transactions
from service.store.database.transactions import Store
from tests import postgres
from tests.running import TEXTS, installation
from tests.service_in_process import OTHERS, at_once, refusal, serving
from tests.waiting import LIMIT_SECONDS


@pytest.mark.parametrize("kind", postgres.BOTH)
def test_killed_in_the_moment_of_its_answer_a_process_has_kept_what_it_answered(
    kind: str, tmp_path: Path
) -> None:
    """Kills at random seldom fall between an answer and a commit that came a little after it."""
    with postgres.store(kind, tmp_path) as url:
        given = {"database": url} if kind == "postgresql" else {}
        with installation(tmp_path, **given) as home:
            first = home.serve()
            second = home.serve()
            place = home.workspace("told", first)
            with place.caller("bot", first) as one, place.caller("bot", second) as other:
                one.score("c", "m0", TEXTS[0])
                other.score("d", "m0", TEXTS[0])
                decided = one.score("c", "m1", TEXTS[1])
                first.kill()
                found = other.outcome("d", "missed")
                second.kill()
            rows = home.rows("SELECT id FROM decision WHERE workspace = ?", place.name)
            assert decided["decision_id"] in {row["id"] for row in rows}
            rows = home.rows("SELECT id, position FROM outcome WHERE workspace = ?", place.name)
            assert [(row["id"], row["position"]) for row in rows] == [
                (found["id"], found["position"])
            ]
            assert place.entries()[-1].body["outcome_id"] == found["id"]


def test_on_sqlite_every_commit_reaches_the_disk_and_writers_take_turns(tmp_path: Path) -> None:
    """A writer has the lock from its beginning: what it reads first nobody changes meanwhile."""
    settings = Settings(home=tmp_path)
    store, other = Store(settings.database_url), Store(settings.database_url)
    prepare(settings, store)
    try:
        for look in (store.write, other.write, store.read):
            with look() as connection:
                for pragma, value in (("synchronous", 2), ("journal_mode", "wal")):
                    assert connection.execute(text(f"PRAGMA {pragma}")).scalar_one() == value
        with ThreadPoolExecutor(1) as pool:
            with store.write():
                begun = pool.submit(_begins, other)
                time.sleep(0.3)
                assert not begun.done()
            assert begun.result(LIMIT_SECONDS)
    finally:
        store.close()
        other.close()


def _begins(store: Store) -> bool:
    with store.write():
        return True


@pytest.mark.parametrize("kind", postgres.BOTH)
def test_where_all_connections_are_busy_a_reader_is_told_so_in_time(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of many cores has more threads that look than there are connections."""
    monkeypatch.setitem(transactions._POOL, "pool_timeout", 0.2)
    with postgres.store(kind, tmp_path) as url, ExitStack() as busy:
        store = Store(url)
        busy.callback(store.close)
        for _ in range(transactions._POOL["pool_size"] + transactions._POOL["max_overflow"]):
            busy.enter_context(store.read())
        told = "QueuePool limit .* timeout 0.20"
        with pytest.raises(transactions.UnavailableError, match=told), store.read():
            pass


def test_a_slow_disk_delays_and_refuses_and_forgets_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, queue_max=8, batch_max=4) as service:
        place = service.default()
        place.bot.decided("first", "m", OTHERS[0])
        at_once(31, lambda _: place.bot.get("/healthz"))  # so many connections are open now
        held: list[int] = []

        @event.listens_for(service.baton.store._writer, "commit")
        def commit(_: object) -> None:
            held.append(len(service.baton.engine._queue))
            time.sleep(0.1)

        with ThreadPoolExecutor(30) as pool:
            asked = [pool.submit(place.bot.score, f"c{n}", "m", OTHERS[n % 10]) for n in range(30)]
            answers = [one.result(LIMIT_SECONDS) for one in asked]
        refused = [one for one in answers if one.status_code != 200]
        assert refused, "thirty requests fitted into a queue of eight"
        for one in refused:
            refusal(one, 503, "queue_full")
        assert max(held) <= 8
        assert place.content()["decision"] == 1 + len(answers) - len(refused)
