"""Webhooks: what happened is sent, signed, until it came; nothing is lost, whoever fails."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from service.connections import dispatcher
from service.connections.http.addresses import (
    AddressPolicy,
    ForbiddenAddressError,
    check_url,
    resolve,
)
from service.connections.webhooks import delivery_attempt
from service.connections.webhooks.delivery_attempt import Attempt, next_due
from service.runtime.sealing import Sealer, UnsealError
from service.runtime.settings import SettingError, Settings
from service.store.database.transactions import table
from service.store.tables import Delivery, OutboxEvent
from tests import postgres
from tests.far_side import FarSide, far_side
from tests.service_in_process import ASKS, InProcess, Place, at_once, refusal, serving
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("BATON_TEST_KILLS", "5"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("webhooks")) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


@pytest.fixture
def far() -> Iterator[FarSide]:
    with far_side() as far:
        yield far


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_attempt, "RETRY_SECONDS", (0.05,) * 20)
    monkeypatch.setattr(delivery_attempt, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", 0.02)


@contextmanager
def dispatching(service: InProcess, is_active: Callable[[], bool] = lambda: True) -> Iterator[None]:
    stop = threading.Event()
    sender = dispatcher.Dispatcher(service.baton.store, service.baton.settings)
    thread = threading.Thread(target=sender.run, args=(stop, is_active))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive()


def subscribed(place: Place, far: FarSide, path: str = "/hook", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = place.admin.posted("/v1/webhooks", {"url": far.url + path} | more)
    far.secrets.append(made["secret"])
    return made


def deliveries(place: Place, made: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    found = place.admin.got(f"/v1/webhooks/{made['id']}/deliveries{query}")["deliveries"]
    return list(found)


def all_done(place: Place, made: dict[str, Any], count: int) -> bool:
    rows = deliveries(place, made, "?limit=1000")
    return len(rows) >= count and {row["status"] for row in rows} == {"done"}


def test_what_happens_to_a_handoff_is_sent_signed_and_in_full(
    service: InProcess, place: Place, far: FarSide
) -> None:
    made = subscribed(place, far)
    handoff = place.escalated()
    place.agent.posted(f"/v1/handoffs/{handoff}/reply", {"text": "I look into it"})
    outcome = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    place.agent.put(f"/v1/outcomes/{outcome['id']}", json={"verdict": "not_needed"})
    place.agent.delete(f"/v1/outcomes/{outcome['id']}")
    place.agent.posted(f"/v1/handoffs/{handoff}/resolve")
    place.engineer.posted("/v1/versions/1/promote")
    with dispatching(service):
        until(lambda: all_done(place, made, 9), "all came")
    assert far.wrong == []
    assert sorted(event.type for event, _ in far.came) == [
        "decision.escalated",
        "handoff.claimed",
        "handoff.opened",
        "handoff.resolved",
        "message.agent",
        "outcome.corrected",
        "outcome.recorded",
        "outcome.retracted",
        "version.switched",
    ]
    by_type = {event.type: event.data for event, _ in far.came}
    assert by_type["handoff.opened"]["conversation_id"] == "c"
    assert by_type["handoff.opened"]["handoff_id"] == handoff
    assert by_type["message.agent"]["agent"] == f"{place.name}-agent"
    assert by_type["outcome.corrected"]["verdict"] == "not_needed"
    body = str([body for _, body in far.came])
    assert "I look into it" not in body, "texts go only where they are asked for"
    assert ASKS not in body
    (listed,) = place.admin.got("/v1/webhooks")["webhooks"]
    assert listed["deliveries"] == {"done": 9}
    assert "secret" not in listed


def test_only_the_types_asked_for_are_sent_and_text_where_it_is_asked_for(
    service: InProcess, place: Place, far: FarSide
) -> None:
    subscribed(place, far, types=["message.agent"], with_text=True)
    handoff = place.escalated()
    place.agent.posted(f"/v1/handoffs/{handoff}/reply", {"text": "I look into it"})
    place.agent.posted(f"/v1/handoffs/{handoff}/reply", {"text": "é" * 15_000})
    with dispatching(service):
        until(lambda: len(far.accepted) == 2, "both came")
    texts = {event.data["text"] for event, _ in far.came}
    assert texts == {"I look into it", None}
    assert {event.type for event, _ in far.came} == {"message.agent"}
    assert max(len(body) for _, body in far.came) <= delivery_attempt.BODY_BYTES_MAX


def test_nothing_of_another_workspace_is_sent(
    service: InProcess, place: Place, far: FarSide
) -> None:
    subscribed(place, far, types=["handoff.opened"])
    other = service.workspace()
    other.escalated("theirs")
    place.escalated("ours")
    with dispatching(service):
        until(lambda: far.accepted, "ours came")
        theirs = other.admin.got("/v1/webhooks")["webhooks"]
    assert [event.data["conversation_id"] for event, _ in far.came] == ["ours"]
    assert theirs == []


@pytest.mark.parametrize("fault", ["500", "429", "redirect", "lost", "slow", "drip"])
def test_what_did_not_come_is_sent_again_under_the_same_id(
    service: InProcess, place: Place, fault: str
) -> None:
    with far_side(lambda number: fault if number <= 2 else "ok") as far:
        made = subscribed(place, far, types=["handoff.opened"])
        place.escalated()
        with dispatching(service):
            until(lambda: all_done(place, made, 1), "it came")
    assert far.wrong == []
    assert len(far.came) == 3
    assert len({event.id for event, _ in far.came}) == 1
    assert len({body for _, body in far.came}) == 1, "a repeat says the same"
    (row,) = deliveries(place, made)
    assert (row["attempts"], row["http_status"], row["error"]) == (3, 204, None)


def test_a_slow_far_side_holds_up_no_other(service: InProcess, place: Place, far: FarSide) -> None:
    with far_side(lambda _: "slow") as slow:
        subscribed(place, slow, types=["handoff.opened"])
        made = subscribed(place, far, types=["handoff.opened"])
        for number in range(12):
            place.escalated(f"c{number}")
        with dispatching(service):
            until(lambda: all_done(place, made, 12), "all came to the quick one")
    assert len(slow.accepted) == 0


def test_what_fails_for_good_is_listed_and_sent_again_when_told(
    service: InProcess, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_attempt, "RETRY_SECONDS", (0.01, 0.01))
    mended = threading.Event()
    with far_side(lambda _: "ok" if mended.is_set() else "500") as far:
        made = subscribed(place, far, types=["handoff.opened"])
        place.escalated()
        with dispatching(service):
            until(lambda: deliveries(place, made, "?status=failed"), "it failed")
            (row,) = deliveries(place, made)
            assert (row["attempts"], row["http_status"]) == (3, 500)
            assert row["error"] == "it answered 500"
            mended.set()
            again = place.admin.posted(f"/v1/deliveries/{row['id']}/resend")
            assert (again["status"], again["attempts"]) == ("waiting", 0)
            until(lambda: all_done(place, made, 1), "it came")
    assert len({event.id for event, _ in far.came}) == 1


def test_410_ends_a_webhook_until_its_secret_is_rotated(service: InProcess, place: Place) -> None:
    gone = threading.Event()
    gone.set()
    with far_side(lambda _: "410" if gone.is_set() else "ok") as far:
        made = subscribed(place, far, types=["handoff.opened"])
        place.escalated("c1")
        with dispatching(service):
            until(lambda: deliveries(place, made, "?status=failed"), "it is over")
            (listed,) = place.admin.got("/v1/webhooks")["webhooks"]
            assert "410" in listed["disabled_why"]
            place.escalated("c2")
            gone.clear()
            rotated = place.admin.posted(f"/v1/webhooks/{made['id']}/rotate")
            assert rotated["disabled_at"] is None
            far.secrets.insert(0, rotated["secret"])
            place.escalated("c3")
            until(
                lambda: (
                    far.accepted
                    and "c3" in [event.data["conversation_id"] for event, _ in far.came]
                ),
                "it is sent to again",
            )


def test_while_a_secret_rotates_both_sign(service: InProcess, place: Place, far: FarSide) -> None:
    made = subscribed(place, far, types=["handoff.opened"])
    rotated = place.admin.posted(f"/v1/webhooks/{made['id']}/rotate")
    assert rotated["secret"] != made["secret"]
    place.escalated("c1")
    with dispatching(service):
        until(lambda: len(far.accepted) == 1, "the old secret still verifies")
        far.secrets[:] = [rotated["secret"]]
        place.escalated("c2")
        until(lambda: len(far.accepted) == 2, "so does the new one")
    assert far.wrong == []


def test_a_refused_request_leaves_no_event(service: InProcess, place: Place) -> None:
    def events() -> int:
        rows = table(OutboxEvent)
        with service.baton.store.read() as connection:
            query = select(func.count()).select_from(rows).where(rows.c.workspace == place.name)
            found: int = connection.execute(query).scalar_one()
            return found

    handoff = place.escalated()
    before = events()
    other = place.named_agent("bo")
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    refusal(other.post(f"/v1/handoffs/{handoff}/claim"), 409)
    refusal(other.post(f"/v1/handoffs/{handoff}/return"), 409)
    place.bot.score("c", "c-asks", ASKS)
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    assert events() == before + 1, "one claim, whatever was repeated or refused"


def test_who_does_not_lead_sends_nothing(service: InProcess, place: Place, far: FarSide) -> None:
    made = subscribed(place, far, types=["handoff.opened"])
    place.escalated()
    looks: list[bool] = []
    with dispatching(service, lambda: looks.append(True) or False):
        until(lambda: len(looks) > 3, "it has looked whether it leads")
    assert (far.came, deliveries(place, made)) == ([], [])


def test_a_webhook_is_an_admins_and_its_url_is_one_that_may_be_called(
    place: Place, far: FarSide
) -> None:
    made = subscribed(place, far)
    for caller in (place.bot, place.agent, place.engineer):
        refusal(caller.get("/v1/webhooks"), 403)
        refusal(caller.post("/v1/webhooks", json={"url": far.url}), 403)
    again = place.admin.post("/v1/webhooks", json={"url": f"{far.url}/hook"})
    refusal(again, 409, "webhook_exists")
    for url in ("ftp://x.org/", "x", "http://", "http://169.254.169.254/latest", "http://10.0.0.1"):
        refusal(place.admin.post("/v1/webhooks", json={"url": url}), 422, "forbidden_url")
    refusal(place.admin.post("/v1/webhooks", json={"url": far.url, "types": ["x"]}), 422)
    assert place.admin.delete(f"/v1/webhooks/{made['id']}").json() == {"id": made["id"]}
    refusal(place.admin.get(f"/v1/webhooks/{made['id']}/deliveries"), 404, "no_webhook")
    refusal(place.admin.post("/v1/deliveries/none/resend"), 404, "no_delivery")


def test_a_workspace_has_no_more_webhooks_than_the_limit(place: Place, far: FarSide) -> None:
    answers = [place.admin.post("/v1/webhooks", json={"url": f"{far.url}/{n}"}) for n in range(21)]
    assert {answer.status_code for answer in answers[:20]} == {200}
    refusal(answers[20], 422, "too_many_webhooks")


def test_two_who_make_one_webhook_make_one(place: Place, far: FarSide) -> None:
    answers = at_once(4, lambda _: place.admin.post("/v1/webhooks", json={"url": far.url}))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]


def test_the_secret_is_in_no_row_in_plain(service: InProcess, place: Place, far: FarSide) -> None:
    made = subscribed(place, far)
    stored = b"".join(
        path.read_bytes() for path in service.baton.settings.home.glob("baton.sqlite3*")
    )
    assert made["secret"].removeprefix("whsec_").encode() not in stored


def test_secrets_are_unsealed_by_the_same_key_alone(tmp_path: Path) -> None:
    one, other = Settings(home=tmp_path), Settings(home=tmp_path, secret_key="another")
    sealed = Sealer.of(one).seal("whsec_x")
    assert Sealer.of(one).unseal(sealed) == "whsec_x"
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0
    with pytest.raises(UnsealError, match="BATON_SECRET_KEY"):
        Sealer.of(other).unseal(sealed)
    assert "another" not in repr(other)


def test_processes_that_make_the_key_at_once_make_one(tmp_path: Path) -> None:
    sealers = at_once(8, lambda _: Sealer.of(Settings(home=tmp_path / "home")))
    sealed = sealers[0].seal("x")
    assert {sealer.unseal(sealed) for sealer in sealers} == {"x"}


def test_a_delivery_whose_secret_cannot_be_read_says_what_to_do(
    service: InProcess, place: Place, far: FarSide
) -> None:
    made = subscribed(place, far, types=["handoff.opened"])
    place.escalated()
    elsewhere = Settings(home=service.baton.settings.home, secret_key="another")
    stop = threading.Event()
    sender = dispatcher.Dispatcher(service.baton.store, elsewhere)
    thread = threading.Thread(target=sender.run, args=(stop, lambda: True))
    thread.start()
    try:
        until(lambda: any(row["error"] for row in deliveries(place, made)), "it says why")
    finally:
        stop.set()
        thread.join(LIMIT_SECONDS)
    assert "BATON_SECRET_KEY" in deliveries(place, made)[0]["error"]
    assert far.came == []


LOOPBACK = AddressPolicy(loopback=True, private=False)
PUBLIC = AddressPolicy(loopback=False, private=False)
PRIVATE = AddressPolicy(loopback=True, private=True)


@pytest.mark.parametrize(
    "url,allowed",
    [
        ("http://127.0.0.1/", (LOOPBACK, PRIVATE)),
        ("http://localhost:8080/x", (LOOPBACK, PRIVATE)),
        ("http://[::1]/", (LOOPBACK, PRIVATE)),
        ("http://[::ffff:127.0.0.1]/", (LOOPBACK, PRIVATE)),
        ("http://192.168.1.1/", (PRIVATE,)),
        ("http://[fd00::1]/", (PRIVATE,)),
        ("http://100.64.0.1/", (PRIVATE,)),
        ("http://169.254.169.254/", ()),
        ("http://[fe80::1]/", ()),
        ("http://[::ffff:169.254.169.254]/", ()),
        ("http://0.0.0.0/", ()),
        ("http://224.0.0.1/", ()),
        ("https://93.184.216.34/hook", (LOOPBACK, PUBLIC, PRIVATE)),
        ("https://user:word@example.com/", ()),
        ("file:///etc/passwd", ()),
        ("gopher://x/", ()),
        ("//x", ()),
    ],
)
def test_where_baton_may_call(url: str, allowed: tuple[AddressPolicy, ...]) -> None:
    for policy in (LOOPBACK, PUBLIC, PRIVATE):
        try:
            check_url(url, policy)
        except ForbiddenAddressError:
            assert policy not in allowed
        else:
            assert policy in allowed


def test_a_name_is_judged_by_the_address_it_has_when_it_is_called() -> None:
    assert resolve(httpx.URL("http://localhost/"), LOOPBACK) in ("127.0.0.1", "::1")
    with pytest.raises(ForbiddenAddressError, match="BATON_CONNECT_PRIVATE"):
        resolve(httpx.URL("http://localhost/"), PUBLIC)


def test_a_name_that_leads_to_loopback_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(_host: str, port: int, **_more: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in ("93.184.216.34", "127.0.0.1")]

    monkeypatch.setattr("service.connections.http.addresses.socket.getaddrinfo", looked_up)
    with pytest.raises(ForbiddenAddressError):
        resolve(httpx.URL("http://rebinding.example/"), LOOPBACK)
    assert resolve(httpx.URL("http://own.example/"), PRIVATE) == "93.184.216.34"


def test_loopback_is_called_by_who_listens_on_loopback() -> None:
    assert AddressPolicy.of(Settings(host="127.0.0.1")) == LOOPBACK
    assert AddressPolicy.of(Settings(host="0.0.0.0")) == PUBLIC
    assert AddressPolicy.of(Settings(host="0.0.0.0", connect_private=True)) == PRIVATE
    chosen = Settings.from_environ({"BATON_CONNECT_PRIVATE": "true"})
    assert chosen.connect_private is True
    with pytest.raises(SettingError, match="BATON_CONNECT_PRIVATE"):
        Settings.from_environ({"BATON_CONNECT_PRIVATE": "maybe"})


def test_retries_come_later_and_later_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    chance, failed = random.Random(3), Attempt("retry", 500)
    dues = [next_due(n, failed, 0.0, chance) for n in range(1, 11)]
    assert dues[-1] is None
    waits = [due for due in dues if due is not None]
    assert len(waits) == 9
    assert 4.5 <= waits[0] <= 5.5
    assert waits == sorted(waits)
    asked = Attempt("retry", 429, retry_after=600.0)
    assert next_due(1, asked, 0.0, chance) == 600.0


@pytest.mark.soak
@pytest.mark.parametrize("kind", postgres.ONE)
def test_after_kills_at_any_instant_every_event_came_and_each_is_one(
    kind: str, tmp_path: Path
) -> None:
    """A score of kills of the dispatcher, against a far side that fails half of the time."""
    chance = random.Random(15)
    faults = ("ok", "ok", "ok", "lost", "500", "429", "slow", "redirect")
    with (
        postgres.store(kind, tmp_path) as url,
        serving(tmp_path, **({"database": url} if kind == "postgresql" else {})) as service,
        far_side(lambda _: chance.choice(faults)) as far,
    ):
        place = service.default()
        made = subscribed(place, far)
        command = [sys.executable, "-m", "tests.dispatching", str(tmp_path)]
        command += [url] if kind == "postgresql" else []
        for number in range(KILLS):
            handoff = place.escalated(f"c{number}")
            place.agent.posted(f"/v1/handoffs/{handoff}/claim")
            heard = len(far.came)
            process = subprocess.Popen(command, cwd=ROOT)
            try:
                until(lambda heard=heard: len(far.came) > heard, "something is sent")
                time.sleep(0.1 * chance.random())
            finally:
                process.kill()
                process.wait(LIMIT_SECONDS)
        far.behaviour = lambda _: "ok"
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            until(lambda: all_done(place, made, 3 * KILLS), "all came")
        finally:
            process.kill()
            process.wait(LIMIT_SECONDS)
        with service.baton.store.read() as connection:
            rows = table(OutboxEvent)
            written = set(connection.execute(select(rows.c.id)).scalars())
            sent = list(connection.execute(select(table(Delivery).c.event_id)).scalars())
    assert far.wrong == []
    assert len(written) == 3 * KILLS
    assert written == set(far.accepted), "nothing lost, and nothing that did not happen"
    assert sorted(sent) == sorted(written), "one delivery of each"
    bodies: dict[str, set[bytes]] = {}
    for event, body in far.came:
        bodies.setdefault(event.id, set()).add(body)
    assert {len(said) for said in bodies.values()} == {1}, "whatever is repeated says the same"
