"""The conversation page over HTTP: who may see and change it, and what it asks for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.jobs.maintenance import Maintenance
from service.privacy.erasure import erase
from service.store import security_log
from tests.service_in_process import ASKS, QUIET, Caller, InProcess, Place, serving
from tests.waiting import until
from tests.work import Asked, asked


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("page")) as running:
        yield running


class Window:
    """Somebody signed in, without a browser."""

    def __init__(self, place: Place, key: str) -> None:
        self.caller: Caller = place.service.caller()
        form = {"token": self.token("/console/sign-in"), "key": key}
        assert self.caller.post("/console/sign-in", data=form).status_code == 303

    def token(self, path: str) -> str:
        found = re.search(r'name="token" value="(\w+)"', self.caller.get(path).text)
        assert found is not None
        return found[1]

    def send(self, handoff: str, what: str, **given: str) -> httpx.Response:
        form = {"token": self.token(f"/console/handoffs/{handoff}"), **given}
        return self.caller.post(f"/console/handoffs/{handoff}/{what}", data=form)

    def see(self, handoff: str, what: str = "") -> httpx.Response:
        return self.caller.get(f"/console/handoffs/{handoff}{what}")


def escalated(place: Place, conversation: str = "c", **more: Any) -> str:
    found: str = place.bot.decided(conversation, "m", ASKS, **more)["handoff"]["id"]
    return found


def test_another_workspaces_page_is_not_there(service: InProcess, place: Place) -> None:
    handoff = escalated(place)
    stranger = Window(place, service.workspace().keys["agent"])
    before = place.content()
    for what in ("", "/state"):
        assert stranger.see(handoff, what).status_code == 404
    token = stranger.token("/console/queue")
    for what in ("claim", "note", "transfer", "return", "resolve", "outcome", "undo"):
        form = {"token": token, "text": "x", "team": "legal", "verdict": "needed"}
        answer = stranger.caller.post(f"/console/handoffs/{handoff}/{what}", data=form)
        assert answer.status_code == 404, what
    assert place.content() == before
    assert place.agent.got(f"/v1/handoffs/{handoff}")["status"] == "waiting"


@pytest.mark.parametrize(
    "what", ["claim", "note", "transfer", "return", "resolve", "outcome", "undo"]
)
def test_a_form_of_another_site_changes_nothing(place: Place, what: str) -> None:
    handoff = escalated(place)
    window = Window(place, place.keys["agent"])
    form = {"text": "x", "team": "legal", "verdict": "needed"}
    answer = window.caller.post(f"/console/handoffs/{handoff}/{what}", data=form)
    assert answer.status_code == 403
    packet = place.agent.got(f"/v1/handoffs/{handoff}")
    assert (packet["status"], packet["outcome"], packet["remarks"]) == ("waiting", None, [])


def test_what_is_out_of_shape_is_refused_in_words(place: Place) -> None:
    handoff = escalated(place)
    window = Window(place, place.keys["agent"])
    for what, given, says in (
        ("outcome", {"verdict": "perhaps"}, "needed"),
        ("outcome", {"verdict": "needed", "since": "m9"}, "no message"),
        ("outcome", {"verdict": "needed", "note": "x" * 4001}, "4000"),
        ("note", {"text": " \n"}, "must say something"),
        ("note", {"text": "x" * 4001}, "4000"),
        ("transfer", {"team": "nobody"}, "no team"),
    ):
        answer = window.send(handoff, what, **given)
        assert answer.status_code == 422, (what, answer.text)
        assert says in answer.text
    assert place.agent.got(f"/v1/handoffs/{handoff}")["outcome"] is None


def test_the_pages_word_changes_with_all_that_it_shows_and_with_nothing_else(place: Place) -> None:
    handoff = escalated(place)
    ann = Window(place, place.keys["agent"])
    seen = [ann.see(handoff, "/state").text]
    assert ann.see(handoff, "/state").text == seen[0]
    assert f'data-state="{seen[0]}"' in ann.see(handoff).text
    for what, given in (
        ("claim", {}),
        ("note", {"text": "x"}),
        ("outcome", {"verdict": "needed"}),
        ("outcome", {"verdict": "not_needed"}),
        ("undo", {}),
    ):
        assert ann.send(handoff, what, **given).status_code == 303
        seen.append(ann.see(handoff, "/state").text)
    place.bot.decided("c", "m2", "hello?")
    seen.append(ann.see(handoff, "/state").text)
    assert ann.send(handoff, "transfer", team="legal").status_code == 303
    seen.append(ann.see(handoff, "/state").text)
    assert all(one != other for one, other in itertools.pairwise(seen)), seen
    assert seen[-3] == seen[2], "after an undoing it is as it was before the answer"


def test_the_same_answer_again_is_one_outcome(place: Place) -> None:
    handoff = escalated(place)
    ann = Window(place, place.keys["agent"])
    for _ in range(2):
        assert ann.send(handoff, "outcome", verdict="needed", since="m").status_code == 303
    assert len(place.ledger()) == 1
    ann.send(handoff, "undo")
    assert ann.send(handoff, "undo").status_code == 303
    assert len(place.ledger("retraction")) == 1


def test_an_answer_that_is_taken_back_is_said_to_be_gone_or_to_leave_at_a_rebuild(
    place: Place,
) -> None:
    ann = Window(place, place.keys["agent"])
    jobs = Maintenance(place.service.baton.store, place.service.baton.settings)
    for name, saved, words in (("c", False, "is gone from the model"), ("d", True, "next rebuild")):
        handoff = place.escalated(name)
        ann.send(handoff, "claim")
        ann.send(handoff, "outcome", verdict="needed")
        if saved:
            jobs.save(place.name, jobs._lines.champion(place.name))
        answer = ann.send(handoff, "undo")
        assert answer.status_code == 303
        query = answer.headers["location"].partition(handoff)[2].partition("#")[0]
        assert words in ann.see(handoff, query).text
        assert words not in ann.see(handoff).text


def test_a_handoff_that_nobody_answers_is_fine(place: Place) -> None:
    handoff = escalated(place)
    ann = Window(place, place.keys["agent"])
    ann.send(handoff, "claim")
    assert ann.send(handoff, "resolve").status_code == 303
    assert "Was a person needed?" in ann.see(handoff).text
    assert place.ledger() == []
    assert place.bot.decided("c", "m2", QUIET)["action"] == "continue"


def test_a_page_of_four_times_as_many_turns_asks_no_more_often_and_sends_as_much_a_turn(
    place: Place,
) -> None:
    """How long a page of 200 turns takes, and beside one of 20, the bench `console` measures."""
    turns = [
        {
            "id": f"t{n}",
            "author": "bot" if n % 2 else "user",
            "text": f"I paid $42.50 for order AB-{n:05}, it never came and I hate waiting",
        }
        for n in range(199)
    ]
    ann = Window(place, place.keys["agent"])

    def looked(name: str, count: int) -> tuple[Asked, str]:
        handoff = escalated(place, name, history=turns[: count - 1])
        looks = []
        for _ in range(3):  # the service may ask for itself meanwhile
            with asked(place.service) as work:
                page = ann.see(handoff).text
            looks.append(work)
        assert page.count('id="turn-') == count + 1
        return min(looks, key=lambda work: work.statements), page

    few, short = looked("short", 50)
    work, long = looked("long", 200)
    assert work.sql == few.sql
    assert 0 < work.statements <= 13
    assert work.steps < 4 * few.steps
    assert len(long) < 4 * len(short)
    assert long.count("<") < 4 * short.count("<")


def test_of_a_very_long_conversation_the_last_turns_are_shown_and_the_rest_when_asked_for(
    place: Place,
) -> None:
    for part in range(2):
        turns = [{"id": f"t{part}-{n}", "author": "bot", "text": "one moment"} for n in range(180)]
        place.bot.decided("long", f"u{part}", f"{QUIET} {part}", history=turns)
    handoff = escalated(place, "long")
    ann = Window(place, place.keys["agent"])
    page = ann.see(handoff).text
    assert page.count('id="turn-') == 300
    assert "64 earlier turns are not shown" in page
    assert ann.see(handoff, "?whole=1").text.count('id="turn-') == 364


def test_what_was_erased_is_told_so_and_the_verdict_stays(place: Place) -> None:
    handoff = escalated(place)
    ann = Window(place, place.keys["agent"])
    ann.send(handoff, "note", text="a secret of the customer")
    ann.send(handoff, "claim")
    ann.send(handoff, "outcome", verdict="needed", note="another secret")
    ann.send(handoff, "resolve")
    erase(place.service.baton.store, place.name, "c", actor="test")
    page = ann.see(handoff)
    assert page.status_code == 200
    assert "Its text was removed" in page.text
    assert "a person was needed" in page.text
    assert "secret" not in page.text
    assert ASKS not in page.text


def test_an_original_is_shown_where_the_policy_says_so_once_and_recorded(tmp_path: Path) -> None:
    card = "5500 0000 0000 0004"
    with serving(tmp_path, secret_key="of the installation") as service:
        place = service.workspace()
        place.policy(redaction={"kinds": ["card"], "originals": "agents"})
        turn = {"id": "h1", "author": "user", "text": f"<b>{card}</b>"}
        handoff = escalated(place, history=[turn])
        dana = Window(place, place.keys["agent"])
        assert dana.see(handoff).text.count("Show original") == 1
        assert card not in dana.see(handoff).text
        shown = dana.send(handoff, "original", message_id="h1")
        assert f"&lt;b&gt;{card}&lt;/b&gt;" in shown.text
        assert shown.headers["cache-control"] == "no-store"
        assert card not in dana.see(handoff).text, "it is shown to who asked, that once"
        assert dana.send(handoff, "original", message_id="m").status_code == 404
        stranger = Window(place, service.workspace().keys["agent"])
        form = {"token": stranger.token("/console/queue"), "message_id": "h1"}
        answer = stranger.caller.post(f"/console/handoffs/{handoff}/original", data=form)
        assert answer.status_code == 404

        def readings() -> list[tuple[str, str]]:
            with service.baton.store.read() as connection:
                newest = security_log.newest(connection, 100)
            return [(one.actor, one.subject) for one in newest if one.kind == "original_read"]

        until(lambda: len(readings()) > 0, "the reading is in the security log")
        assert readings() == [(f"{place.name}-agent", "c h1")]
        place.policy(redaction={"kinds": ["card"], "originals": "sealed"})
        assert "Show original" not in dana.see(handoff).text
        refused = dana.send(handoff, "original", message_id="h1")
        assert refused.status_code == 403
        assert card not in refused.text
