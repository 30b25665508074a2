"""The try-it chat and presence, in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.chromium import Desk

ASKS = "I want to talk to a human please"


def test_two_windows_of_one_chat_are_its_two_sides(desk: Desk) -> None:
    customer = desk.visit("ann", "/console/try")
    customer.get_by_label("Your message, as a customer").fill(ASKS)
    customer.keyboard.press("Enter")
    expect(customer.get_by_role("heading", name="The person's side")).to_be_visible()
    customer.get_by_label("Your message, as a customer").fill("half a sentence")
    agent = customer.context.new_page()
    agent.goto(customer.url)
    agent.get_by_label("Your reply, as the agent").fill("Hello, I am a person.")
    agent.get_by_role("button", name="Reply").click()
    expect(customer.locator(".bubble.agent")).to_contain_text("Hello, I am a person.")
    expect(customer.get_by_label("Your message, as a customer")).to_have_value("half a sentence")
    agent.get_by_role("button", name="Give it back").click()
    expect(customer.locator(".bubble").last).to_contain_text("I am back")


def test_the_chat_works_without_scripts(desk: Desk) -> None:
    page = desk.visit("ann", "/console/try", javascript=False)
    page.get_by_label("Your message, as a customer").fill(ASKS)
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".bubble").last).to_contain_text("A person takes over now.")
    expect(page.get_by_role("link", name="Look whether a person has answered")).to_be_visible()


def test_a_colleague_who_opens_a_conversation_is_seen_in_the_queue_and_on_its_page(
    desk: Desk,
) -> None:
    handoff = desk.bot.score("c1", "m1", ASKS)["handoff"]["id"]
    queue = desk.visit("ann")
    desk.visit("ben", f"/console/handoffs/{handoff}")
    expect(queue.locator(".item .looking")).to_have_text("ben is looking at it", timeout=20_000)
    expect(queue.locator("#online")).to_contain_text("ben")
    own = desk.visit("cleo", f"/console/handoffs/{handoff}")
    expect(own.locator("#looking")).to_contain_text("looking at this too", timeout=20_000)
