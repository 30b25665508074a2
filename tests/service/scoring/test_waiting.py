"""The bounded queue: fair turns between workspaces, and who is refused when it is full."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scoring.request_queue import QueuedRequest, RequestQueue

WORKSPACES = st.lists(st.sampled_from("abcd"), max_size=60)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def work(loop: asyncio.AbstractEventLoop, workspace: str) -> QueuedRequest:
    return QueuedRequest(workspace, {}, lambda _: None, False, loop.create_future())


@given(names=WORKSPACES, most=st.integers(1, 20))
def test_a_batch_takes_from_every_workspace_in_turn(
    loop: asyncio.AbstractEventLoop, names: list[str], most: int
) -> None:
    """No workspace gets a second turn more than another that still waits has had."""
    waiting = RequestQueue(1000)
    for name in names:
        waiting.put(work(loop, name))
    left = Counter(names)
    while left.total():
        taken = Counter(one.workspace for one in waiting.take(most, 1))
        assert taken.total() == min(most, left.total())
        for name, count in taken.items():
            assert all(count - taken[other] <= 1 for other in left if left[other] > taken[other])
            left[name] -= count
        assert len(waiting) == left.total()


@given(names=WORKSPACES)
def test_requests_of_one_workspace_keep_their_order(
    loop: asyncio.AbstractEventLoop, names: list[str]
) -> None:
    waiting = RequestQueue(1000)
    put = [work(loop, name) for name in names]
    for one in put:
        waiting.put(one)
    taken = waiting.take(7, 1) + waiting.take(1000, 1)
    for name in "abcd":
        assert [id(one) for one in taken if one.workspace == name] == [
            id(one) for one in put if one.workspace == name
        ]


@given(names=st.lists(st.sampled_from("aaaab"), min_size=20, max_size=60))
def test_a_full_queue_refuses_the_longest_line_and_keeps_a_fair_share_for_the_others(
    loop: asyncio.AbstractEventLoop, names: list[str]
) -> None:
    waiting, most, held = RequestQueue(10), 10, Counter[str]()
    for name in names:
        refused = waiting.put(work(loop, name))
        held[name] += 1
        if refused is not None:
            held[refused.workspace] -= 1
            assert held[refused.workspace] >= held[name] - 1
        assert len(waiting) == held.total() <= most
    fair = most // 2
    assert all(held[name] >= min(names.count(name), fair) for name in set(names))


@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=30), most=st.integers(1, 4000))
def test_a_batch_ends_with_the_request_that_fills_what_it_may_read(
    loop: asyncio.AbstractEventLoop, sizes: list[int], most: int
) -> None:
    waiting = RequestQueue(1000)
    for chars in sizes:
        request = work(loop, "w")
        request.chars = chars
        waiting.put(request)
    taken = []
    while waiting:
        batch = [one.chars for one in waiting.take(1000, most)]
        assert batch
        assert sum(batch[:-1]) < most
        taken += batch
    assert taken == sizes
