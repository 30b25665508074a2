"""The whole story in one walk, with the demo's own customers and bot."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect
from rich.console import Console

from experiments.replay.client import path_of
from experiments.simulation.demo import play
from service.client import Baton
from tests.browser.chromium import Desk, says
from tests.browser.test_queue import waiting_for_events
from tests.browser.test_review import drawn, outcome
from tests.service_in_process import ASKS, OTHERS

PLAYED, LEFT, SEED = 24, 2, 7
SAYS = "message.agent"
UNDONE = "<strong>Undone:</strong> %(what)s. You can answer again."
TOLD = "<strong>You</strong> said: %(said)s"
REPLY = "Reply to <bdi>%(customer)s</bdi> as <bdi>%(agent)s</bdi>"


def played(desk: Desk) -> None:
    """The demo's bot and agents play; the last handoffs wait for somebody at the console."""
    keys = desk.place.keys
    summary = play(desk.url, keys, PLAYED, SEED, 2, Console(quiet=True), left=LEFT)
    assert summary.complete


def scored(desk: Desk, conversation: str, message: str, text: str) -> dict[str, Any]:
    body = {"conversation_id": conversation, "message": {"id": message, "text": text}}
    return dict(desk.bot.post("/v1/score", body))


@pytest.mark.long
def test_from_the_demos_bot_to_a_reported_miss(desk: Desk) -> None:
    queue = desk.visit("ann", "/console/queue")
    waiting_for_events(queue)
    queue.evaluate("window.still = true")
    played(desk)
    expect(queue.locator("#waiting .item").first).to_be_visible()
    assert queue.evaluate("window.still"), "the page was loaded anew"

    ida = desk.visit("ida", "/console/queue")
    item = queue.locator("#waiting .item").first
    handoff = item.get_attribute("id")
    item.get_by_role("button", name="Claim").click()
    expect(queue.locator("#status")).to_contain_text("yours")
    expect(ida.locator("#claimed .item")).to_contain_text("ann")
    ida.goto(f"/console/handoffs/{handoff}")
    expect(ida.locator("#work")).to_contain_text("ann has this conversation")

    packet = desk.agent("ann").get(path_of("handoffs", handoff))
    conversation = packet["conversation_id"]
    silent = scored(desk, conversation, "late", "hello, is anybody there?")
    assert silent["action"] == "human_active"
    expect(queue.locator("#turns")).to_contain_text("is anybody there?")
    said = next(t["text"] for t in reversed(packet["transcript"]) if t["author"] == "user")

    queue.keyboard.press("u")  # not needed, as it seems
    told = queue.locator("#teach")
    expect(told).to_contain_text("You said: no person was needed")
    expect(told.get_by_role("button", name="Undo")).to_be_visible()
    queue.keyboard.press("z")
    expect(queue.get_by_role("heading", name="Was a person needed?")).to_be_visible()
    before = scored(desk, "similar, before", "m1", said)["probability"]
    queue.locator(".turn.user .said").first.click()
    told.get_by_role("button", name="Needed", exact=False).first.click()
    expect(told).to_contain_text("You said: a person was needed, since turn")
    after = scored(desk, "similar, after", "m1", said)["probability"]
    assert after > before
    expect(told.get_by_role("button", name="Take it back")).to_be_visible()
    queue.reload()
    told.get_by_text("Correct it").click()
    told.get_by_role("button", name="Cannot say").click()
    expect(told).to_contain_text("You said: nobody can say")
    queue.get_by_role("button", name="Return to the bot").click()
    expect(queue.locator("#status")).to_contain_text("back with the bot")
    assert scored(desk, conversation, "later", OTHERS[2])["action"] != "human_active"

    drawn(desk)
    queue.get_by_role("link", name="Audits").click()
    assert "%" not in queue.inner_text("main")
    queue.keyboard.press("u")
    expect(queue.get_by_role("heading", name="You said that nobody was needed")).to_be_visible()
    expect(queue.locator("#last")).to_contain_text("%")

    assert scored(desk, "kept 1", "m1", OTHERS[0])["action"] == "continue"
    desk.bot.post(path_of("conversations", "kept 1", "close"), {"resolution": "unknown"})
    queue.get_by_role("link", name="Missed").click()
    queue.get_by_label("What was said").fill(OTHERS[0])
    queue.keyboard.press("Enter")
    queue.locator("li.found a").first.click()
    queue.get_by_role("button", name="A person was needed").click()
    expect(queue.get_by_role("heading", name="A person was needed")).to_be_visible()
    assert outcome(desk, "kept 1")["verdict"] == "missed"


@pytest.mark.parametrize("language", ["en", pytest.param("de", marks=pytest.mark.long)])
def test_the_whole_job_is_done_at_the_console(desk: Desk, language: str) -> None:
    say = says(language)
    known = {"attributes": {"customer_id": "C-77", "customer_name": "Jo Miller"}}
    desk.bot.score("earlier", "m1", OTHERS[0], **known)
    page = desk.visit("ann", "/console/replies", language=language)
    page.get_by_label(say("Name")).fill("sorry")
    page.get_by_label(say("Text")).fill("Dear {customer}, I am sorry. {agent}")
    page.get_by_role("button", name=say("Keep")).click()
    expect(page.get_by_text("{customer}, I am sorry")).to_be_visible()

    picture = {"attachments": [{"type": "image", "name": "leak.jpg"}]}
    message = {"id": "m1", "text": ASKS} | picture
    handoff = desk.bot.post("/v1/score", {"conversation_id": "c", "message": message} | known)
    page.goto("/console/queue")
    page.keyboard.press("t")  # takes the next one
    page.wait_for_url(f"**/console/handoffs/{handoff['handoff']['id']}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Jo Miller")
    expect(page.locator("#turns")).to_contain_text(f"leak.jpg ({say('image')})")
    others = page.get_by_role("region", name=say("Their other conversations"))
    expect(others).to_contain_text("earlier")

    reply = page.get_by_role("textbox", name=say(REPLY, customer="Jo Miller", agent="ann"))
    page.keyboard.press("r")
    page.keyboard.press("/")
    page.keyboard.type("sor")
    page.keyboard.press("Enter")
    expect(reply).to_have_value("Dear Jo Miller, I am sorry. ann")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".turn.agent")).to_contain_text("Dear Jo Miller, I am sorry. ann")
    expect(reply).to_have_value("")
    heard = next(e for e in Baton(desk.url, desk.place.keys["bot"]).events("0") if e.type == SAYS)
    assert heard.data["text"] == "Dear Jo Miller, I am sorry. ann"
    assert heard.data["deliver"]

    reply.fill("half a thought")
    page.get_by_label(say("A note for colleagues")).fill("half a note")
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(page.locator("#teach")).to_contain_text(say(TOLD, said=say("no person was needed")))
    expect(reply).to_have_value("half a thought")
    expect(page.get_by_label(say("A note for colleagues"))).to_have_value("half a note")
    page.keyboard.press("z")
    expect(page.locator("#teach")).to_contain_text(say(UNDONE, what="").partition(":")[0])
    page.reload()
    expect(reply).to_have_value("half a thought")
    page.get_by_role("button", name=say("Send and resolve")).click()
    expect(page.locator("#status")).to_contain_text(say("resolved"))
    expect(page.locator("#turns")).to_contain_text("half a thought")
    expect(page.get_by_role("button", name=say("Take the next one"))).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text(say("writes a reply"))
