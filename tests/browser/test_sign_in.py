"""Signing in with a key, in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.chromium import NARROW, Desk, overflow, serious

ASKS = "please let me talk to a human"


def test_who_is_not_signed_in_signs_in_first_and_comes_to_the_page_they_asked_for(
    desk: Desk,
) -> None:
    page = desk.window()
    page.goto("/console/queue?team=billing")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Your key").fill(desk.key("ann"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/queue?team=billing")
    expect(page.get_by_text("ann", exact=True)).to_be_visible()


def test_a_wrong_key_is_told_so_and_a_bots_key_what_to_use(desk: Desk) -> None:
    page = desk.window()
    page.goto("/")
    page.get_by_label("Your key").fill("bk_guessed")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "The key is unknown, was revoked, or has expired"
    )
    page.get_by_label("Your key").fill(desk.place.keys["bot"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("needs the role agent")


def test_signing_out_ends_the_session_in_every_window(desk: Desk) -> None:
    page = desk.visit()
    other = page.context.new_page()
    other.goto("/console/queue")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_console_works_without_scripts(desk: Desk) -> None:
    desk.bot.score("c1", "m1", ASKS)
    page = desk.visit(javascript=False)
    page.get_by_role("button", name="Claim").click()
    expect(page.get_by_role("button", name="Resolve", exact=True)).to_be_visible()
    page.get_by_role("link", name="Queue").click()
    expect(page.get_by_role("heading", name="Yours")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_signing_in_keeps_nobody_out(desk: Desk) -> None:
    for scheme in ("light", "dark"):
        page = desk.window(NARROW, scheme)  # type: ignore[arg-type]
        page.goto("/console/sign-in")
        assert serious(page) == []
        assert overflow(page) <= 0
