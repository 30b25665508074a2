"""The queue in a real browser: it lives, it is shared, it shows what customers write as text."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import NARROW, WIDE, Desk, Scheme, overflow, painted, serious

ASKS = "please let me talk to a human"
FRAUD = "somebody hacked my account, this is fraud"


def rows(page: Page, name: str = "waiting") -> list[str]:
    """What the rows of a list say first, in their order."""
    return page.locator(f"#{name} .text").all_inner_texts()


def claim(page: Page, text: str) -> None:
    page.locator(".item", has_text=text).get_by_role("button", name="Claim").click()


def waiting_for_events(page: Page) -> None:
    expect(page.locator("#live")).to_have_text("Live")


def test_an_escalation_appears_without_reload_in_its_place(desk: Desk) -> None:
    page = desk.visit()
    expect(page.get_by_text("Nobody waits")).to_be_visible()
    waiting_for_events(page)
    page.evaluate("window.still = true")
    desk.bot.score("c1", "m1", ASKS)
    expect(page.get_by_text(ASKS)).to_be_visible()
    expect(page.get_by_text("Nobody waits")).to_be_hidden()
    desk.bot.score("c2", "m1", FRAUD)
    expect(page.get_by_text(FRAUD)).to_be_visible()
    assert rows(page) == [FRAUD, ASKS]
    expect(page).to_have_title(re.compile(r"^\(2\) Queue"))
    expect(page.locator("#told")).to_contain_text("a conversation waits for")
    assert page.evaluate("window.still")


def test_a_row_that_came_live_is_what_the_server_would_show(desk: Desk) -> None:
    page = desk.visit()
    waiting_for_events(page)
    desk.bot.score("c1", "m1", ASKS)
    row = page.locator(".item").first
    expect(row).to_be_visible()

    def shape() -> str:
        html = row.evaluate("e => e.outerHTML")
        return re.sub(
            r'class="item new"|\s+', lambda m: 'class="item"' if "new" in m[0] else " ", html
        )

    live = shape()
    page.reload()
    assert normal(live) == normal(shape())


def normal(html: str) -> str:
    return re.sub(r">\s+|\s+<|(datetime|data-\w+)=\"[^\"]*\"|https?://[^/]+", " ", html)


def test_what_one_agent_claims_is_theirs_on_every_page(desk: Desk) -> None:
    desk.bot.score("c1", "m1", ASKS)
    ann, ben = desk.visit("ann"), desk.visit("ben")
    waiting_for_events(ben)
    claim(ann, ASKS)
    ann.wait_for_url("**/console/handoffs/*")
    ann.goto("/console/queue")
    expect(ann.locator("#own .item")).to_contain_text("Open")
    expect(ben.locator("#claimed .item")).to_contain_text("ann")
    assert rows(ben) == []
    handoff = desk.agent("ann").get("/v1/handoffs?status=claimed")["handoffs"][0]
    desk.agent("ann").post(f"/v1/handoffs/{handoff['id']}/return", {})
    expect(ben.get_by_role("heading", name="With colleagues")).to_be_hidden()


def test_who_comes_second_is_told_who_has_it(desk: Desk) -> None:
    desk.bot.score("c1", "m1", ASKS)
    page = desk.visit("ben", javascript=False)
    handoff = desk.agent("ann").get("/v1/handoffs")["handoffs"][0]["id"]
    desk.agent("ann").post(f"/v1/handoffs/{handoff}/claim", {})
    claim(page, ASKS)
    expect(page.get_by_role("alert")).to_contain_text("is claimed by ann")
    expect(page.locator("#claimed .item")).to_contain_text("ann")


def test_a_team_sees_its_own(desk: Desk) -> None:
    page = desk.visit(path="/console/queue?team=security")
    waiting_for_events(page)
    desk.bot.score("c1", "m1", ASKS)
    desk.bot.score("c2", "m1", FRAUD)
    expect(page.get_by_text(FRAUD)).to_be_visible()
    assert rows(page) == [FRAUD]
    page.get_by_role("link", name="All teams").click()
    expect(page.get_by_text(ASKS)).to_be_visible()


def test_without_events_the_page_is_fetched_now_and_then(desk: Desk) -> None:
    page = desk.window()
    page.add_init_script("delete window.EventSource")
    page.clock.install()
    page.goto("/console/sign-in")
    page.get_by_label("Your key").fill(desk.key("ann"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nobody waits")).to_be_visible()
    desk.bot.score("c1", "m1", ASKS)
    page.clock.run_for(20_000)
    expect(page.get_by_text(ASKS)).to_be_visible()


def test_of_several_open_pages_one_hears_and_tells_the_others(desk: Desk) -> None:
    """Browsers open six connections to a host at most: nine pages must not use them up."""
    first = desk.visit()
    waiting_for_events(first)
    pages = [first.context.new_page() for _ in range(8)]
    for page in pages:
        page.goto("/console/queue")
    desk.bot.score("c1", "m1", ASKS)
    for page in pages:
        expect(page.get_by_text(ASKS)).to_be_visible()
    first.close()
    expect(pages[0].locator("#live")).to_have_text("Live")
    desk.bot.score("c2", "m1", FRAUD)
    for page in pages:
        expect(page.get_by_text(FRAUD)).to_be_visible()


HOSTILE = (
    "<script>document.title='taken'</script> <img src=x onerror=alert(1)> ",
    '" onmouseover="alert(1)" x=\'',
    "{{ 7*7 }} ${7*7} {% raw %} ",
    "\u202e\u2066 אני רוצה נציג ",
    "👩🏽‍💻🏳️‍🌈 \u0301\u0301\u0301",
    "\x01\x1b[31m \ufffe ",
    "x" * 19_900 + " ",
)


def test_hostile_text_is_shown_as_text_live_and_loaded(desk: Desk) -> None:
    page = desk.visit(size=NARROW)
    waiting_for_events(page)
    said = [hostile + ASKS for hostile in HOSTILE]
    for number, text in enumerate(said):
        desk.bot.score(f"c{number}", "m1", text)
    expect(page.locator(".item")).to_have_count(len(said))
    for _ in range(2):
        shown = page.locator(".text").evaluate_all("all => all.map(e => e.textContent)")
        assert shown == [text[:240] for text in said]
        assert page.locator(".item img, .item script").count() == 0
        assert page.title().startswith(f"({len(said)}) Queue")
        assert overflow(page) <= 0
        ends = page.locator(".item button").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().right)"
        )
        assert max(ends) <= NARROW[0]
        page.reload()


@pytest.mark.parametrize(
    "scheme, size",
    [
        pytest.param("light", WIDE, marks=pytest.mark.long),
        ("light", NARROW),
        ("dark", WIDE),
        pytest.param("dark", NARROW, marks=pytest.mark.long),
    ],
    ids=["light-wide", "light-narrow", "dark-wide", "dark-narrow"],
)
def test_the_queue_keeps_nobody_out(desk: Desk, size: tuple[int, int], scheme: Scheme) -> None:
    for number, text in enumerate((ASKS, FRAUD, "you will hear from my lawyer", ASKS)):
        desk.bot.score(f"c{number}", "m1", text)
    page = desk.visit("ann", size=size, scheme=scheme)
    claim(page, "lawyer")
    page.wait_for_url("**/console/handoffs/*")
    handoffs = desk.agent("ben").get("/v1/handoffs?status=waiting")["handoffs"]
    desk.agent("ben").post(f"/v1/handoffs/{handoffs[-1]['id']}/claim", {})
    page.goto("/console/queue")
    expect(page.get_by_role("heading", name="With colleagues")).to_be_visible()
    assert serious(page) == []
    assert overflow(page) <= 0


def test_the_queue_is_worked_by_keyboard_alone(desk: Desk) -> None:
    desk.bot.score("c1", "m1", ASKS)
    page = desk.visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.startsWith('Claim')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/handoffs/*")


def test_the_first_paint_waits_for_one_style_and_as_much_for_each_that_waits(desk: Desk) -> None:
    page, found = desk.visit(), []
    for number in range(12):
        desk.bot.score(f"c{number}", "m1", ASKS)
        if number in (3, 7, 11):
            page.reload()
            expect(page.locator(".item")).to_have_count(number + 1)
            found.append(painted(page))
    assert [(one.blocking, one.scripts) for one in found] == [(["console.css"], 0)] * 3
    few, more, most = (one.nodes for one in found)
    assert most - more == more - few < 4 * 30
    few, more, most = (one.bytes for one in found)
    assert abs((most - more) - (more - few)) < 100
