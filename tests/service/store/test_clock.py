"""Order, leases and claims go by the database's clock, whatever a host's says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from service.jobs.scheduler import Leader
from service.store.conversations.batch import Batch, StateCache
from service.store.database.clock import database_time
from service.store.database.transactions import Store
from service.web.event_stream import changes
from tests import postgres


@pytest.fixture
def store() -> Iterator[Store]:
    with postgres.database() as url:
        made = Store(url)
        made.migrate()
        yield made
        made.close()


def test_a_host_whose_clock_is_ahead_takes_no_living_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Leader(store, 15), Leader(store, 15)
    second._holder = "another host"
    first.renew()
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + 60)
    second.renew()
    assert first.is_active
    assert not second.is_active


@pytest.mark.parametrize("ahead", [-60, 60, 2 * 86_400])
def test_a_batch_and_a_follower_have_the_database_s_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + ahead)
    with store.write() as connection:
        assert abs(Batch(connection, StateCache()).now - true_time()) < 30
        assert abs(database_time(connection) - true_time()) < 30
    with store.read() as connection:
        assert abs(database_time(connection) - true_time()) < 30
    assert changes.OVERLAP_SECONDS >= 10


def test_the_database_s_time_never_goes_back(store: Store) -> None:
    with store.read() as connection:
        times = [database_time(connection) for _ in range(100)]
    assert times == sorted(times)
