"""Every page: nobody is kept out, nothing scrolls sideways, little is before its first paint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import NARROW, WIDE, Desk, overflow, painted, serious
from tests.browser.test_conversation import story
from tests.browser.test_review import HOSTILE, TALK, drawn, kept
from tests.service_in_process import ASKS

BYTES_MAX, NODES_MAX = 32_768, 500
"""What is before a page's first paint: its text and its styles, and the elements laid out."""
TURN_BYTES_MAX, TURN_NODES_MAX = 400, 8
"""And for every turn that a page shows, besides."""


def filled(desk: Desk) -> dict[str, str]:
    """A workspace in which every page has something to show, and where each page is."""
    engineer = desk.caller("engineer")
    hours = [{"days": ["mon"], "opens": "02:00", "closes": "02:01"}]
    away = [{"name": "support", "hours": hours, "zone": "Asia/Tokyo"}]
    engineer.put("/v1/policy", engineer.get("/v1/policy") | {"teams": away})
    asked = story(desk)["handoff"]["id"]
    history = [
        {"id": f"b{n}", "author": ("user", "bot")[n % 2], "text": f"{TALK[0]} {n}"}
        for n in range(199)
    ]
    said = {"conversation_id": "long", "message": {"id": "m1", "text": ASKS}, "history": history}
    long_one = desk.bot.post("/v1/score", said)["handoff"]["id"]
    hostile = desk.bot.post(
        "/v1/score",
        {
            "conversation_id": HOSTILE.replace("\u202e", "").replace("\u202c", "")[:100],
            "message": {"id": "m1", "text": f"{ASKS} {HOSTILE}"},
        },
    )["handoff"]["id"]
    kept(desk, "kept-1", TALK[0], HOSTILE, TALK[2], customer="kim@example.org")
    drawn(desk)
    return {
        "queue": "/console/queue",
        "nobody waits": "/console/queue?team=legal",
        "conversation": f"/console/handoffs/{asked}",
        "long": f"/console/handoffs/{long_one}",
        "hostile": f"/console/handoffs/{hostile}",
        "audits": "/console/audits",
        "missed": "/console/missed",
        "found": "/console/missed?q=help",
        "nothing found": "/console/missed?q=zebra",
        "kept": "/console/missed/conversation?id=kept-1",
        "today": "/console/today",
        "figures": "/console/engineering",
        "search": "/console/search?q=help",
        "canned replies": "/console/replies",
        "people": "/console/people",
        "first day": "/console/start",
        "try it": "/console/try",
        "a trial": trial(desk),
        "no page": "/console/nothing",
        "no handoff": "/console/handoffs/h0",
        "no such question": "/console/queue?page=x",
    }


def trial(desk: Desk) -> str:
    """A chat as a customer, up to a person; where it is."""
    page = desk.visit("lea", "/console/try", role="admin")
    for text in ("what are your opening hours", f"{ASKS} {HOSTILE}"):
        page.get_by_label("Your message, as a customer").fill(text)
        page.get_by_role("button", name="Send").click()
        page.wait_for_url("**/try?c=*")
    expect(page.get_by_role("heading", name="The person's side")).to_be_visible()
    path = page.url.partition("#")[0]
    return path[path.index("/console") :]


def late(page: Page, name: str) -> Iterator[str]:
    """What puts a page's first paint off. How long that takes `baton bench console` measures."""
    found, turns = painted(page), page.locator("[id^=turn-]").count()
    if found.bytes > BYTES_MAX + turns * TURN_BYTES_MAX:
        yield f"{name}: {found.bytes} bytes before its first paint"
    if found.nodes > NODES_MAX + turns * TURN_NODES_MAX:
        yield f"{name}: {found.nodes} elements"
    if found.scripts or not all(one.endswith(".css") for one in found.blocking):
        yield f"{name}: scripts before its first paint: {found.scripts}, {found.blocking}"
    if not 0 < len(found.blocking) <= 3:
        yield f"{name}: {len(found.blocking)} requests before its first paint"


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_every_page_keeps_nobody_out_and_waits_for_little(desk: Desk, scheme: Any) -> None:
    pages = filled(desk)
    page = desk.visit("lea", "/console/queue", WIDE, scheme, role="admin")
    faults: list[str] = []
    for name, path in pages.items():
        page.goto(path)
        faults += late(page, name)
        faults += faulty(page, name)
    assert faults == []


def test_signing_in_and_what_an_agent_may_not_see_keep_nobody_out(desk: Desk) -> None:
    page = desk.window(WIDE, "dark")
    page.goto("/console/sign-in")
    page.get_by_label("Your key").fill("bk_guessed")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]")
    faults = list(faulty(page, "a wrong key"))
    page = desk.visit("ann", "/console/queue", WIDE, "dark")
    page.goto("/console/today")
    assert [*faults, *faulty(page, "not allowed")] == []


def faulty(page: Page, name: str) -> Iterator[str]:
    """What is wrong with a page, wide and narrow."""
    for size in (NARROW, WIDE):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        if (wider := overflow(page)) > 0:
            yield f"{name}, {size[0]} px: {wider} px too wide"
        yield from (f"{name}, {size[0]} px: {found}" for found in serious(page))
