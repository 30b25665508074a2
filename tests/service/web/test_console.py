"""The console: sessions, forms, headers, files; and what it asks for when the queue is long."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from service.runtime.errors import TooManyAttempts
from service.store import access
from service.store.database.transactions import Store
from service.web.access import sessions
from service.web.access.keys import hashed
from service.web.console.routes import HEADERS
from service.web.event_stream import broadcast
from tests.postgres import on_both
from tests.service.web.pages import SIGN_IN, sign_in, token
from tests.service.web.test_events import Following
from tests.service_in_process import ASKS, InProcess, Place, serving
from tests.work import Asked, asked

QUEUE = "/console/queue"

store_url = on_both("function")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture(autouse=True)
def _unsuspected(request: pytest.FixtureRequest) -> None:
    """All tests come from one address: none waits for what another has guessed."""
    if "service" in request.fixturenames:
        running: InProcess = request.getfixturevalue("service")
        running.app.state.failures = sessions.SignInFailures()


# Sessions


def test_a_session_is_known_by_its_cookies_hash_alone(service: InProcess, place: Place) -> None:
    browser = sign_in(service, place.keys["agent"])
    cookie = browser.cookies["baton"]
    stored = b"".join(path.read_bytes() for path in service.baton.settings.home.glob("*.sqlite3*"))
    assert hashed(cookie).encode() in stored
    assert cookie.encode() not in stored
    assert token(browser.get(QUEUE)) not in stored.decode("latin-1")


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(
    service: InProcess, place: Place
) -> None:
    browser = service.caller()
    given = {"token": token(browser.get(SIGN_IN)), "key": place.keys["agent"]}
    cookie = browser.post(SIGN_IN, data=given).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert f"Max-Age={sessions.SESSION_SECONDS}" in cookie
    assert "Secure" not in cookie


def test_over_https_the_cookie_is_for_this_host_and_encrypted_only(
    service: InProcess, place: Place
) -> None:
    browser = service.caller()
    proxied = {"X-Forwarded-Proto": "https"}
    form = browser.get(SIGN_IN, headers=proxied)
    cookie = form.headers["set-cookie"].partition(";")[0]
    given = {"token": token(form), "key": place.keys["agent"]}
    answer = browser.post(SIGN_IN, data=given, headers=proxied | {"Cookie": cookie})
    assert answer.headers["set-cookie"].startswith("__Host-baton=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "Path=/" in answer.headers["set-cookie"]


def test_signing_in_begins_a_new_session_whatever_cookie_was_there(
    service: InProcess, place: Place
) -> None:
    browser = service.caller()
    form = browser.get(SIGN_IN)
    before = browser.cookies["baton"]
    browser.post(SIGN_IN, data={"token": token(form), "key": place.keys["agent"]})
    assert browser.cookies["baton"] != before
    stranger = service.caller()
    stranger.cookies.set("baton", before)
    assert stranger.get(QUEUE).status_code == 303


@pytest.mark.parametrize("role", ["agent", "engineer", "admin"])
def test_agents_and_those_above_them_sign_in(service: InProcess, place: Place, role: str) -> None:
    page = sign_in(service, place.keys[role]).get(QUEUE)
    assert page.status_code == 200
    assert f"{place.name}-{role}" in page.text


def test_signing_out_ends_the_session_for_whoever_has_the_cookie(
    service: InProcess, place: Place
) -> None:
    browser = sign_in(service, place.keys["agent"])
    thief = service.caller()
    thief.cookies.set("baton", browser.cookies["baton"])
    assert thief.get(QUEUE).status_code == 200
    page = browser.get(QUEUE)
    browser.post("/console/sign-out", data={"token": token(page)})
    assert browser.get(QUEUE).status_code == 303
    assert thief.get(QUEUE).status_code == 303


def test_revoking_a_key_ends_its_sessions_and_what_they_hear(
    service: InProcess, place: Place, monkeypatch: Any
) -> None:
    monkeypatch.setattr(broadcast, "CHECK_SECONDS", 0.2)
    made = place.admin.posted("/v1/keys", {"role": "agent", "name": "ann"})
    browser = sign_in(service, made["key"])
    with browser.stream("GET", "/v1/events") as answer:
        assert answer.status_code == 200
        events = Following(answer)
        events.next()
        place.admin.delete(f"/v1/keys/{made['id']}")
        assert events.ends()
    assert browser.get(QUEUE).status_code == 303
    assert browser.get("/v1/events").status_code == 401


def test_every_process_knows_a_session_and_its_end(service: InProcess, place: Place) -> None:
    browser = sign_in(service, place.keys["agent"])
    with serving(service.baton.settings.home) as other:
        there = other.caller()
        there.cookies.set("baton", browser.cookies["baton"])
        page = there.get(QUEUE)
        assert page.status_code == 200
        browser.post("/console/sign-out", data={"token": token(page)})
        assert there.get(QUEUE).status_code == 303


def test_a_session_ends_after_a_working_day(service: InProcess, place: Place) -> None:
    browser = sign_in(service, place.keys["agent"])
    with closing(sqlite3.connect(service.baton.settings.home / "baton.sqlite3")) as connection:
        connection.execute("UPDATE session SET expires_at = ?", (time.time() - 1,))
        connection.commit()
    assert browser.get(QUEUE).status_code == 303


def test_a_key_has_so_many_sessions_and_those_that_are_over_are_forgotten(store_url: str) -> None:
    store = Store(store_url)
    store.migrate()
    try:
        with store.write() as connection:
            for number in range(5):
                row = {"hash": f"h{number}", "key_id": "k", "created_at": number, "expires_at": 100}
                access.add_session(connection, row, 3)
        with store.read() as connection:
            kept = [n for n in range(5) if access.live_sessions(connection, [f"h{n}"], 1.0)]
            assert kept == []  # no such key
            assert stored(connection) == ["h2", "h3", "h4"]
        with store.write() as connection:
            access.delete_sessions(connection, 101.0)
            assert stored(connection) == []
    finally:
        store.close()


def stored(connection: Any) -> list[str]:
    return sorted(connection.exec_driver_sql("SELECT hash FROM session").scalars())


@pytest.mark.parametrize("cookie", ["", "x", "x" * 5000, "%00", "bk_x"])
def test_a_cookie_that_is_none_asks_to_sign_in(service: InProcess, cookie: str) -> None:
    answer = service.caller().get(QUEUE, headers={"Cookie": f"baton={cookie}"})
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"{SIGN_IN}?next=%2Fconsole%2Fqueue",
    )


# Trying keys


def test_wrong_keys_are_counted_by_address_and_then_it_has_to_wait(
    service: InProcess, place: Place
) -> None:
    browser = service.caller()
    given = {"token": token(browser.get(SIGN_IN)), "key": "bk_guessed"}
    for _ in range(sessions.FAILURES_MAX):
        answer = browser.post(SIGN_IN, data=given)
        assert answer.status_code == 401
        given["token"] = token(answer)
    answer = browser.post(SIGN_IN, data=given)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    given |= {"key": place.keys["agent"], "token": token(answer)}
    assert browser.post(SIGN_IN, data=given).status_code == 303, "whoever has a key is not kept out"


@pytest.mark.parametrize(
    "target",
    ["/console/../v1/keys", "/console/..%2fx", "/console/%2e%2e/x", "//evil.example", "/v1/keys"],
)
def test_signing_in_leads_to_no_page_outside_the_console(
    service: InProcess, place: Place, target: str
) -> None:
    browser = service.caller()
    given = {"token": token(browser.get(SIGN_IN)), "key": place.keys["agent"], "next": target}
    assert browser.post(SIGN_IN, data=given).headers["location"] == QUEUE


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/healthz", "/v1/handoffs"])
def test_no_answer_is_guessed_at_or_framed(service: InProcess, path: str) -> None:
    headers = service.caller().get(path).headers
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


def test_an_address_is_forgiven_in_time_and_few_are_remembered() -> None:
    failures = sessions.SignInFailures()
    for _ in range(sessions.FAILURES_MAX):
        failures.count("a", 0.0)
    with pytest.raises(TooManyAttempts):
        failures.check("a", 1.0)
    failures.check("a", 1.0 + sessions.FAILURES_SECONDS)
    failures.check("b", 1.0)
    for number in range(5000):
        failures.count(str(number), 1.0)
    failures.check("a", 2.0)


# Forms


def test_every_form_carries_the_token_of_its_session(service: InProcess, place: Place) -> None:
    place.bot.decided("c", "m1", ASKS)
    browser = sign_in(service, place.keys["agent"])
    handoff = place.agent.got("/v1/handoffs")["handoffs"][0]["id"]
    for path in (QUEUE, f"/console/handoffs/{handoff}", SIGN_IN):
        page = (service.caller() if path == SIGN_IN else browser).get(path).text
        forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", page, flags=re.DOTALL)
        assert forms
        assert [form for form in forms if 'name="token"' not in form] == []


@pytest.mark.parametrize("given", [{}, {"token": ""}, {"token": "0" * 64}, {"token": "é"}])
def test_a_form_without_its_token_changes_nothing(
    service: InProcess, place: Place, given: dict[str, str]
) -> None:
    handoff = place.bot.decided("c", "m1", ASKS)["handoff"]["id"]
    browser = sign_in(service, place.keys["agent"])
    for path in (f"/console/handoffs/{handoff}/claim", "/console/sign-out"):
        answer = browser.post(path, data=given)
        assert answer.status_code == 403
        assert "was not sent from a page of this session" in answer.text
    assert place.agent.got(f"/v1/handoffs/{handoff}")["status"] == "waiting"
    assert browser.get(QUEUE).status_code == 200


def test_another_sites_form_is_refused_even_with_the_token(
    service: InProcess, place: Place
) -> None:
    browser = sign_in(service, place.keys["agent"])
    given = {"token": token(browser.get(QUEUE))}
    foreign = {"Sec-Fetch-Site": "cross-site"}
    answer = browser.post("/console/sign-out", data=given, headers=foreign)
    assert answer.status_code == 403
    other = sign_in(service, place.keys["engineer"])
    assert other.post("/console/sign-out", data=given).status_code == 403


@pytest.mark.parametrize(
    "asked",
    ["https://evil.example/", "//evil.example", "/console/\\evil", "javascript:x", "/v1/events"],
)
def test_signing_in_leads_to_pages_of_the_console_only(
    service: InProcess, place: Place, asked: str
) -> None:
    browser = service.caller()
    given = {"token": token(browser.get(SIGN_IN)), "key": place.keys["agent"], "next": asked}
    assert browser.post(SIGN_IN, data=given).headers["location"] == QUEUE


# Pages and files


def test_every_answer_tells_browsers_how_little_it_may_do(service: InProcess, place: Place) -> None:
    browser = sign_in(service, place.keys["agent"])
    style = re.search(r'href="(/console/static/[^"]+css)"', browser.get(QUEUE).text)
    assert style
    for path in (QUEUE, SIGN_IN, style[1], "/console/nothing", "/console/queue?page=x"):
        headers = browser.get(path).headers
        assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]


def test_pages_are_never_cached_and_files_for_good(service: InProcess, place: Place) -> None:
    browser = sign_in(service, place.keys["agent"])
    page = browser.get(QUEUE)
    assert page.headers["cache-control"] == "no-store"
    files = set(re.findall(r'(?:href|src)="(/console/static/[^"]+)"', page.text))
    assert len(files) >= 3
    for path in files:
        answer = service.caller().get(path)
        assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
        other = re.sub(r"static/\w+", "static/0123", path)
        assert service.caller().get(other).headers["cache-control"] == "no-store"
    assert service.caller().get("/console/static/x/../../site.py").status_code == 404
    assert service.caller().get("/console/static/x/nothing.js").status_code == 404


def test_no_page_names_another_address(service: InProcess, place: Place) -> None:
    place.bot.decided("c", "m1", ASKS)
    browser = sign_in(service, place.keys["agent"])
    for path in (QUEUE, "/console/nothing"):
        assert re.findall(r"https?:|=\"//", browser.get(path).text) == []


def test_what_is_not_there_or_not_possible_is_a_page_that_says_what_to_do(
    service: InProcess, place: Place
) -> None:
    browser = sign_in(service, place.keys["agent"])
    for path, status in (("/console/nothing", 404), ("/console/queue?page=x", 422)):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (
            status,
            "text/html; charset=utf-8",
        )
        assert "Go to the queue" in answer.text


def test_the_root_leads_to_the_console(service: InProcess) -> None:
    assert service.caller().get("/").headers["location"] == QUEUE


# A long queue


@pytest.fixture(scope="module")
def long(service: InProcess) -> Place:
    """A workspace in which 2 000 conversations wait."""
    place = service.workspace()
    wait(place, 2000)
    return place


def wait(place: Place, count: int) -> None:
    """So many conversations wait."""
    for start in range(0, count, 250):
        items = [
            {"conversation_id": f"c{n}", "message": {"id": "m1", "text": f"{ASKS} {n}"}}
            for n in range(start, start + 250)
        ]
        results = place.bot.posted("/v1/score/batch", {"items": items})["results"]
        assert {one["action"] for one in results} == {"escalate"}


def test_two_thousand_waiting_are_read_page_by_page_each_once(
    service: InProcess, long: Place
) -> None:
    browser = sign_in(service, long.keys["agent"])
    first = browser.get(QUEUE).text
    assert "Page 1 of 40" in first
    assert "(2000) Queue" in first
    seen = [
        re.findall(r'<li class="item" id="(\w+)"', browser.get(f"{QUEUE}?page={n}").text)[:50]
        for n in range(1, 41)
    ]
    assert len({name for page in seen for name in page}) == 2000
    assert "Page 40 of 40" in browser.get(f"{QUEUE}?page=99").text


def test_a_page_of_two_thousand_waiting_asks_for_no_more_than_one_of_five_hundred(
    service: InProcess, long: Place
) -> None:
    """Those that wait are counted in an index, and one page of them is read and sent. How long that
    takes `baton bench console` measures.
    """
    few = service.workspace()
    wait(few, 500)

    def looked(place: Place, query: str) -> tuple[Asked, int]:
        browser = sign_in(service, place.keys["agent"])
        with asked(service) as work:
            answer = browser.get(QUEUE + query)
        assert answer.text.count('<li class="item"') == 51
        return work, len(answer.content)

    for last, query in ((False, ""), (False, "?team=support"), (True, "?page={}")):
        few_work, few_bytes = looked(few, query.format(10))
        work, many_bytes = looked(long, query.format(40))
        assert work.sql == few_work.sql
        assert 0 < work.statements < 11
        assert abs(many_bytes - few_bytes) < few_bytes / 20
        more = work.steps - few_work.steps
        assert 0 < more < 1500 * (120 if last else 40), "to read one takes more, to count one less"
