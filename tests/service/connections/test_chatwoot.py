"""Chatwoot connected: its events are decided about, a person is called there, and what people do
there teaches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.connections import dispatcher
from service.connections.calls import call_sender
from service.connections.inbox.idle_conversations import IdleConversations
from tests import postgres
from tests.connected import Connected, connected_chatwoot, dispatching
from tests.far_sides.chatwoot import SECRET, FakeChatwoot, signed
from tests.far_sides.http_side import serving_side
from tests.service_in_process import ASKS, OTHERS, QUIET, InProcess, Place, refusal, serving
from tests.waiting import until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("chatwoot")) as running:
        yield running


@pytest.fixture
def far() -> Iterator[FakeChatwoot]:
    with serving_side(FakeChatwoot()) as running:
        yield running
        assert running.wrong == []


@pytest.fixture
def desk(place: Place, far: FakeChatwoot) -> Connected:
    return connected_chatwoot(place, far)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_sender, "RETRY_SECONDS", (0.05,) * 20)
    monkeypatch.setattr(call_sender, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(call_sender, "ECHO_SECONDS", 0.5)
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", 0.02)


def test_a_customer_who_asks_for_a_person_is_handed_over_in_order(
    service: InProcess, far: FakeChatwoot, desk: Connected
) -> None:
    far.customer(1, QUIET)
    far.bot(1, "We are open from ten to five")
    with dispatching(service):
        far.customer(1, ASKS)
        desk.delivered()
    there = far.conversation(1)
    assert there.calls == ["toggle_status", "assignments", "toggle_priority", "messages"]
    assert (there.status, there.team) == ("open", 4)
    note = there.messages[-1]
    assert note["private"] is True
    assert "1: what are your opening hours" in note["content"], "what was said, numbered"
    found = desk.transcript(1)
    assert [m["author"] for m in found["messages"]] == ["user", "bot", "user", "system"]
    assert [d["action"] for d in found["decisions"]] == ["continue", "escalate"]
    assert {row["status"] for row in desk.deliveries()} == {"done"}
    assert desk.shown()["failing_since"] is None


def test_our_own_echoes_open_nothing_and_are_never_scored(
    service: InProcess, far: FakeChatwoot, desk: Connected
) -> None:
    with dispatching(service):
        far.customer(1, ASKS)
        desk.delivered()
        (handoff,) = desk.transcript(1)["handoffs"]
        desk.place.agent.posted(f"/v1/handoffs/{handoff['id']}/claim")
        desk.place.agent.posted(f"/v1/handoffs/{handoff['id']}/reply", {"text": "I am Dana"})
        desk.place.agent.posted(f"/v1/handoffs/{handoff['id']}/return")
        desk.delivered()
    there = far.conversation(1)
    assert there.status == "pending"
    assert [m["content"] for m in there.messages if not m["private"]] == [ASKS, "I am Dana"]
    found = desk.transcript(1)
    assert [h["status"] for h in found["handoffs"]] == ["returned"], "no echo opened another"
    assert [m["text"] for m in found["messages"] if m["author"] == "agent"] == ["I am Dana"]
    echoed = {row["call"]: row["echoed_at"] is not None for row in desk.deliveries()}
    assert echoed == {"status": True, "team": False, "priority": False, "note": True, "say": True}


def test_a_person_who_answers_publicly_takes_it_over(
    service: InProcess, far: FakeChatwoot, desk: Connected
) -> None:
    far.customer(1, QUIET)
    with dispatching(service):
        far.person(1, "Hello, this is Ana")
        desk.delivered()
    (handoff,) = desk.transcript(1)["handoffs"]
    assert (handoff["status"], handoff["claimed_by"]) == ("claimed", "Ana")
    assert far.conversation(1).calls == ["toggle_status"], "they need no packet: the bot is silent"
    far.customer(1, "and on monday")
    desk.settled()
    assert desk.transcript(1)["decisions"][-1]["action"] == "human_active"
    far.set_status(1, "pending")
    desk.settled()
    assert desk.transcript(1)["handoffs"][0]["status"] == "returned"


def test_what_opens_it_there_hands_it_over_here(far: FakeChatwoot, desk: Connected) -> None:
    far.customer(1, QUIET)
    far.set_status(1, "open")
    desk.settled()
    (handoff,) = desk.transcript(1)["handoffs"]
    assert (handoff["status"], handoff["opened_by"]) == ("waiting", "bot")
    far.assign(1, "Ana")
    desk.settled()
    (handoff,) = desk.transcript(1)["handoffs"]
    assert (handoff["status"], handoff["claimed_by"]) == ("claimed", "Ana")
    far.set_status(1, "resolved")
    desk.settled()
    found = desk.transcript(1)
    assert (found["handoffs"][0]["status"], found["status"]) == ("resolved", "closed")


def verdicts(desk: Connected, number: int) -> list[tuple[Any, ...]]:
    names = ("verdict", "first_needed_message_id", "agent", "reason")
    rows = desk.transcript(number)["outcomes"]
    return [tuple(row[name] for name in names) for row in rows]


def test_labels_and_notes_are_verdicts_and_a_later_one_corrects(
    service: InProcess, far: FakeChatwoot, desk: Connected
) -> None:
    far.customer(1, QUIET)
    far.customer(1, "it does not work")
    with dispatching(service):
        asked = far.customer(1, ASKS)
        desk.delivered()
    far.assign(1, "Ana")
    far.label(1, "vip", "baton-not-needed")
    desk.settled()
    assert verdicts(desk, 1) == [("not_needed", None, "Ana", "chatwoot label")]
    far.note(1, "she is right\n/baton needed since 3", "Ben")
    desk.settled()
    last = str(asked["id"])
    assert verdicts(desk, 1) == [("needed", last, "Ben", "chatwoot note")]
    entries = desk.place.ledger()
    assert [body["verdict"] for body in entries] == ["not_needed", "needed"]
    far.note(1, "we talked about /baton needed in the meeting")
    desk.settled()
    assert len(desk.place.ledger()) == 2, "only a line of its own is a command"


def test_a_kept_conversation_is_labelled_as_missed(far: FakeChatwoot, desk: Connected) -> None:
    far.customer(1, QUIET)
    far.label(1, "baton-needed")
    desk.settled()
    assert verdicts(desk, 1) == [("missed", None, "Helpdesk", "chatwoot label")]


def test_events_that_come_twice_and_in_disorder_have_one_effect(
    far: FakeChatwoot, desk: Connected
) -> None:
    deliver, held = far.deliver, list[dict[str, Any]]()
    far.deliver = held.append
    for text in OTHERS[:4]:
        far.customer(1, text)
    far.set_status(1, "open")
    far.set_status(1, "pending")
    for event in [*reversed(held), *held]:
        deliver(event)
    desk.settled()
    found = desk.transcript(1)
    said = [m["text"] for m in found["messages"] if m["author"] == "user"]
    assert sorted(said) == sorted(OTHERS[:4])
    assert len(found["decisions"]) == 4
    assert [h["status"] for h in found["handoffs"]] == []
    assert desk.refused() == []


def test_an_edit_is_decided_anew_and_a_removed_message_goes(
    far: FakeChatwoot, desk: Connected
) -> None:
    event = far.customer(1, QUIET)
    same = event | {"event": "message_updated", "updated_at": "2026-01-01T00:00:00Z"}
    far.deliver(same)
    far.deliver(same | {"content": "do you open on sunday", "updated_at": "x"})
    desk.settled()
    texts = [m["text"] for m in desk.transcript(1)["messages"]]
    assert texts == [QUIET, "do you open on sunday"]
    far.deliver(same | {"content_attributes": {"deleted": True}})
    desk.settled()
    assert {m["text"] for m in desk.transcript(1)["messages"] if m["author"] == "user"} == {""}
    assert desk.refused() == []


@pytest.mark.parametrize("fault", ["500", "429", "lost", "slow", "late"])
def test_whatever_a_call_meets_it_has_one_effect(
    service: InProcess, place: Place, fault: str
) -> None:
    with serving_side(FakeChatwoot(lambda n: fault if n in {1, 4, 6} else "ok")) as far:
        desk = connected_chatwoot(place, far)
        with dispatching(service):
            far.customer(1, ASKS)
            until(lambda: far.conversation(1).calls[-1:] == ["messages"], "it is handed over")
            desk.delivered()
    there = far.conversation(1)
    assert (there.status, there.team) == ("open", 4)
    assert [m["private"] for m in there.messages] == [False, True], "one note"
    assert {row["status"] for row in desk.deliveries()} == {"done"}
    assert far.wrong == []


def test_a_reply_is_said_as_it_was_written_and_kept_as_the_policy_redacts_it(
    service: InProcess, far: FakeChatwoot, desk: Connected
) -> None:
    written = "it went back to 5500 0000 0000 0004"
    desk.place.policy(redaction={"kinds": ["card"]})
    with dispatching(service):
        far.customer(1, ASKS)
        desk.delivered()
        (handoff,) = desk.transcript(1)["handoffs"]
        desk.place.agent.posted(f"/v1/handoffs/{handoff['id']}/reply", {"text": written})
        desk.delivered()
        desk.settled()
    assert [m["content"] for m in far.conversation(1).messages].count(written) == 1
    spoken = [m["text"] for m in desk.transcript(1)["messages"] if m["author"] == "agent"]
    assert spoken == ["it went back to [card]"]


@pytest.mark.parametrize("fault", ["500", "lost", "late"])
def test_an_agents_words_are_never_sent_twice_and_doubt_is_told(
    service: InProcess, place: Place, fault: str
) -> None:
    with serving_side(FakeChatwoot()) as far:
        desk = connected_chatwoot(place, far)
        place.admin.posted("/v1/webhooks", {"url": far.url + "/x", "types": ["connection.failing"]})
        with dispatching(service):
            far.customer(1, ASKS)
            desk.delivered()
            (handoff,) = desk.transcript(1)["handoffs"]
            far.deliver = lambda _: None  # its echo is lost, too
            far.behaviour = lambda _: fault
            place.agent.posted(f"/v1/handoffs/{handoff['id']}/reply", {"text": "one moment"})
            until(lambda: desk.shown()["deliveries"].get("uncertain"), "it is raised")
            far.behaviour = lambda _: "ok"
    said = [m for m in far.conversation(1).messages if m["content"] == "one moment"]
    assert len(said) <= 1
    shown = desk.shown()
    assert (shown["state"], shown["failing_since"] is not None) == ("failing", True)
    assert "whether it came is not known" in shown["failure"]


def test_an_echo_settles_what_was_uncertain(service: InProcess, place: Place) -> None:
    with serving_side(FakeChatwoot()) as far:
        desk = connected_chatwoot(place, far)
        with dispatching(service):
            far.customer(1, ASKS)
            desk.delivered()
            (handoff,) = desk.transcript(1)["handoffs"]
            far.behaviour = lambda _: "lost"
            place.agent.posted(f"/v1/handoffs/{handoff['id']}/reply", {"text": "one moment"})
            said = lambda row: (row["call"], row["status"]) == ("say", "done")  # noqa: E731
            until(lambda: any(map(said, desk.deliveries())), "its echo came")
    assert [m["content"] for m in far.conversation(1).messages].count("one moment") == 1


def test_what_the_far_side_refuses_for_good_ends_with_an_alarm_and_the_handoff_stays(
    service: InProcess, place: Place
) -> None:
    with serving_side(FakeChatwoot()) as far:
        desk = connected_chatwoot(place, far, api_access_token="wrong")
        with dispatching(service):
            far.customer(1, ASKS)
            desk.delivered()
            assert {row["status"] for row in desk.deliveries()} == {"failed"}
            assert "it answered 401" in desk.shown()["failure"]
            assert [h["status"] for h in desk.transcript(1)["handoffs"]] == ["waiting"]
            config = {"api_access_token": "bot-token-1"}
            place.admin.patch(f"/v1/connections/{desk.id}", json={"config": config})
            for row in desk.deliveries():
                path = f"/v1/connections/{desk.id}/deliveries/{row['id']}/resend"
                place.admin.posted(path)
            desk.delivered()
    assert far.conversation(1).status == "open"
    assert (desk.shown()["state"], desk.shown()["failing_since"]) == ("on", None), "well again"


def test_only_what_is_signed_lately_by_this_secret_is_taken(
    far: FakeChatwoot, desk: Connected
) -> None:
    held: list[dict[str, Any]] = []
    far.deliver = held.append
    far.customer(1, QUIET)
    body = json.dumps(held[0]).encode()
    good = signed(body)
    stamp = int(good["X-Chatwoot-Timestamp"])
    for headers in (
        {},
        signed(body, "another"),
        signed(body, at=stamp - 301),
        signed(body, at=stamp + 60),
        signed(body + b" "),
        good | {"X-Chatwoot-Signature": "sha256="},
        good | {"X-Chatwoot-Timestamp": "soon"},
    ):
        refusal(desk.post(body, headers), 401, "not_verified")
    refusal(desk.post(b"[]", signed(b"[]")), 422, "not_understood")
    assert desk.shown()["heard_at"] is None, "what is refused leaves nothing behind"
    assert desk.post(body, good).json() == {"received": 1}
    assert desk.post(body, good).json() == {"received": 0}


def test_a_secret_that_rotates_verifies_for_a_day_more(far: FakeChatwoot, desk: Connected) -> None:
    change = {"config": {"webhook_secret": "hook-secret-2"}}
    desk.place.admin.patch(f"/v1/connections/{desk.id}", json=change)
    for secret, name in ((SECRET, "old"), ("hook-secret-2", "new")):
        event = far.customer(1, f"{QUIET} {name}") if name == "old" else {"event": "x"}
        body = json.dumps(event).encode()
        assert desk.post(body, signed(body, secret)).status_code == 200
    refusal(desk.post(b"{}", signed(b"{}", "hook-secret-3")), 401)


def test_a_connection_that_is_off_or_gone_hears_nothing(
    far: FakeChatwoot, desk: Connected, service: InProcess
) -> None:
    admin = desk.place.admin
    admin.patch(f"/v1/connections/{desk.id}", json={"enabled": False})
    refusal(desk.post(b"{}", signed(b"{}")), 404, "no_connection")
    admin.patch(f"/v1/connections/{desk.id}", json={"enabled": True})
    assert desk.post(b"{}", signed(b"{}")).status_code == 200
    other = service.workspace()
    refusal(other.admin.delete(f"/v1/connections/{desk.id}"), 404, "no_connection")
    assert other.admin.got("/v1/connections") == {"connections": []}
    admin.delete(f"/v1/connections/{desk.id}")
    refusal(desk.post(b"{}", signed(b"{}")), 404, "no_connection")


def test_what_nobody_ends_there_is_closed_by_our_clock(
    service: InProcess, far: FakeChatwoot, desk: Connected
) -> None:
    far.customer(1, QUIET)
    far.customer(2, ASKS)
    desk.settled()
    clock = IdleConversations(service.baton.store)
    clock.close()
    assert desk.transcript(1)["status"] == "open", "a day has yet to pass"
    config = {"idle_hours": 1e-6}
    desk.place.admin.patch(f"/v1/connections/{desk.id}", json={"config": config})
    with service.baton.store.write() as connection:
        connection.exec_driver_sql("UPDATE conversation_link SET heard_at = heard_at - 700")
    clock.close()
    found = desk.transcript(1)
    assert (found["status"], found["resolution"]) == ("closed", "unknown")
    assert desk.transcript(2)["status"] == "open", "a person is waited for"


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_hostile_text_is_stored_and_decided_about(store: str, tmp_path: Path) -> None:
    with (
        postgres.store(store, tmp_path) as url,
        serving(tmp_path, **({"database": url} if store == "postgresql" else {})) as service,
        serving_side(FakeChatwoot()) as far,
    ):
        desk = connected_chatwoot(service.workspace(), far)
        deep: Any = "x"
        for _ in range(200):
            deep = [deep]
        for text in ("a\x00b \ud800 half", "\\u0000 {x}", "\u202egnp", "x" * 30_000):
            far.customer(1, text, additional_attributes={"deep": deep, "n": float("nan")})
        desk.settled()
        texts = [m["text"] for m in desk.transcript(1)["messages"]]
        assert desk.refused() == []
    assert far.wrong == []
    assert texts[:3] == ["ab ? half", "\\u0000 {x}", "\u202egnp"]
    assert len(texts[3]) == 20_000


def test_secrets_are_never_shown_and_configuration_is_checked(place: Place) -> None:
    config = {"base_url": "http://127.0.0.1:1", "account_id": 1, "webhook_secret": "s3cret-value"}
    made = place.admin.posted(
        "/v1/connections", {"kind": "chatwoot", "name": "A", "config": config}
    )
    assert made["secrets"] == ["webhook_secret"]
    assert "s3cret-value" not in json.dumps(made) + place.admin.get("/v1/connections").text
    asked = {"kind": "chatwoot", "name": "B", "config": config}
    for changed, field in (
        ({"account_id": "x"}, "config.account_id"),
        ({"surprise": 1}, "config.surprise"),
        ({"base_url": "http://169.254.169.254"}, "config.base_url"),
        ({"webhook_secret": "env:HOME"}, "config.webhook_secret"),
        ({"webhook_secret": "file:../../etc/passwd"}, "config.webhook_secret"),
    ):
        answer = place.admin.post("/v1/connections", json=asked | {"config": config | changed})
        assert refusal(answer, 422)["field"] == field
    refusal(place.admin.post("/v1/connections", json=asked | {"name": "A"}), 409)
    refusal(place.agent.get("/v1/connections"), 403)
