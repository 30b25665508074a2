"""Pages beside the conversation's over HTTP: the next one, search, canned replies, people, keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.service.web.test_conversation_page import Window
from tests.service_in_process import ASKS, OTHERS, InProcess, Place, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("pages")) as running:
        yield running


def posted(window: Window, path: str, **given: str) -> httpx.Response:
    return window.caller.post(path, data={"token": window.token("/console/queue"), **given})


def test_the_next_one_is_the_most_urgent_and_is_claimed(place: Place) -> None:
    place.escalated("first")
    urgent = place.escalated("second", "somebody hacked my account, this is fraud")
    ann = Window(place, place.keys["agent"])
    answer = posted(ann, "/console/queue/next")
    assert answer.headers["location"] == f"/console/handoffs/{urgent}"
    packet = place.agent.got(f"/v1/handoffs/{urgent}")
    assert packet["status"] == "claimed"
    assert (
        posted(ann, "/console/queue/next", team="legal")
        .headers["location"]
        .startswith("/console/queue?nothing=1&team=legal")
    )
    posted(ann, "/console/queue/next")
    nobody = posted(ann, "/console/queue/next").headers["location"]
    assert "nothing was taken" in ann.caller.get(nobody).text


def test_my_teams_are_those_that_an_admin_set(place: Place) -> None:
    admin = Window(place, place.keys["admin"])
    made = posted(admin, "/console/people/keys", role="agent", name="dana")
    found = re.search(r"bk_[\w-]+", made.text)
    assert found, made.text
    dana = Window(place, found[0])
    assert "My teams" not in dana.caller.get("/console/queue").text
    answer = posted(admin, "/console/people/users/dana/teams", team="security")
    assert answer.status_code == 303
    place.escalated("asks")
    place.escalated("fraud", "somebody hacked my account, this is fraud")
    page = dana.caller.get("/console/queue?mine=1").text
    assert "hacked my account" in page
    assert ASKS not in page
    assert posted(admin, "/console/people/users/nobody/teams").status_code == 404


def test_a_key_is_shown_once_and_ends_when_it_is_revoked(place: Place) -> None:
    admin = Window(place, place.keys["admin"])
    made = posted(admin, "/console/people/keys", role="lead", name="lea", days="30")
    found = re.search(r"bk_[\w-]+", made.text)
    assert found, made.text
    assert found[0] not in admin.caller.get("/console/people").text
    lead = Window(place, found[0])
    assert lead.caller.get("/console/today").status_code == 200
    for path in ("/console/people", "/console/start"):
        assert lead.caller.get(path).status_code == 403
    assert posted(lead, "/console/people/keys", role="admin", name="x").status_code == 403
    again = posted(admin, "/console/people/keys", role="lead", name="lea")
    assert (again.status_code, "already named" in again.text) == (409, True)
    (key,) = [one for one in place.admin.got("/v1/keys")["keys"] if one["name"] == "lea"]
    assert posted(admin, f"/console/people/keys/{key['id']}/revoke").status_code == 303
    assert lead.caller.get("/console/today").status_code == 303
    stranger = Window(place, place.service.workspace().keys["admin"])
    assert posted(stranger, f"/console/people/keys/{key['id']}/revoke").status_code == 404


def test_a_lead_takes_over_and_an_agent_does_not(place: Place) -> None:
    handoff = place.escalated()
    place.named_agent("dana").posted(f"/v1/handoffs/{handoff}/claim")
    made = place.admin.posted("/v1/keys", {"role": "lead", "name": "lea"})
    ann, lea = Window(place, place.keys["agent"]), Window(place, made["key"])
    assert "Take over" not in ann.see(handoff).text
    assert ann.send(handoff, "assign", user="lea").status_code == 409
    assert "Take over" in lea.see(handoff).text
    assert lea.send(handoff, "assign", user="lea").status_code == 303
    assert place.agent.got(f"/v1/handoffs/{handoff}")["claimed_by"] == "lea"
    assert ann.send(handoff, "reply", text="half a thought").status_code == 409


def test_a_reply_is_sent_once_and_canned_ones_are_kept(place: Place) -> None:
    decided = place.bot.decided("c", "m", ASKS, attributes={"customer_name": "Jo"})
    handoff = decided["handoff"]["id"]
    ann = Window(place, place.keys["agent"])
    kept = posted(ann, "/console/replies", name="hello", text="Dear {customer}")
    assert kept.status_code == 303
    posted(ann, "/console/replies", name="hello", text="Hello {customer}")
    assert posted(ann, "/console/replies", name=" ", text="x").status_code == 422
    assert "Hello Jo" in ann.see(handoff).text
    assert "Dear Jo" not in ann.see(handoff).text
    for _ in range(2):
        assert ann.send(handoff, "reply", text="hi", message_id="m-9").status_code == 303
    turns = place.agent.got(f"/v1/handoffs/{handoff}")["transcript"]
    assert [turn["text"] for turn in turns if turn["author"] == "agent"] == ["hi"]
    assert ann.send(handoff, "reply", text=" ").status_code == 422
    posted(ann, "/console/replies/remove", name="hello")
    assert "Hello Jo" not in ann.see(handoff).text


def test_search_finds_what_waits_what_is_kept_and_ids(place: Place) -> None:
    place.bot.decided("kept-77", "m1", OTHERS[0])
    place.escalated("asks-77")
    ann = Window(place, place.keys["agent"])
    for words, names in (("norway", ["kept-77"]), ("human", ["asks-77"]), ("kept-77", ["kept-77"])):
        page = ann.caller.get("/console/search", params={"q": words}).text
        assert [name for name in ("kept-77", "asks-77") if f"id={name}" in page] == names
    assert "Nothing found" in ann.caller.get("/console/search?q=zebra").text


def test_the_first_day_says_how_to_connect_and_what_is_done(place: Place) -> None:
    admin = Window(place, place.keys["admin"])
    page = admin.caller.get("/console/start").text
    assert f"curl {place.service.url}/v1/score" in page
    assert "step done" not in page
    place.bot.decided("c", "m", OTHERS[1])
    assert admin.caller.get("/console/start").text.count("step done") == 1
