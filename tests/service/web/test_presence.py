"""Presence: who else looks at a conversation, and is in the console; it costs next to nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from service.store import access
from service.store.database.transactions import table
from service.store.tables import Presence
from service.web.event_stream import broadcast, presence, presence_recorder
from service.web.event_stream.broadcast import EventBroadcaster
from service.web.event_stream.presence_recorder import PresenceRecorder
from tests.service.web.test_conversation_page import Window, escalated
from tests.service_in_process import InProcess, Place, serving
from tests.waiting import until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence_recorder, "LOOK_SECONDS", 0.1)
        patch.setattr(broadcast, "PRESENCE_SECONDS", 0.1)
        with serving(tmp_path_factory.mktemp("presence")) as running:
            yield running


def window(place: Place, name: str) -> Window:
    key = place.admin.posted("/v1/keys", {"role": "agent", "name": name})["key"]
    return Window(place, key)


def test_a_page_says_who_else_has_it_open_until_they_have_gone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    handoff, ann, ben = escalated(place), window(place, "ann"), window(place, "ben")
    before = ben.see(handoff, "/state").text
    ann.see(handoff)
    until(lambda: "ann</bdi> is looking at this too" in ben.see(handoff).text, "ann is seen")
    assert ben.see(handoff, "/state").text != before
    assert "ben" not in ben.see(handoff).text.partition('id="looking"')[2].partition("</p>")[0]
    queue = ben.caller.get("/console/queue").text
    assert "ann is looking at it" in queue
    assert "Also in the console: <bdi>ann</bdi>" in queue
    other = window(place.service.workspace(), "ann").caller.get("/console/queue").text
    assert "Also in the console: <bdi></bdi>" in other, "another workspace is told nothing"
    monkeypatch.setattr(presence, "HERE_SECONDS", 0.0)
    assert "is looking at" not in ben.see(handoff).text


def test_who_follows_the_console_is_told_who_comes(place: Place) -> None:
    handoff, ann, ben = escalated(place), window(place, "ann"), window(place, "ben")
    with ann.caller.stream("GET", "/v1/events") as events:
        ben.see(handoff)
        told = (line for line in events.iter_lines())
        for line in told:
            if line == "event: presence":
                places = json.loads(next(told).removeprefix("data: "))
                if "ben" in places.get(handoff, ()):
                    break
        assert set(places[""]) >= {"ben"}


def test_it_is_written_once_in_a_while_however_often_somebody_is_seen(
    service: InProcess, place: Place
) -> None:
    store, rows = service.baton.store, table(Presence)
    recorder = PresenceRecorder(store, EventBroadcaster(store, service.baton.settings))

    def written() -> list[float]:
        with store.read() as connection:
            query = select(rows.c.seen_at).where(rows.c.workspace == place.name)
            return list(connection.execute(query).scalars())

    async def look() -> None:
        for _ in range(100):
            recorder.see(place.name, "ann", "h1")
            recorder.see(place.name, "ann", "h1")
            await recorder.write()

    asyncio.run(look())
    first = written()
    assert len(first) == 1
    asyncio.run(look())
    assert written() == first
    with store.write() as connection:
        access.forget_present(connection, first[0] + 1)
    assert written() == []
