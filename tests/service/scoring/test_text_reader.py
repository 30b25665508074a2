"""Long texts are read in a process beside: the same is found there, whatever becomes of it, and
nobody waits for more than their share.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning.conversation.redaction import KINDS
from learning.conversation.state import Message, State, step
from service.runtime.errors import Unavailable
from service.scoring.texts import text_reader
from service.scoring.texts.reading_process import ReadingProcess, TextJob, read_texts
from service.scoring.texts.text_reader import PIECE_CHARS, TextReader
from service.store.database.transactions import Store
from tests import migrated
from tests.service_in_process import QUIET
from tests.waiting import until

TEXTS = (
    "",
    "I want to talk to a person! This is the WORST service, my card is 5500 0000 0000 0004",
    "Ich möchte mit einem Menschen sprechen, und zwar sofort 😡\u2028\ufeff\U0001f642",
    "从昨天开始我的包裹就没有更新过,请帮我转人工" * 100,
    "<p>the parcel is blue</p> > quoted\n\nOn Monday somebody wrote:\n> and so is the door\n" * 50,
    "a" * 5_000,
    " ".join(str(number) for number in range(1_000)),
)
JOBS = [
    TextJob(author, text, form, "de", spoken, kinds)
    for author in ("user", "bot", "agent")
    for form, spoken, kinds in ((None, None, ()), ("email", "de", KINDS), ("html", "en", ("card",)))
    for text in TEXTS
]


@pytest.fixture
def process() -> Iterator[ReadingProcess]:
    process = ReadingProcess()
    yield process
    process.stop()
    process.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    migrated.begin(tmp_path)
    store = Store(f"sqlite:///{tmp_path / 'baton.sqlite3'}")
    yield store
    store.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is that the tests run on."""
    monkeypatch.setattr(text_reader, "READ_SECONDS_MAX", 1e6)


def pid(process: ReadingProcess) -> int:
    assert process._process is not None
    return process._process.pid


def is_running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def giant(pieces: int) -> list[Message]:
    return [
        Message(f"m{n}", "user", "every word " * (PIECE_CHARS // 11), 0.0) for n in range(pieces)
    ]


def test_another_process_finds_exactly_what_is_found_here(process: ReadingProcess) -> None:
    assert process.read(JOBS) == read_texts(JOBS)
    assert pid(process) != os.getpid()


def test_others_go_before_it(process: ReadingProcess) -> None:
    process.read(JOBS[:1])
    assert os.getpriority(os.PRIO_PROCESS, pid(process)) > os.getpriority(os.PRIO_PROCESS, 0)


def test_a_killed_process_costs_no_answer_and_is_started_again(process: ReadingProcess) -> None:
    process.read(JOBS[:1])
    first = pid(process)
    os.kill(first, signal.SIGKILL)
    assert process.read(JOBS[:8]) == read_texts(JOBS[:8])
    process._rest_until = 0.0
    assert process.read(JOBS[:8]) == read_texts(JOBS[:8])
    assert pid(process) != first


def test_where_it_cannot_be_started_texts_are_read_all_the_same(
    process: ReadingProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for program in (tmp_path / "nowhere", Path("/bin/false")):
        monkeypatch.setattr(sys, "executable", str(program))
        process._rest_until = 0.0
        assert process.read(JOBS[:3]) == read_texts(JOBS[:3])
        assert process._process is None


def test_it_ends_with_the_one_that_started_it(process: ReadingProcess) -> None:
    process.read(JOBS[:1])
    number = pid(process)
    assert process._process is not None
    assert process._process.stdin is not None
    process._process.stdin.close()  # as when this process is killed
    until(lambda: not is_running(number), "it ends")


def test_a_reader_that_stops_leaves_no_process(store: Store) -> None:
    async def read() -> int:
        reader = TextReader(store, wait_seconds=2.0)
        reading = asyncio.create_task(reader.read("w", {"c": giant(20)}))
        await asyncio.to_thread(until, lambda: reader._process._process, "it has started")
        number = pid(reader._process)
        await reader.stop()
        with pytest.raises(Unavailable):
            await reading
        return number

    assert not is_running(asyncio.run(read()))


def test_what_was_read_beside_is_what_the_fold_finds_by_itself(store: Store) -> None:
    turns = [
        Message(f"m{n}", author, text, float(n), language="de" if n == 4 else None)
        for n, (author, text) in enumerate([(a, t) for t in TEXTS for a in ("user", "bot")])
    ]

    async def read() -> list[Message]:
        reader = TextReader(store, wait_seconds=60.0)
        try:
            return (await reader.read("w", {"c": turns}))["c"]
        finally:
            await reader.stop()

    states = []
    for messages in (turns, asyncio.run(read())):
        state = State()
        for message in messages:
            state = step(state, message)
        states.append(state)
    assert states[0] == states[1]


def test_a_shorter_text_does_not_wait_for_a_longer_one(store: Store) -> None:
    """Of the same workspace or of another; each is done while the giant's pieces still wait."""

    async def read() -> list[str]:
        reader = TextReader(store, wait_seconds=1e9)
        done: list[str] = []

        async def one(workspace: str, name: str, messages: list[Message]) -> None:
            await reader.read(workspace, {name: messages})
            done.append(name)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(one("a", "giant", giant(12)))
                await asyncio.sleep(0.05)
                group.create_task(one("a", "beside it", giant(1)))
                group.create_task(one("b", "of another", giant(1)))
        finally:
            await reader.stop()
        return done

    assert asyncio.run(read())[-1] == "giant"


def test_what_would_wait_too_long_is_refused_at_once_with_a_time_to_come_back(store: Store) -> None:
    async def ask() -> Unavailable:
        reader = TextReader(store, wait_seconds=0.5)
        first = asyncio.create_task(reader.read("a", {"c": giant(25)}))
        await asyncio.to_thread(until, lambda: reader._lines, "it waits", every=0.01)
        short = asyncio.create_task(reader.read("a", {"d": [Message("m", "user", QUIET, 0.0)]}))
        try:
            with pytest.raises(Unavailable) as refused:
                await reader.read("a", {"e": giant(25)})
            assert (await short)["d"][0].reading is not None
            assert (await first)["c"][0].reading is not None
        finally:
            await reader.stop()
        return refused.value

    refusal = asyncio.run(ask())
    assert refusal.code == "texts_waiting"
    assert refusal.retry_after >= 1


def test_what_is_not_read_in_time_is_refused_and_the_next_one_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> Unavailable:
        reader = TextReader(store, wait_seconds=1e9)
        try:
            monkeypatch.setattr(text_reader, "READ_SECONDS_MAX", 0.0)
            with pytest.raises(Unavailable) as refused:
                await reader.read("a", {"c": giant(3)})
            monkeypatch.setattr(text_reader, "READ_SECONDS_MAX", 1e6)
            assert (await reader.read("a", {"c": giant(1)}))["c"][0].reading is not None
        finally:
            await reader.stop()
        return refused.value

    assert asyncio.run(ask()).code == "texts_waiting"
