"""What leads look at first: is all well, what does it cost, what was missed, who waits, what is
new? And the page of figures, which is the engineers'.
"""

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
HEIGHT_MAX = 1500


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
    bot.outcome("kept 0", "missed", source="complaint")
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


def test_a_lead_reads_five_answers_at_a_glance_and_moves_no_model(desk: Desk) -> None:
    page = desk.visit("lea", "/console/today", role="lead")
    standing = page.get_by_role("region", name="How it stands")
    expect(standing).to_contain_text("Not known yet: no conversation has ended")
    expect(standing).to_contain_text("let your bot send its first message")
    busy(desk)
    page.reload()
    expect(standing).to_contain_text("Needs attention: 1 alarm since yesterday")
    tiles = page.locator("dl.tiles .tile")
    expect(tiles).to_have_count(5)
    expect(tiles.nth(0)).to_contain_text("3 of ")
    expect(tiles.nth(1)).to_contain_text("1 caught; 0 audits answered")
    expect(tiles.nth(3)).to_contain_text("oldest")
    expect(tiles.nth(4)).to_contain_text("1 policy")
    expect(page.get_by_role("row").filter(has_text="support")).to_contain_text("1")
    log = page.get_by_role("region", name="Alarms and changes")
    expect(log).to_contain_text("the loss <rose> by .2")
    expect(log).to_contain_text("other capacity, teams")
    assert page.evaluate("document.documentElement.scrollHeight") < HEIGHT_MAX
    missed = page.get_by_role("region", name="What was missed")
    missed.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="What was said")).to_be_visible()
    with pytest.raises(Exception, match="403"):
        desk.agent("lea").post("/v1/rollback", {"reason": "to see whether a lead may"})


def test_the_figures_stand_on_a_page_of_their_own_with_what_is_unknown(desk: Desk) -> None:
    busy(desk)
    page = desk.visit("eve", "/console/engineering", role="engineer")
    tiles = page.locator("dl.tiles")
    expect(tiles).to_contain_text("3 of ")
    expect(tiles).to_contain_text("not known yet")
    expect(tiles).to_contain_text("1 not needed, 2 needed, 0 unknowable")
    expect(tiles).to_contain_text("3 claimed, ")
    team = page.get_by_role("row").filter(has_text="support")
    expect(team).to_contain_text("2 an hour")
    expect(page.get_by_text("At most 50 % of decisions may lead to a person")).to_be_visible()
    drawn(page)
    expect(page.locator("#figures")).to_contain_text("Falling is learning")
    expect(page.locator("#figures")).to_contain_text("Missed, of those kept (lower is better)")
    page.get_by_text("Rates over time, as a table").click()
    page.get_by_text("By rule", exact=True).click()
    asked = page.get_by_role("region", name="Rates by rule").get_by_role("row", name="request")
    expect(asked).to_contain_text("none was kept")


def test_an_agent_is_told_that_today_is_a_leads(desk: Desk) -> None:
    page = desk.visit("ann", "/console/queue")
    expect(page.get_by_role("link", name="Today")).to_have_count(0)
    page.goto("/console/today")
    expect(page.get_by_role("alert")).to_contain_text("lead")


def test_without_scripts_the_tables_hold_the_numbers_and_an_empty_place_says_what_to_do(
    desk: Desk,
) -> None:
    page = desk.visit("eve", "/console/engineering", role="engineer", javascript=False)
    expect(page.get_by_text("Nothing is evaluated yet")).to_be_visible()
    desk.bot.score("asks", "m1", ASKS)
    page.get_by_role("link", name="7 days").click()
    rows = page.get_by_role("table").last.get_by_role("row")
    expect(rows.last).to_contain_text("01")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_nobody_is_kept_out(desk: Desk, tmp_path: Any, scheme: Any) -> None:
    busy(desk)
    page = desk.visit("eve", "/console/engineering", WIDE, scheme, role="engineer")
    for size in (WIDE, NARROW):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.goto("/console/today")
        assert (serious(page), max(0, overflow(page))) == ([], 0)
        page.goto("/console/engineering")
        drawn(page)
        time.sleep(0.3)
        picture(page, tmp_path, f"figures-{scheme}-{size[0]}")
        assert serious(page) == []
        assert overflow(page) <= 0
