"""What was kept, looked at again: audits reviewed blind, and missed ones reported."""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from experiments.replay.client import path_of
from learning.decision.policy import AuditBudget
from service.outcomes import audit_tasks
from service.store.database.transactions import Store
from tests.browser.chromium import NARROW, Desk, overflow, picture, serious

HOSTILE = "<script>alert(1)</script> \u202eabc\u202c 🦊 " + "long " * 400
SAID = ("Let me look at that.", "Your parcel is on its way.", "Which order do you mean?")
TALK = ("where is my parcel", "that did not help me at all", "nobody answers, I give up")


def kept(desk: Desk, name: str, *texts: str, **attributes: Any) -> None:
    """A conversation that the bot kept, and that is closed."""
    with desk.place.caller("engineer", desk.process) as engineer:
        policy = engineer.get("/v1/policy")
        quiet = [rule for rule in policy["rules"] if rule["action"] != "offer"]
        costs = {"unneeded": 1e6, "missed": 1e-6, "ask": 1e6}
        engineer.put("/v1/policy", policy | {"costs": costs, "rules": quiet})
    for number, text in enumerate(texts, 1):
        body = {
            "conversation_id": name,
            "message": {"id": f"m{number}", "text": text},
            "history": [{"id": f"b{number}", "author": "bot", "text": SAID[number % 3]}],
            "attributes": attributes,
        }
        decision = desk.bot.post("/v1/score", body)
        assert decision["action"] == "continue", decision
    desk.bot.post(path_of("conversations", name, "close"), {"resolution": "unknown"})


def drawn(desk: Desk) -> None:
    """Every kept conversation is drawn for an audit, to be reviewed by two."""
    store = Store(f"sqlite:///{desk.place.home.folder / 'baton.sqlite3'}")
    policy = AuditBudget(uniform_share=1.0, double_share=1.0)
    with store.write() as connection:
        audit_tasks.draw_audits(connection, desk.place.name, policy, time.time() + 60)
    store.close()


def outcome(desk: Desk, name: str) -> dict[str, Any]:
    return dict(desk.agent("ann").get(path_of("conversations", name))["outcomes"][-1])


def test_an_audit_is_reviewed_blind_with_keys_only(desk: Desk) -> None:
    """The score is nowhere on the page before the answer, and on it afterwards."""
    kept(desk, "c1", *TALK)
    drawn(desk)
    page = desk.visit(path="/console/audits")
    expect(page.get_by_text(TALK[1])).to_be_visible()
    assert "%" not in page.inner_text("main")
    assert not any(word in page.content().lower() for word in ("probability", "threshold"))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("since this message").nth(1)).to_be_checked()
    page.keyboard.press("n")
    told = page.get_by_role("heading", name="You said that a person was needed")
    expect(told).to_be_visible()
    expect(page.locator("#last")).to_contain_text("%")
    found = outcome(desk, "c1")
    assert (found["verdict"], found["first_needed_message_id"]) == ("missed", "m2")
    expect(page.locator("dl.figures")).to_contain_text("1 of 40")


def test_a_second_review_measures_agreement_and_an_answer_can_be_changed(desk: Desk) -> None:
    kept(desk, "c1", *TALK)
    drawn(desk)
    for name in ("ann", "ben"):
        page = desk.visit(name, "/console/audits")
        page.get_by_role("button", name="Nobody was needed").click()
        expect(page.get_by_role("heading", name="You said that nobody was needed")).to_be_visible()
    expect(page.locator("dl.figures")).to_contain_text("1 of 1 pairs; kappa is not known yet")
    ann = desk.visit("ann", "/console/audits")
    ann.goto(page.url)
    expect(ann.get_by_text("Change this answer")).to_be_visible()
    ann.get_by_text("Change this answer").click()
    ann.get_by_role("button", name="A person was needed").click()
    assert outcome(desk, "c1")["verdict"] == "missed"


def test_what_baton_said_is_told_to_nobody_who_has_not_answered(desk: Desk) -> None:
    kept(desk, "c1", *TALK)
    drawn(desk)
    page = desk.visit("ann", "/console/audits")
    page.get_by_role("button", name="Cannot say").click()
    page.wait_for_url("**answered=*")
    other = desk.visit("ben", "/console/audits")
    other.goto(page.url)
    expect(
        other.get_by_role("heading", name="Did this conversation need a person?")
    ).to_be_visible()
    assert "%" not in other.inner_text("main")


@pytest.mark.parametrize("javascript", [True, False])
def test_a_missed_one_is_found_and_reported(desk: Desk, javascript: bool) -> None:
    kept(desk, "shop/4711", *TALK, customer="kim@example.org", plan="gold")
    kept(desk, "other", "do you ship to norway")
    page = desk.visit(path="/console/missed", javascript=javascript)
    for words in ("did NOT help", "kim@example.org", "4711 parcel"):
        page.get_by_label("What was said").fill(words)
        page.get_by_role("button", name="Search").click()
        expect(page.locator("li.found")).to_have_count(1)
    page.locator("li.found a").click()
    page.get_by_label("since this message").nth(1).check()
    page.get_by_label("Whose work").select_option("legal")
    page.get_by_role("button", name="A person was needed").click()
    expect(page.get_by_role("heading", name="A person was needed, of team legal")).to_be_visible()
    found = outcome(desk, "shop/4711")
    assert (found["verdict"], found["first_needed_message_id"]) == ("missed", "m2")
    expect(page.get_by_label("since this message").nth(1)).to_be_checked()
    page.get_by_role("button", name="Nobody was needed").click()
    expect(page.get_by_role("heading", name="Nobody was needed")).to_be_visible()
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("heading", name="What was said")).to_be_visible()
    expect(page.get_by_role("heading", name="Nobody was needed")).to_be_hidden()


def test_an_id_leads_straight_to_its_conversation_and_another_workspaces_to_nothing(
    desk: Desk,
) -> None:
    kept(desk, "a/b?c=ü", "hello there")
    elsewhere = desk.place.home.workspace("elsewhere", desk.process)
    with elsewhere.caller("bot", desk.process) as bot:
        bot.score("theirs", "m1", "a secret of theirs")
        bot.post(path_of("conversations", "theirs", "close"), {"resolution": "unknown"})
    page = desk.visit(path="/console/missed")
    page.get_by_label("What was said").fill("a/b?c=ü")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="a/b?c=ü")).to_be_visible()
    for words in ("theirs", "secret"):
        page.goto(f"/console/missed?q={words}")
        expect(page.get_by_text("Nothing found")).to_be_visible()
    page.goto("/console/missed/conversation?id=theirs")
    expect(page.get_by_role("alert")).to_contain_text("There is no conversation 'theirs'")


def test_hostile_text_is_text_and_nobody_is_kept_out(desk: Desk, tmp_path: Any) -> None:
    kept(desk, "c1", TALK[0], HOSTILE, TALK[2], note="<b>bold</b>")
    kept(desk, "c2", *TALK)
    drawn(desk)
    pages: dict[str, Page] = {}
    for scheme in ("light", "dark"):
        for size in ((1400, 900), NARROW):
            page = desk.visit(path="/console/audits", size=size, scheme=scheme)  # type: ignore[arg-type]
            for path in (
                "/console/audits",
                "/console/missed?q=help",
                "/console/missed/conversation?id=c1",
            ):
                page.goto(path)
                assert serious(page) == [], path
                assert overflow(page) <= 0, path
                name = path.split("/")[-1].split("?")[0]
                picture(page, tmp_path, f"{name}-{scheme}-{size[0]}")
            pages[f"{scheme}{size[0]}"] = page
    page = pages["light1400"]
    expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
    expect(page.get_by_text("note: <b>bold</b>")).to_be_visible()
