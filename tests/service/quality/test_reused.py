"""Answers that take long are given again for a while; quick ones never are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.quality import report_cache
from service.quality.report_cache import ENTRIES_MAX, LIFETIME_FACTOR, UNCACHED_SECONDS, AsyncCache


class Clock:
    """Time that passes where a test says so, and a microsecond at every look."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(report_cache, "time", made)
    return made


class Counted:
    """A look that takes so long and gives how many looks there were."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.clock, self.seconds = clock, seconds
        self.looks = 0

    async def __call__(self) -> int:
        self.looks += 1
        found = self.looks
        for _ in range(3):  # others have their turns meanwhile
            await asyncio.sleep(0)
        self.clock.now += self.seconds
        return found


def much() -> AsyncCache[int]:
    """Answers about much, which may hold."""
    return AsyncCache[int](lambda _: True)


SLOW = UNCACHED_SECONDS + 0.1


def test_a_quick_answer_is_found_anew_each_time(clock: Clock) -> None:
    async def ask() -> None:
        reused, look = much(), Counted(clock)
        assert [await reused.get("w", 0, look) for _ in range(3)] == [1, 2, 3]

    asyncio.run(ask())


def test_an_answer_that_took_long_holds_in_proportion_and_no_longer(clock: Clock) -> None:
    async def ask() -> None:
        reused, look = much(), Counted(clock, SLOW)
        assert await reused.get("w", 0, look) == 1
        clock.now += LIFETIME_FACTOR * (SLOW - UNCACHED_SECONDS) - 0.01
        assert await reused.get("w", 0, look) == 1
        clock.now += 0.02
        assert await reused.get("w", 0, look) == 2

    asyncio.run(ask())


def test_an_answer_about_little_never_holds_however_long_it_took(clock: Clock) -> None:
    async def ask() -> None:
        reused, look = AsyncCache[int](lambda found: found > 1), Counted(clock, SLOW)
        assert [await reused.get("w", 0, look) for _ in range(3)] == [1, 2, 2]

    asyncio.run(ask())


def test_an_answer_holds_only_for_what_it_was_asked_with_and_under_its_key(clock: Clock) -> None:
    async def ask() -> None:
        reused, look = much(), Counted(clock, SLOW)
        assert await reused.get("w", "old", look) == 1
        assert await reused.get("w", "new", look) == 2
        assert await reused.get("other", "new", look) == 3

    asyncio.run(ask())


def test_many_who_ask_at_once_cost_two_looks_and_nobody_gets_one_begun_before_they_asked(
    clock: Clock,
) -> None:
    async def ask() -> None:
        reused, look = much(), Counted(clock, 0.05)
        first = asyncio.create_task(reused.get("w", 0, look))
        await asyncio.sleep(0)
        clock.now += 0.01
        late = [asyncio.create_task(reused.get("w", 0, look)) for _ in range(20)]
        assert await first == 1
        assert await asyncio.gather(*late) == [2] * 20
        assert look.looks == 2

    asyncio.run(ask())


def test_a_look_that_fails_is_not_kept_and_the_next_who_asks_looks_anew(clock: Clock) -> None:
    async def broken() -> int:
        raise ConnectionError("away")

    async def ask() -> None:
        reused, look = much(), Counted(clock)
        with pytest.raises(ConnectionError):
            await reused.get("w", 0, broken)
        assert await reused.get("w", 0, look) == 1

    asyncio.run(ask())


def test_no_more_answers_are_kept_than_that() -> None:
    def giving(number: int) -> Callable[[], Awaitable[int]]:
        async def find() -> int:
            return number

        return find

    async def ask() -> None:
        reused = much()
        for number in range(ENTRIES_MAX + 9):
            await reused.get(f"w{number}", 0, giving(number))
        assert len(reused._entries) == ENTRIES_MAX

    asyncio.run(ask())
