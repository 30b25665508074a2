"""No request, keyed or not, holds up the others: bodies, heads, texts and conversations are
bounded, and so is each key's share.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from learning.text.lexicon.phrase_matcher import lexicon
from service.runtime.errors import RateLimited
from service.store.conversations.batch import StateCache
from service.web import middleware
from service.web.access.rate_limits import FREE_CHARS, Rate, RateLimits
from service.web.serve import http_server
from tests.service_in_process import QUIET, InProcess, Place, refusal, serving
from tests.waiting import LIMIT_SECONDS, until

JSON = {"Content-Type": "application/json"}
ANCHORS = " ".join(random.Random(7).sample(sorted(lexicon().anchors), 2500))[:20_000]
"""The costliest text: every word begins phrases."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("bounds"), chars_per_second=1e9) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


class Stall:
    """The longest work of the event loop without a turn for others, while something was done, and
    all the work that this took: seconds of processor, so that other load does not count.
    """

    def __init__(self, service: InProcess) -> None:
        self._idle = service.baton.engine._live_models._idle
        assert self._idle is not None
        self._loop = self._idle.get_loop()

    def during(self, do: Callable[[], Any]) -> tuple[float, float]:
        done, longest = threading.Event(), 0.0

        async def beat() -> None:
            nonlocal longest
            while not done.is_set():
                before = time.thread_time()
                await asyncio.sleep(0.001)
                longest = max(longest, time.thread_time() - before)

        beating = asyncio.run_coroutine_threadsafe(beat(), self._loop)
        began = time.process_time()
        try:
            do()
        finally:
            done.set()
            beating.result(LIMIT_SECONDS)
        return longest, time.process_time() - began


def turns(count: int, text: str) -> list[dict[str, str]]:
    return [{"id": f"h{n}", "author": "user", "text": text} for n in range(count)]


# -- keys first -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/batch", "/v1/policy", "/v1/keys"])
@pytest.mark.parametrize("authorization", [None, "Bearer bk_wrong", "Basic eDp5"])
def test_without_a_key_nothing_of_a_body_is_read(
    service: InProcess, path: str, authorization: str | None
) -> None:
    """The refusal comes while the body is still owed."""
    address = service.url.removeprefix("http://").split(":")
    head = [f"POST {path} HTTP/1.1", "Host: x", "Content-Length: 1000000"]
    head += [f"Authorization: {authorization}"] if authorization else []
    with socket.create_connection((address[0], int(address[1])), timeout=LIMIT_SECONDS) as owing:
        owing.sendall("\r\n".join((*head, "", "{")).encode())
        assert owing.recv(4096).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "path, limit",
    [("/v1/score", 2**20), ("/v1/score/batch", 4 * 2**20), ("/v1/policy", 2**20)],
)
def test_each_route_has_its_limit_in_bytes(place: Place, path: str, limit: int) -> None:
    method = "PUT" if path == "/v1/policy" else "POST"
    over = place.admin.request(method, path, content=b" " * (limit + 1), headers=JSON)
    assert str(limit) in refusal(over, 413, "body_too_large")["message"]
    within = place.admin.request(method, path, content=b" " * limit, headers=JSON)
    assert within.status_code in (400, 422)


@pytest.mark.parametrize("item", [b"{}", b"[]", b"1"])
def test_a_body_of_countless_values_is_refused_before_it_is_parsed(
    place: Place, item: bytes
) -> None:
    body = b'{"items":[' + b",".join([item] * (middleware.VALUES_MAX + 1)) + b"]}"
    refusal(place.bot.post("/v1/score/batch", content=body, headers=JSON), 413, "too_many_values")


def test_a_batch_at_its_limits_is_decided(place: Place) -> None:
    items = [
        {
            "conversation_id": f"c{n}",
            "message": {"id": "m", "text": "the parcel is blue, and so is the door, " * 45},
            "attributes": {f"a{k}": k for k in range(50)},
        }
        for n in range(256)
    ]
    results = place.bot.posted("/v1/score/batch", {"items": items})["results"]
    assert [result["action"] for result in results] == ["continue"] * 256


# -- heads ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A server with Baton's own protocol, of three connections."""
    import uvicorn

    from service.runtime.settings import Settings

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    protocol = http_server.protocol(Settings(connections_max=3))
    config = uvicorn.Config(answer, http=protocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()
        server.should_exit = True
        thread.join(LIMIT_SECONDS)


def sent(address: tuple[str, int], data: bytes) -> bytes:
    """All that is answered to some bytes, until the server hangs up or says nothing more."""
    answer = bytearray()
    with socket.create_connection(address, timeout=LIMIT_SECONDS) as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
        with suppress(ConnectionError, TimeoutError):
            while piece := connection.recv(65536):
                answer += piece
                if answer.endswith(b"ok"):
                    connection.settimeout(1)
    return bytes(answer)


BEGIN = b"GET / HTTP/1.1\r\nHost: x\r\n"
WHOLE = BEGIN + b"\r\n"
LARGE = 2 * http_server.HEAD_BYTES_MAX


@pytest.mark.parametrize(
    "head",
    [
        BEGIN + b"A: " + b"x" * LARGE + b"\r\n\r\n",
        BEGIN + b"A: " + b"x" * 40 * LARGE,  # never ended
        BEGIN + b"".join(b"h%d: x\r\n" % n for n in range(LARGE // 8)) + b"\r\n",
        BEGIN + b"x" * 40 * LARGE,  # a name that never ends
        b"GET /" + b"x" * LARGE + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["one header", "an unfinished one", "many", "a name", "a path"],
)
@pytest.mark.parametrize("before", [b"", b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"])
def test_a_head_over_the_limit_ends_its_connection(
    address: tuple[str, int], head: bytes, before: bytes
) -> None:
    """Said with 431 where no earlier request still waits for its answer."""
    answer = sent(address, before + head)
    if not before:
        assert answer.startswith(b"HTTP/1.1 431 "), answer[:100]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "head_too_large"
    assert answer.count(b"HTTP/1.1 200") <= bool(before)


@pytest.mark.parametrize("requests", [1, 500])
def test_heads_within_the_limit_are_answered_however_many_are_sent_at_once(
    address: tuple[str, int], requests: int
) -> None:
    one = BEGIN + b"A: " + b"x" * 1000 + b"\r\n\r\n"
    assert sent(address, one * requests).count(b"HTTP/1.1 200") == requests


def test_idle_connections_make_room_for_whoever_asks(address: tuple[str, int]) -> None:
    idle = [socket.create_connection(address, timeout=LIMIT_SECONDS) for _ in range(12)]
    try:
        assert sent(address, WHOLE).startswith(b"HTTP/1.1 200")
    finally:
        for connection in idle:
            connection.close()


# -- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda bot, c: bot.score(c, "m", QUIET, history=turns(5, ANCHORS)),
        lambda bot, c: bot.post(
            "/v1/score/batch",
            json={
                "items": [
                    {"conversation_id": f"{c}{n}", "message": {"id": "m", "text": ANCHORS}}
                    for n in range(25)
                ]
            },
        ),
        lambda bot, c: bot.post(
            "/v1/score/batch",
            json={
                "items": [
                    {"conversation_id": f"{c}{n}", "message": {"id": "m", "text": ANCHORS[:1990]}}
                    for n in range(200)
                ]
            },
        ),
    ],
    ids=["history", "batch", "many"],
)
def test_long_texts_hold_up_nobody_while_they_are_read(
    service: InProcess, place: Place, ask: Callable[[Any, str], httpx.Response]
) -> None:
    """The loop stands still for a small part of the time that the request takes."""
    ask(place.bot, "warm")
    longest, took = Stall(service).during(lambda: ask(place.bot, "c"))
    assert longest < took / 3, f"the loop worked {longest:.3f} s of {took:.3f} in one go"


def test_a_long_conversation_that_was_forgotten_is_folded_beside_and_decided_alike(
    service: InProcess, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for conversation in ("long", "alike"):
        place.bot.decided(conversation, "begin", QUIET, history=turns(5, ANCHORS))
    engine = service.baton.engine
    remembered = place.bot.decided("long", "m", QUIET)
    monkeypatch.setattr(engine, "_states", StateCache(1))
    forgotten: dict[str, Any] = {}
    longest, took = Stall(service).during(
        lambda: forgotten.update(place.bot.decided("alike", "m", QUIET))
    )
    same = ("action", "probability", "reasons")
    assert {name: forgotten[name] for name in same} == {name: remembered[name] for name in same}
    assert longest < took / 2, f"the loop worked {longest:.3f} s of {took:.3f} in one go"


def test_an_outcome_of_a_long_conversation_is_learned_and_replays(place: Place) -> None:
    place.bot.decided("c", "m", QUIET, history=turns(5, ANCHORS))
    place.bot.posted("/v1/conversations/c/close", {"resolution": "resolved"})
    place.agent.posted("/v1/conversations/c/outcome", {"verdict": "missed", "source": "complaint"})
    head = len(place.ledger()) + len(place.ledger("switch")) + len(place.ledger("policy"))
    until(lambda: place.engineer.got("/v1/standing")["position"] >= head, "it is learned")
    decided = place.bot.decided("d", "m", QUIET)
    assert place.agent.got(f"/v1/decisions/{decided['decision_id']}/replay")["identical"]


def test_states_are_remembered_by_their_bytes(service: InProcess, place: Place) -> None:
    attributes = {f"{k:0>200}": 500 * "x" for k in range(50)}
    place.bot.decided("large", "m", QUIET, attributes=attributes)
    place.bot.decided("small", "m", QUIET)
    large = service.baton.engine._states.get(place.name, "large")
    small = service.baton.engine._states.get(place.name, "small")
    cache = StateCache(1_000_000)
    for n in range(1000):
        cache.keep("w", f"c{n}", *large)
    few = len(cache._entries)
    for n in range(1000):
        cache.keep("w", f"d{n}", *small)
    assert 4 < few < 30
    assert len(cache._entries) > 10 * few
    assert cache.size <= 1_000_000


# -- shares ---------------------------------------------------------------------------------------

PLENTY = Rate(1e9, 1e9)


def test_a_bucket_holds_twice_its_rate_and_fills_again() -> None:
    now = 0.0
    limits = RateLimits(Rate(10, 20), PLENTY, clock=lambda: now)

    def granted() -> int:
        count = 0
        with suppress(RateLimited):
            while True:
                limits.leave(limits.enter("k"))
                count += 1
        return count

    assert granted() == 20
    now = 0.5
    assert granted() == 5
    now = 100.0
    assert granted() == 20
    limits.enter("another")


def test_a_batch_takes_a_token_for_each_item() -> None:
    limits = RateLimits(Rate(10, 20), PLENTY, clock=lambda: 0.0)
    limits.take("k", 20)
    with pytest.raises(RateLimited):
        limits.take("k", 1)


def test_characters_of_long_texts_have_a_rate_of_their_own() -> None:
    """A refusal says when it will fit, and takes nothing; requests and short texts go on."""
    now = 0.0
    limits = RateLimits(PLENTY, Rate(100, 1000), clock=lambda: now)
    limits.take_chars("k", [FREE_CHARS + 400, FREE_CHARS + 500])
    with pytest.raises(RateLimited) as refused:
        limits.take_chars("k", [FREE_CHARS + 300])
    assert refused.value.limit == (1000, 100, 9)
    assert refused.value.retry_after == 2
    limits.take_chars("k", [FREE_CHARS] * 1000)
    limits.take_chars("another", [FREE_CHARS + 1000])
    now = 2.0
    limits.take_chars("k", [FREE_CHARS + 300])


def test_a_key_that_sends_too_much_text_is_429_while_its_short_messages_are_decided(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    long = {"id": "m", "text": "the parcel is blue " * 1000}
    items = [{"conversation_id": f"c{n}", "message": long} for n in range(25)]
    asks: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/v1/score/batch", {"items": items}),
        ("/v1/score/batch", {"items": items}),
        ("/v1/score", {"conversation_id": "d", "message": long, "history": turns(5, long["text"])}),
        (
            "/v1/conversations/c0/messages",
            {"messages": [{**turn, "author": "bot"} for turn in turns(5, long["text"])]},
        ),
    )
    with serving(tmp_path_factory.mktemp("chars"), chars_per_second=1.0) as service:
        bot = service.default().bot
        taken, *refused = [bot.post(path, json=body) for path, body in asks]
        assert taken.status_code == 200
        for answer in refused:
            refusal(answer, 429, "rate_limited")
            assert answer.headers.get_list("ratelimit-limit") == ["512000"]
            assert int(answer.headers["retry-after"]) > 1
        assert bot.score("c", "second", QUIET).status_code == 200


def test_a_key_may_not_have_too_much_in_flight() -> None:
    limits = RateLimits(Rate(10, 20), PLENTY, in_flight_max=2)
    first = limits.enter("k")
    limits.enter("k")
    with pytest.raises(RateLimited):
        limits.enter("k")
    limits.leave(first)
    limits.enter("k")


def test_a_key_beyond_its_rate_is_429_and_others_are_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with serving(tmp_path_factory.mktemp("rates"), requests_per_second=3.0) as service:
        bot, agent = service.default().bot, service.default().agent
        answers = [bot.score("c", f"m{n}", QUIET) for n in range(60)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert refusal(refused[0], 429, "rate_limited")["hint"]
        assert refused[0].headers["retry-after"] == "1"
        assert answers[0].headers["ratelimit-limit"] == "6"
        assert answers[0].headers["ratelimit-remaining"] == "5"
        assert agent.get("/v1/handoffs").status_code == 200


def test_a_request_that_waited_too_long_is_shed_with_a_time_to_come_back(
    service: InProcess, place: Place
) -> None:
    """The loop stands still for longer than anybody is to wait, while requests come."""
    engine = service.baton.engine
    place.bot.decided("c", "first", QUIET)
    idle = engine._live_models._idle
    assert idle is not None
    settings = engine._settings
    loop = idle.get_loop()

    async def late() -> None:
        """Everything that is queued now has waited too long."""
        for line in engine._queue._lines.values():
            for request in line:
                request.queued_at -= 2 * settings.wait_seconds

    engine._batch_scheduled = True  # so nothing is taken from the queue
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(place.bot.score("c", "m", QUIET)))
    thread.start()
    until(lambda: len(engine._queue), "it waits", every=0.01)
    asyncio.run_coroutine_threadsafe(late(), loop).result(LIMIT_SECONDS)
    loop.call_soon_threadsafe(engine._run_batch)
    thread.join(LIMIT_SECONDS)
    refusal(answers[0], 503, "overloaded")
    assert answers[0].headers["retry-after"]
    assert place.agent.got("/v1/conversations/c")["messages"][-1]["id"] == "first"
