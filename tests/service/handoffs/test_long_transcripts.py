"""A conversation of very many very long turns is read piece by piece, and holds up nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.handoffs.brief import (
    READ_CHARS_MAX,
    SHOWN_CHARS_MAX,
    newest_within,
    oldest_within,
)
from service.store.conversations import conversation_rows
from tests.service.web.test_bounds import ANCHORS, Stall
from tests.service.web.test_conversation_page import Window
from tests.service_in_process import InProcess, Place, serving

TURNS = 120
"""Of 20 000 characters: more than twice what is shown at once."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("long")) as running:
        yield running


@pytest.fixture(scope="module")
def place(service: InProcess) -> Place:
    """A workspace whose conversation `c` a customer has made as costly as can be."""
    place = service.workspace()
    handoff = place.escalated()
    place.agent.posted(f"/v1/handoffs/{handoff}/reply", {"id": "r", "text": "one moment"})
    with service.baton.store.write() as connection:
        query = "SELECT * FROM message WHERE workspace = ? AND id = 'r'"
        row = dict(connection.exec_driver_sql(query, (place.name,)).mappings().one())
        first = row["seq"] + 1
        for number in range(TURNS):
            text = f"{number} {ANCHORS}"[:20_000]
            row |= {"id": f"m{number}", "seq": first + number, "author": "user", "text": text}
            marks = ",".join("?" * len(row))
            connection.exec_driver_sql(
                f"INSERT INTO message ({','.join(row)}) VALUES ({marks})", tuple(row.values())
            )
        connection.exec_driver_sql(
            "UPDATE conversation SET length = ? WHERE workspace = ? AND id = 'c'",
            (first + TURNS - 1, place.name),
        )
    return place


def test_a_transcript_comes_in_pieces_that_leave_nothing_out(place: Place) -> None:
    with place.service.baton.store.read() as connection:
        all_ = [row.id for row in conversation_rows.messages(connection, place.name, "c")]
    turns, after, pieces = [], 0, 0
    while after is not None:
        page = place.bot.got(f"/v1/conversations/c?after={after}")
        assert sum(len(turn["text"]) for turn in page["messages"]) <= SHOWN_CHARS_MAX
        turns += [turn["id"] for turn in page["messages"]]
        after, pieces = page["next"], pieces + 1
    assert turns == all_
    assert pieces == 3


def test_the_packet_has_the_newest_turns_and_reads_so_much_of_them(place: Place) -> None:
    (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
    packet = place.agent.got(f"/v1/handoffs/{handoff['id']}")
    assert packet["transcript"][-1]["id"] == f"m{TURNS - 1}"
    assert sum(len(turn["text"]) for turn in packet["transcript"]) <= SHOWN_CHARS_MAX
    assert packet["earlier"] + len(packet["transcript"]) == packet["transcript"][-1]["seq"]
    read = {point["message_id"] for point in packet["sentiment"]}
    assert "c-asks" in read, "what led here is read however long ago it was"
    assert len(read) <= 1 + READ_CHARS_MAX // 20_000


def test_whoever_looks_at_it_holds_up_nobody(service: InProcess, place: Place) -> None:
    (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
    window = Window(place, place.keys["agent"])
    for ask in (
        lambda: place.bot.get("/v1/conversations/c"),
        lambda: place.agent.get(f"/v1/handoffs/{handoff['id']}"),
        lambda: window.see(handoff["id"], "?whole=1"),
    ):
        ask()
        longest, took = Stall(service).during(ask)
        assert longest < 0.1
        assert took < 3.0, "what is read of a conversation has an end"


def test_one_turn_is_shown_however_long_it_is(place: Place) -> None:
    with place.service.baton.store.read() as connection:
        turns = conversation_rows.messages(connection, place.name, "c")
    assert newest_within(turns, 0) == len(turns) - 1
    assert oldest_within(turns, 0) == 1
    assert newest_within([], 5) == oldest_within([], 5) == 0
