"""What leads and engineers look at first: is automation honest, who waits, what has changed?"""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from experiments.replay.client import path_of
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.store.ledger import change_log
from tests.browser.chromium import NARROW, WIDE, Desk, overflow, picture, serious
from tests.running import teach

ASKS = "I want to talk to a human please"


def store_of(desk: Desk) -> Store:
    return Store(f"sqlite:///{desk.place.home.folder / 'baton.sqlite3'}")


def busy(desk: Desk, outcomes: int = 30) -> None:
    """Some conversations are kept, some handed over, claimed and judged; then it is evaluated."""
    agent, bot = desk.agent("ann"), desk.bot
    for number in range(4):
        decision = bot.score(f"asks {number}", "m1", f"{ASKS} {number}")
        if number:
            handoff = decision["handoff"]["id"]
            agent.post(path_of("handoffs", handoff, "claim"), {})
            verdict = {"verdict": "needed" if number > 1 else "not_needed", "team": "legal"}
            agent.post(path_of("handoffs", handoff, "outcome"), verdict)
    for number in range(3):
        bot.score(f"kept {number}", "m1", "what are your opening hours")
        bot.post(path_of("conversations", f"kept {number}", "close"), {"resolution": "resolved"})
    with desk.place.caller("engineer", desk.process) as engineer:
        for number in range(outcomes):
            teach(engineer, f"taught {number}", number)
        policy = engineer.get("/v1/policy")
        policy["teams"] = [{"name": "support", "per_hour": 2.0, "zone": "Europe/Berlin"}]
        engineer.put("/v1/policy", policy | {"capacity": 0.5})
    store = store_of(desk)
    Maintenance(store, Settings(home=desk.place.home.folder)).evaluate_one(desk.place.name)
    with store.write() as connection:
        change_log.add(connection, desk.place.name, "alarm", {"sentence": "the loss <rose> by .2"})
    store.close()


def drawn(page: Page) -> None:
    """Every figure that the service gives stands on the page."""
    figures = page.request.get(page.locator("#figures").get_attribute("data-figures") or "").json()
    assert len(figures) >= 7
    expect(page.locator("#figures figure")).to_have_count(len(figures))
    expect(page.locator("#figures svg.main-svg").first).to_be_visible()


def test_automation_stands_beside_what_it_missed_and_what_is_unknown_says_so(desk: Desk) -> None:
    busy(desk)
    page = desk.visit("lea", "/console/today", role="engineer")
    tiles = page.locator("dl.tiles")
    expect(tiles).to_contain_text("3 of ")
    expect(tiles).to_contain_text("not known yet")
    expect(tiles).to_contain_text("1 not needed, 2 needed, 0 unknowable")
    expect(tiles).to_contain_text("3 claimed, ")
    team = page.get_by_role("row").filter(has_text="support")
    expect(team).to_contain_text("2 an hour")
    expect(page.get_by_text("At most 50 % of decisions may lead to a person")).to_be_visible()
    expect(page.get_by_text("the loss <rose> by .2")).to_be_visible()
    expect(page.get_by_text("Version 1 by")).to_be_visible()
    drawn(page)
    expect(page.locator("#figures")).to_contain_text("Falling is learning")
    expect(page.locator("#figures")).to_contain_text("Missed, of those kept (lower is better)")
    page.get_by_text("Rates over time, as a table").click()
    page.get_by_text("By rule", exact=True).click()
    asked = page.get_by_role("region", name="Rates by rule").get_by_role("row", name="request")
    expect(asked).to_contain_text("none was kept")
    region = page.get_by_role("region", name="Rates over time")
    expect(region).to_contain_text("not known between 0 % and 100 %")


def test_an_agent_is_told_that_today_is_a_leads(desk: Desk) -> None:
    page = desk.visit("ann", "/console/queue")
    expect(page.get_by_role("link", name="Today")).to_have_count(0)
    page.goto("/console/today")
    expect(page.get_by_role("alert")).to_contain_text("lead")


def test_without_scripts_the_tables_hold_the_numbers_and_an_empty_place_says_what_to_do(
    desk: Desk,
) -> None:
    page = desk.visit("lea", "/console/today", role="engineer", javascript=False)
    expect(page.get_by_text("Nothing is evaluated yet")).to_be_visible()
    desk.bot.score("asks", "m1", ASKS)
    page.get_by_role("link", name="7 days").click()
    rows = page.get_by_role("table").last.get_by_role("row")
    expect(rows.last).to_contain_text("01")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_nobody_is_kept_out(desk: Desk, tmp_path: Any, scheme: Any) -> None:
    busy(desk)
    page = desk.visit("lea", "/console/today", WIDE, scheme, role="engineer")
    for size in (WIDE, NARROW):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.reload()
        drawn(page)
        time.sleep(0.3)
        picture(page, tmp_path, f"today-{scheme}-{size[0]}")
        assert serious(page) == []
        assert overflow(page) <= 0
