"""GET /v1/events: what happens in a workspace, told at once to everyone who follows it: by key in
the words of webhooks, to the console's pages as it is now.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from service.store.handoffs import handoff_rows
from service.web.event_stream import broadcast, changes
from tests.running import until
from tests.service.web.pages import sign_in
from tests.service_in_process import ASKS, OTHERS, Caller, InProcess, Place, refusal, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("events")) as running:
        yield running


@dataclass(frozen=True)
class Event:
    id: str
    kind: str
    data: dict[str, Any]


class Following:
    """An open connection to the events."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines()

    def next(self) -> Event:
        found: dict[str, str] = {}
        for line in self._lines:
            if not line and found:
                return Event(found["id"], found["event"], json.loads(found["data"]))
            name, _, value = line.partition(": ")
            if name:
                found[name] = value
        raise EOFError

    def until(self, kind: str) -> Event:
        """The next event of a kind."""
        while (event := self.next()).kind != kind:
            pass
        return event

    def ends(self) -> bool:
        with suppress(EOFError, httpx.RemoteProtocolError):
            while self.next():
                pass
        return True


@contextmanager
def following(caller: Caller, last: str = "", **more: Any) -> Iterator[Following]:
    headers = {"Last-Event-ID": last} if last else {}
    with caller.stream("GET", "/v1/events", headers=headers, **more) as answer:
        assert answer.status_code == 200
        yield Following(answer)


@pytest.fixture
def page(place: Place) -> Caller:
    """A page of the console."""
    return sign_in(place.service, place.keys["agent"])


def test_by_key_all_that_happens_is_told_in_order_in_the_words_of_webhooks(place: Place) -> None:
    with following(place.agent) as events:
        assert events.next().kind == "hello"
        handoff = place.escalated()
        place.agent.posted(f"/v1/handoffs/{handoff}/claim")
        place.agent.posted(f"/v1/handoffs/{handoff}/reply", {"text": "hello"})
        outcome = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
        place.agent.put(f"/v1/outcomes/{outcome['id']}", json={"verdict": "not_needed"})
        place.agent.delete(f"/v1/outcomes/{outcome['id']}")
        place.engineer.posted("/v1/versions/1/promote")
        told = [events.next() for _ in range(8)]
    kinds = [event.kind for event in told]
    assert sorted(kinds[:2]) == ["decision.escalated", "handoff.opened"]
    assert kinds[2:] == [
        "handoff.claimed",
        "message.agent",
        "outcome.recorded",
        "outcome.corrected",
        "outcome.retracted",
        "version.switched",
    ]
    assert told[2].data["handoff_id"] == handoff
    assert told[3].data["text"] == "hello"
    assert told[4].data["outcome_id"] == outcome["id"]
    with following(place.agent, told[7].id) as events:
        again = [events.next() for _ in range(8)]
    assert [event.data["event_id"] for event in again] == [e.data["event_id"] for e in told]


def test_an_escalation_a_claim_and_an_outcome_are_told_as_they_happen(
    place: Place, page: Caller
) -> None:
    with following(page) as events:
        assert events.answer.headers["content-type"].startswith("text/event-stream")
        assert events.answer.headers["cache-control"] == "no-store"
        assert events.next().kind == "hello"
        handoff = place.bot.decided("c", "m1", ASKS)["handoff"]["id"]
        told = events.until("handoff").data
        assert (told["id"], told["status"], told["said"]) == (handoff, "waiting", ASKS)
        assert told["why"]
        assert "workspace" not in told
        assert events.until("queue").data == {"waiting": {"support": 1}}
        place.agent.posted(f"/v1/handoffs/{handoff}/claim")
        told = events.until("handoff").data
        assert (told["status"], told["claimed_by"]) == ("claimed", f"{place.name}-agent")
        found = {"verdict": "needed"}
        outcome = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", found)
        told = events.until("outcome").data
        assert (told["outcome_id"], told["verdict"]) == (outcome["id"], "needed")
        assert told["position"] == outcome["position"]
        place.engineer.posted("/v1/versions/1/promote")
        told = events.until("switch").data
        assert (told["version"], told["kind"]) == (1, "promotion")
        place.agent.delete(f"/v1/outcomes/{outcome['id']}")
        told = events.until("outcome").data
        assert (told["outcome_id"], told["verdict"]) == (outcome["id"], None)


def test_an_event_comes_with_the_first_look_after_it(
    place: Place, page: Caller, monkeypatch: Any
) -> None:
    """And few followers are looked for twice a second; `baton bench console` measures the rest."""
    looks: list[bytes] = []

    def since(*given: Any) -> Any:
        found = seen(*given)
        looks.append(found[0])
        return found

    assert broadcast.POLL_SECONDS <= 0.5
    seen = changes.poll
    monkeypatch.setattr(changes, "poll", since)
    with following(page) as events:
        events.next()
        handoff = place.bot.decided("c", "m1", ASKS)["handoff"]["id"]
        before = len(looks)
        assert events.until("handoff").data["id"] == handoff
    told = [number for number, chunk in enumerate(looks) if handoff.encode() in chunk]
    assert told[0] <= before, "a look that was begun before may have ended since"


def test_one_process_tells_what_another_did(service: InProcess, place: Place) -> None:
    with (
        serving(service.baton.settings.home) as other,
        following(other.caller(place.keys["agent"])) as events,
    ):
        events.next()
        handoff = place.bot.decided("c", "m1", ASKS)["handoff"]["id"]
        assert events.until("handoff.opened").data["handoff_id"] == handoff
        outcome = {"verdict": "needed"}
        place.agent.posted(f"/v1/handoffs/{handoff}/outcome", outcome)
        assert events.until("outcome.recorded").data["handoff_id"] == handoff


def test_who_comes_again_hears_what_it_missed_and_nothing_is_lost(
    place: Place, page: Caller
) -> None:
    with following(page) as events:
        events.next()
        place.bot.decided("c0", "m1", ASKS)
        last = events.until("queue").id
    ids = {place.bot.decided(f"c{n}", "m1", ASKS)["handoff"]["id"] for n in range(1, 4)}
    position = place.bot.posted("/v1/conversations/x/messages", {"messages": [turn()]})
    assert position["length"] == 1
    with following(page, last) as events:
        heard = {events.until("handoff").data["id"] for _ in range(4)}
        assert ids <= heard
    with following(page, params={"after": last}) as events:
        assert {events.until("handoff").data["id"] for _ in range(4)} == heard


def turn() -> dict[str, str]:
    return {"id": "b1", "author": "bot", "text": OTHERS[0]}


def test_a_commit_that_comes_late_is_still_told(service: InProcess, place: Place) -> None:
    """A handoff that changed before one that was told, but became visible after it."""
    first = place.bot.decided("c1", "m1", ASKS)["handoff"]["id"]
    with service.baton.store.read() as connection:
        begun, late = changes.start_cursor(connection, place.name)
    place.bot.decided("c2", "m1", ASKS)
    with service.baton.store.read() as connection:
        chunk, cursor, late = changes.poll(connection, place.name, begun, late)
    assert first.encode() not in chunk
    with service.baton.store.write() as connection:
        handoff_rows.change(connection, place.name, first, team="other")
        connection.exec_driver_sql(
            "UPDATE handoff SET changed_at = changed_at - 5 WHERE id = ?", (first,)
        )
    with service.baton.store.read() as connection:
        chunk, cursor, late = changes.poll(connection, place.name, cursor, late)
        assert first.encode() in chunk
        assert changes.poll(connection, place.name, cursor, late)[0] == b""


def test_too_much_to_tell_is_a_reset(place: Place, page: Caller, monkeypatch: Any) -> None:
    monkeypatch.setattr(changes, "CHANGES_MAX", 3)
    with following(page) as events:
        last = events.next().id
        for number in range(4):
            place.bot.decided(f"c{number}", "m1", ASKS)
        assert events.until("reset").data == {}
    with following(page, last) as events:
        assert events.next().kind == "reset"


@pytest.mark.parametrize("last", ["x", "1", "-", "9" * 99, "1-x", "９-１", "%00"])
def test_an_event_id_that_is_none_begins_anew(page: Caller, last: str) -> None:
    with following(page, params={"after": last}) as events:
        assert events.next().kind == "hello"


def test_a_workspace_hears_nothing_of_another(service: InProcess, place: Place) -> None:
    other = service.workspace()
    with following(place.agent) as events:
        events.next()
        other.bot.decided("c", "m1", ASKS)
        time.sleep(2 * broadcast.POLL_SECONDS)
        handoff = place.bot.decided("c", "m1", ASKS)["handoff"]["id"]
        assert events.until("handoff.opened").data["handoff_id"] == handoff


def test_a_revoked_key_hears_no_more(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(broadcast, "CHECK_SECONDS", 0.2)
    made = place.admin.posted("/v1/keys", {"role": "agent", "name": "ann"})
    with following(place.service.caller(made["key"])) as events:
        events.next()
        place.admin.delete(f"/v1/keys/{made['id']}")
        assert events.ends()


def test_a_stranger_does_not_follow(place: Place) -> None:
    refusal(place.service.caller().get("/v1/events"), 401, "no_key")


def test_followers_have_a_greatest_number_and_leave_when_they_hang_up(
    place: Place, monkeypatch: Any
) -> None:
    monkeypatch.setattr(broadcast, "SUBSCRIBERS_MAX", 2)
    with ExitStack() as open_:
        callers = [place.service.caller(place.keys["agent"]) for _ in range(2)]
        events = [open_.enter_context(following(caller)) for caller in callers]
        assert [one.next().kind for one in events] == ["hello", "hello"]
        full = place.agent.get("/v1/events")
        assert refusal(full, 503, "followers_full")
        assert full.headers["retry-after"] == "1"
    assert until(lambda: status(place) == 200, "those that hung up have left")


def test_one_key_that_follows_with_all_connections_makes_room_for_others(
    service: InProcess, place: Place, monkeypatch: Any
) -> None:
    monkeypatch.setattr(broadcast, "SUBSCRIBERS_MAX", 4)
    other, colleague = service.workspace(), place.named_agent("colleague")
    with ExitStack() as open_:
        greedy = [
            open_.enter_context(following(place.service.caller(place.keys["agent"])))
            for _ in range(4)
        ]
        others = [open_.enter_context(following(one)) for one in (other.agent, colleague)]
        assert [one.next().kind for one in others] == ["hello", "hello"]
        kept = place.service.caller(place.keys["agent"]).get("/v1/events")
        assert refusal(kept, 503, "followers_full"), "who has most gets no more"
        place.escalated()
        heard = 0
        for one in greedy:
            with suppress(EOFError, httpx.RemoteProtocolError):
                heard += one.until("handoff.opened").kind == "handoff.opened"
        assert heard == 2


def status(place: Place) -> int:
    with place.agent.stream("GET", "/v1/events") as answer:
        return answer.status_code


def test_who_takes_too_little_is_hung_up_on_and_holds_up_nobody(
    service: InProcess, place: Place, monkeypatch: Any
) -> None:
    monkeypatch.setattr(broadcast, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(broadcast, "SEND_SECONDS", 0.3)
    told = service.baton.broadcaster._channels
    with following(place.agent) as slow:
        slow.next()
        (follower,) = told[place.name, "agent"].subscribers
        with following(place.service.caller(place.keys["agent"])) as events:
            events.next()
            follower.enqueue(b": " + b"x" * 50_000_000)
            first = place.bot.decided("c1", "m1", ASKS)["handoff"]["id"]
            assert events.until("handoff.opened").data["handoff_id"] == first
            assert until(
                lambda: follower not in told[place.name, "agent"].subscribers, "the slow one left"
            )
            second = place.bot.decided("c2", "m1", ASKS)["handoff"]["id"]
            assert events.until("handoff.opened").data["handoff_id"] == second


def test_only_so_much_waits_for_a_follower() -> None:
    slow = broadcast.Subscriber(None, None)  # type: ignore[arg-type]
    told = [slow.enqueue(b"x") for _ in range(broadcast.CHUNKS_MAX + 1)]
    assert told == [True] * broadcast.CHUNKS_MAX + [False]
    slow.end()
    assert slow.waiting.get_nowait() is None


def test_a_quiet_connection_is_told_that_it_lives(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(broadcast, "PING_SECONDS", 0.1)
    with following(place.agent) as events:
        pings = (line for line in events.answer.iter_lines() if line == ": ping")
        assert [next(pings) for _ in range(3)]


def test_very_many_are_told_less_often_and_the_same(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(broadcast, "SENDS_PER_SECOND_MAX", 1)
    with following(place.agent) as events:
        events.next()
        handoffs = {place.bot.decided(f"c{n}", "m1", ASKS)["handoff"]["id"] for n in range(3)}
        assert {events.until("handoff.opened").data["handoff_id"] for _ in handoffs} == handoffs
