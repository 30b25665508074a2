"""What agents write is kept redacted where the policy says so; the customer is told what they
wrote.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.connections.webhooks.delivery_attempt import body_of
from service.jobs.maintenance import Maintenance
from service.operations.backup import export_conversations
from service.privacy.erasure import erase
from service.runtime.sealing import Sealer
from service.store.conversations import original_rows
from service.store.ledger import outbox_rows
from service.web.event_stream.outbox_feed import OutboxCursor, of_bots
from tests.service.privacy.test_redaction import CARD, MAIL, everything
from tests.service_in_process import InProcess, Place, refusal, serving

WRITTEN = f"we refund {CARD}; write to {MAIL}"
KEPT = "we refund [card]; write to [email]"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("replies")) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    place = service.workspace()
    place.policy(redaction={"kinds": ["card", "email"]})
    return place


def replied(place: Place) -> str:
    handoff = place.escalated()
    place.agent.posted(f"/v1/handoffs/{handoff}/reply", {"id": "r1", "text": WRITTEN})
    return handoff


def event_of_reply(place: Place) -> Any:
    with place.service.baton.store.read() as connection:
        rows = outbox_rows.since(connection, place.name, 0.0, ["message.agent"], 10)
    return rows[0]


def test_a_reply_is_kept_redacted_and_told_to_the_bot_as_it_was_written(place: Place) -> None:
    handoff = replied(place)
    baton = place.service.baton
    assert CARD not in everything(place)
    assert MAIL not in everything(place)
    for shown in (
        place.agent.got("/v1/conversations/c")["messages"],
        place.agent.got(f"/v1/handoffs/{handoff}")["transcript"],
    ):
        assert [turn["text"] for turn in shown if turn["id"] == "r1"] == [KEPT]
    assert CARD not in "".join(export_conversations(baton.store, place.name))

    polled = place.bot.got("/v1/conversations/c")["messages"]
    assert [turn["text"] for turn in polled if turn["id"] == "r1"] == [WRITTEN]
    with baton.store.read() as connection:
        feed = of_bots(baton.settings)
        streamed = feed.events_after_reconnect(
            connection, place.name, OutboxCursor(1.0), OutboxCursor(2)
        )
    assert json.dumps(WRITTEN) in streamed.decode()
    sent = json.loads(body_of(event_of_reply(place), Sealer.of(baton.settings), with_text=True))
    assert sent["data"]["text"] == WRITTEN


def test_a_reply_sent_again_is_the_same_whatever_the_policy_became_and_another_is_refused(
    place: Place,
) -> None:
    handoff = replied(place)
    path, again = f"/v1/handoffs/{handoff}/reply", {"id": "r1", "text": WRITTEN}
    first = place.agent.posted(path, again)
    place.policy(redaction={"kinds": []})
    assert place.agent.posted(path, again) == first
    refusal(place.agent.post(path, json=again | {"text": "no"}), 409, "message_differs")


def test_who_only_tells_of_what_was_said_gets_it_as_it_is_kept(place: Place) -> None:
    spoken = {"id": "a1", "author": "agent", "text": WRITTEN, "agent": "Ana"}
    place.escalated()
    place.bot.posted("/v1/conversations/c/messages", {"messages": [spoken]})
    sealer = Sealer.of(place.service.baton.settings)
    sent = json.loads(body_of(event_of_reply(place), sealer, with_text=True))
    assert (sent["data"]["deliver"], sent["data"]["text"]) == (False, KEPT)


def test_what_was_written_goes_with_its_event_and_with_an_erasure(place: Place) -> None:
    baton = place.service.baton

    def sealed() -> dict[str, str]:
        with baton.store.read() as connection:
            return original_rows.sealed(connection, place.name, "c")

    handoff = replied(place)
    assert list(sealed()) == ["r1"]
    jobs = Maintenance(baton.store, baton.settings)
    week = time.time() - outbox_rows.KEPT_SECONDS - 60
    jobs.expire()
    assert list(sealed()) == ["r1"]
    with baton.store.write() as connection:
        connection.exec_driver_sql(
            "UPDATE message SET at = ? WHERE workspace = ? AND id = 'r1'", (week, place.name)
        )
    jobs.expire()
    assert sealed() == {}

    place.agent.posted(f"/v1/handoffs/{handoff}/reply", {"id": "r2", "text": WRITTEN})
    place.agent.posted(f"/v1/handoffs/{handoff}/resolve")
    assert list(sealed()) == ["r2"]
    erase(baton.store, place.name, "c", actor="dana")
    assert sealed() == {}
    assert event_of_reply(place).text is None


@pytest.mark.parametrize("by", ["note", "transfer", "outcome"])
def test_notes_and_reasons_are_kept_redacted(place: Place, by: str) -> None:
    handoff = place.escalated()
    bodies: dict[str, dict[str, Any]] = {
        "note": {"text": WRITTEN},
        "transfer": {"team": "legal", "note": WRITTEN},
        "outcome": {"verdict": "needed", "reason": f"card {CARD}", "note": WRITTEN},
    }
    place.agent.posted(f"/v1/handoffs/{handoff}/{by}", bodies[by])
    stored = everything(place)
    assert "[card]" in stored
    assert CARD not in stored
    assert MAIL not in stored


def test_a_late_verdict_and_its_correction_are_kept_redacted(place: Place) -> None:
    place.bot.decided("d", "m1", "what are your opening hours")
    said = {"verdict": "missed", "source": "agent", "note": WRITTEN}
    outcome = place.agent.posted("/v1/conversations/d/outcome", said)
    corrected = {"verdict": "fine", "reason": WRITTEN}
    assert place.agent.put(f"/v1/outcomes/{outcome['id']}", json=corrected).status_code == 200
    assert CARD not in everything(place)
