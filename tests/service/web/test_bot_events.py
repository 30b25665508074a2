"""What a bot needs: the events of its conversations, what is new in one, an agent's reply."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from service.client import Baton, RefusedError, StreamEvent
from service.store.ledger import entries
from service.web.event_stream import broadcast, outbox_feed
from tests.service_in_process import OTHERS, QUIET, InProcess, Place, refusal, serving
from tests.waiting import LIMIT_SECONDS, until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("bot-events")) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


class Ear:
    """A bot that follows the events, in a thread of its own."""

    def __init__(self, place: Place, after: str = "") -> None:
        self.heard: list[StreamEvent] = []
        self._place = place
        self._key = place.admin.posted("/v1/keys", {"role": "bot"})
        self.bot = Baton(place.service.url, self._key["key"])
        self._events = self.bot.events(after)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        channels = place.service.baton.broadcaster._channels
        until(
            lambda: (channel := channels.get((place.name, "bot"))) and channel.subscribers,
            "the bot follows",
        )

    def _listen(self) -> None:
        with suppress(RefusedError):  # its key is revoked
            for event in self._events:
                self.heard.append(event)

    def close(self) -> None:
        self._place.admin.delete(f"/v1/keys/{self._key['id']}")
        self._thread.join(LIMIT_SECONDS)
        self.bot.close_connection()

    def types(self, count: int) -> list[str]:
        until(lambda: len(self.heard) >= count, f"{count} events")
        return [event.type for event in self.heard]


Listen = Callable[..., Ear]


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listen]:
    """Bots that follow the events until the end of the test."""
    monkeypatch.setattr(broadcast, "CHECK_SECONDS", 0.1)
    with ExitStack() as open_:

        def follow(place: Place, after: str = "") -> Ear:
            ear = Ear(place, after)
            open_.callback(ear.close)
            return ear

        yield follow


def turn(name: str, author: str, text: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "author": author, "text": text} | more


def test_a_bot_hears_what_becomes_of_its_handoff_in_order(place: Place, listen: Listen) -> None:
    ear = listen(place)
    handoff = place.escalated()
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    sent = place.agent.posted(f"/v1/handoffs/{handoff}/reply", {"text": "I look into it"})
    place.bot.decided("c", "urgent", "someone is hacking my account right now, help")
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    kinds = ["handoff.opened", "handoff.claimed", "message.agent"]
    told = ear.types(5)
    assert told[:3] == kinds
    assert told[-1] == "handoff.returned"
    spoken = ear.heard[2].data
    assert spoken["text"] == "I look into it"
    assert spoken["deliver"] is True
    assert spoken["agent"] == f"{place.name}-agent"
    assert (spoken["message_id"], spoken["handoff_id"]) == (sent["message_id"], handoff)
    assert {event.data["conversation_id"] for event in ear.heard} == {"c"}
    assert len({event.data["event_id"] for event in ear.heard}) == len(ear.heard)


def test_a_person_who_takes_over_is_told_and_their_words_are_not_said_again(
    place: Place, listen: Listen
) -> None:
    ear = listen(place)
    place.bot.decided("c", "m1", QUIET)
    spoken = [turn("a1", "agent", "hello, this is Ana", agent="Ana")]
    place.bot.posted("/v1/conversations/c/messages", {"messages": spoken})
    assert ear.types(3) == ["handoff.opened", "handoff.claimed", "message.agent"]
    assert ear.heard[2].data["deliver"] is False, "whoever appended it has said it"
    assert ear.heard[1].data["claimed_by"] == "Ana"


def test_a_bot_that_comes_again_hears_what_it_missed(place: Place, listen: Listen) -> None:
    ear = listen(place)
    first = place.escalated("c1")
    ear.types(1)
    last = ear.heard[-1].id
    place.agent.posted(f"/v1/handoffs/{first}/resolve")
    place.escalated("c2")
    again = listen(place, last)
    until(lambda: len(again.heard) >= 2, "what was missed")
    heard = [(one.type, one.data["conversation_id"]) for one in again.heard]
    assert heard[-2:] == [("handoff.resolved", "c1"), ("handoff.opened", "c2")]


def test_a_commit_that_comes_late_is_still_told(service: InProcess, place: Place) -> None:
    feed = outbox_feed.of_bots(service.baton.settings)
    with service.baton.store.read() as connection:
        cursor, sent = feed.start_cursor(connection, place.name)
    place.escalated("c1")
    place.escalated("c2")
    with service.baton.store.write() as connection:
        connection.exec_driver_sql(
            "UPDATE outbox_event SET at = at - 5 WHERE workspace = ? AND conversation_id = 'c1'",
            (place.name,),
        )
    with service.baton.store.read() as connection:
        chunk, cursor, sent = feed.poll(connection, place.name, cursor, sent)
        assert b'"c1"' in chunk
        assert b'"c2"' in chunk
        assert feed.poll(connection, place.name, cursor, sent)[0] == b""


def test_too_much_to_tell_is_a_reset(place: Place, listen: Listen, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox_feed, "EVENTS_MAX", 3)
    ear = listen(place)
    for number in range(4):
        place.escalated(f"c{number}")
    until(lambda: "reset" in [one.type for one in ear.heard], "a reset")


def test_a_bot_hears_no_verdicts_and_nothing_of_another_workspace(
    service: InProcess, place: Place, listen: Listen
) -> None:
    other = service.workspace()
    ear = listen(place)
    other.escalated("theirs")
    handoff = place.escalated("ours")
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    assert ear.types(2) == ["handoff.opened", "handoff.returned"]
    assert "theirs" not in str(ear.heard)


def test_the_stream_of_a_bot_whose_key_is_revoked_ends(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(broadcast, "CHECK_SECONDS", 0.1)
    made = place.admin.posted("/v1/keys", {"role": "bot", "name": "another"})
    with place.service.caller(made["key"]).stream("GET", "/v1/events") as answer:
        place.admin.delete(f"/v1/keys/{made['id']}")
        assert "hello" in "".join(answer.iter_text())


def test_only_what_is_newer_is_answered_and_nothing_when_nothing_is(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    place.bot.decided("c", "m2", OTHERS[0])
    whole = place.bot.got("/v1/conversations/c")
    newer = place.bot.get("/v1/conversations/c", params={"after": 1})
    body = newer.json()
    assert [one["id"] for one in body["messages"]] == ["m2"]
    assert [one["message_id"] for one in body["decisions"]] == ["m2"]
    assert {**whole, "messages": 0, "decisions": 0} == {**body, "messages": 0, "decisions": 0}
    assert place.bot.got("/v1/conversations/c?after=9")["messages"] == []
    tag = {"If-None-Match": newer.headers["etag"]}
    same = place.bot.get("/v1/conversations/c", params={"after": 1}, headers=tag)
    assert (same.status_code, same.content) == (304, b"")
    place.escalated("c")
    changed = place.bot.get("/v1/conversations/c", params={"after": 1}, headers=tag)
    assert changed.json()["human_active"] is True
    refusal(place.bot.get("/v1/conversations/c", params={"after": -1}), 422)


def test_a_reply_takes_what_waits_and_is_said_once(place: Place) -> None:
    handoff = place.escalated()
    words = {"text": "hello", "id": "a1"}
    first = place.agent.posted(f"/v1/handoffs/{handoff}/reply", words)
    assert place.agent.posted(f"/v1/handoffs/{handoff}/reply", words) == first
    state = place.agent.got(f"/v1/handoffs/{handoff}")
    assert (state["status"], state["claimed_by"]) == ("claimed", f"{place.name}-agent")
    spoken = [one for one in place.bot.got("/v1/conversations/c")["messages"] if one["agent"]]
    assert [(one["id"], one["agent"], one["text"]) for one in spoken] == [
        ("a1", f"{place.name}-agent", "hello")
    ]
    other = {"text": "something else", "id": "a1"}
    refusal(place.agent.post(f"/v1/handoffs/{handoff}/reply", json=other), 409, "message_differs")
    refusal(place.agent.post(f"/v1/handoffs/{handoff}/reply", json={"text": ""}), 422)
    refusal(place.bot.post(f"/v1/handoffs/{handoff}/reply", json=words), 403)


def test_a_reply_without_an_id_is_said_once_by_its_idempotency_key(place: Place) -> None:
    handoff = place.escalated()
    key = {"Idempotency-Key": "one"}
    path = f"/v1/handoffs/{handoff}/reply"
    first, again = (
        place.agent.post(path, json={"text": "hello"}, headers=key).json() for _ in range(2)
    )
    assert first == again
    assert place.agent.posted(path, {"text": "hello"})["message_id"] != first["message_id"]


def test_nobody_replies_in_anothers_handoff_or_after_its_end(place: Place) -> None:
    handoff = place.escalated()
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    other = place.named_agent("bo")
    path = f"/v1/handoffs/{handoff}/reply"
    refusal(other.post(path, json={"text": "me too"}), 409, "already_claimed")
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    refusal(place.agent.post(path, json={"text": "one more"}), 409, "handoff_over")
    missing = place.agent.post("/v1/handoffs/nowhere/reply", json={"text": "hello"})
    refusal(missing, 404, "no_handoff")


def test_a_handoff_is_assigned_to_a_colleague(place: Place, listen: Listen) -> None:
    ear = listen(place)
    handoff = place.escalated()
    bo = place.named_agent("bo")
    path = f"/v1/handoffs/{handoff}/assign"
    assert place.agent.posted(path, {"user": "bo"})["claimed_by"] == "bo"
    assert place.agent.posted(path, {"user": "bo"})["claimed_by"] == "bo"
    mine = {"user": f"{place.name}-agent"}
    refusal(place.agent.post(path, json=mine), 409, "claimed_by_another")
    assert bo.posted(path, mine)["claimed_by"] == mine["user"]
    refusal(bo.post(path, json={"user": "nobody"}), 422, "unknown_user")
    lead = place.admin.posted("/v1/keys", {"role": "lead", "name": "lee"})
    assert place.service.caller(lead["key"]).posted(path, {"user": "bo"})["claimed_by"] == "bo"
    told = ear.types(4)
    assert told == ["handoff.opened"] + ["handoff.assigned"] * 3
    assert [one.data["by"] for one in ear.heard[1:]] == [f"{place.name}-agent", "bo", "lee"]
    bo.posted(f"/v1/handoffs/{handoff}/return")
    refusal(bo.post(path, json=mine), 409, "handoff_over")


def test_a_policy_is_changed_in_part(place: Place) -> None:
    before = place.engineer.got("/v1/policy")
    answer = place.engineer.patch("/v1/policy", json={"costs": {"missed": 8}})
    after = answer.json()
    assert answer.status_code == 200, answer.text
    assert after["costs"] == before["costs"] | {"missed": 8.0}
    assert {**after, "costs": 0} == {**before, "costs": 0}
    assert place.engineer.got("/v1/policy") == after
    back = place.engineer.patch("/v1/policy", json={"costs": {"missed": None}}).json()
    assert back == before, "null falls back to the default"
    assert [entry["costs"]["missed"] for entry in place.ledger("policy")][1:] == [8.0, 4.0]


@pytest.mark.parametrize("change", [{"cost": {}}, {"costs": {"missed": -1}}, {"costs": 3}])
def test_a_change_that_makes_no_policy_changes_nothing(place: Place, change: Any) -> None:
    before = place.content()
    refusal(place.engineer.patch("/v1/policy", json=change), 422)
    refusal(place.engineer.patch("/v1/policy", json=[change]), 422)
    refusal(place.agent.patch("/v1/policy", json={}), 403)
    assert place.content() == before


def test_two_who_change_the_policy_do_not_overwrite_each_other(place: Place) -> None:
    read = place.engineer.get("/v1/policy")
    based = {"If-Match": read.headers["etag"]}
    first = place.engineer.patch("/v1/policy", json={"claim_seconds": 60}, headers=based)
    assert first.status_code == 200
    late = place.engineer.patch("/v1/policy", json={"claim_seconds": 70}, headers=based)
    refusal(late, 409, "policy_changed")
    refusal(place.engineer.put("/v1/policy", json=read.json(), headers=based), 409)
    again = {"If-Match": first.headers["etag"].strip('"')}  # the position alone will do
    assert place.engineer.put("/v1/policy", json=read.json(), headers=again).status_code == 200


def test_what_jobs_move_is_no_change_by_somebody(service: InProcess, place: Place) -> None:
    tag = place.engineer.get("/v1/policy").headers["etag"]
    with service.baton.store.write() as connection:
        body = dict(entries.newest_policy(connection, place.name)) | {"price": 0.5}
        entries.append(connection, place.name, "policy", body, "jobs")
    assert place.engineer.get("/v1/policy").headers["etag"] == tag
    changed = place.engineer.patch(
        "/v1/policy", json={"claim_seconds": 60}, headers={"If-Match": tag}
    )
    assert (changed.status_code, changed.json()["price"]) == (200, 0.5)
