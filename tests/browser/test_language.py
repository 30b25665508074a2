"""The console in German: chosen in the menu or by the browser, live, and open to everybody."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import NARROW, WIDE, Desk, overflow, serious
from tests.browser.test_every_page import faulty, filled
from tests.browser.test_queue import waiting_for_events
from tests.service_in_process import ASKS

SAID = "verlangt einen Menschen: „want to talk to a human“"


def test_a_language_is_chosen_in_the_menu_and_the_page_stays(desk: Desk) -> None:
    page = desk.visit("ann", "/console/missed?q=parcel")
    page.locator("details.language summary").click()
    page.get_by_role("button", name="Deutsch").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Übersehen")
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.url.endswith("/console/missed?q=parcel")
    expect(page.get_by_role("searchbox").last).to_have_value("parcel")


def test_what_comes_while_a_german_page_is_open_comes_in_german(desk: Desk) -> None:
    page = desk.visit("ann", language="de")
    waiting_for_events(page)
    handoff = desk.bot.score("c1", "m1", ASKS)["handoff"]["id"]
    item = page.locator(f"#{handoff}")
    expect(item.locator(".why")).to_have_text(SAID)
    expect(item.locator(".waited")).to_contain_text("wartet < 1 min")
    assert overflow(page) <= 0
    assert serious(page) == []
    item.get_by_role("button", name="Übernehmen").click()
    expect(page.locator("#status")).to_contain_text("bei Ihnen")
    expect(page.locator("#turns time").first).to_have_text(
        re.compile(r"(Mo|Di|Mi|Do|Fr|Sa|So)\., \d\d:\d\d")
    )
    for size in (NARROW, WIDE):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        assert overflow(page) <= 0
        assert serious(page) == []


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_in_german_keeps_nobody_out(desk: Desk, scheme: Any) -> None:
    pages = filled(desk)
    page = desk.visit("lea", "/console/queue", WIDE, scheme, role="admin", language="de")
    faults: list[str] = []
    for name, path in pages.items():
        page.goto(path)
        faults += faulty(page, name)
    assert faults == []
