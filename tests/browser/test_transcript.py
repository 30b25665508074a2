"""The address under which MLflow's pages link to a conversation leads to where it can be read."""

from __future__ import annotations

from tests.browser.chromium import Desk
from tests.service_in_process import ASKS, OTHERS


def test_a_conversation_is_found_by_its_id_whether_it_was_handed_over_or_kept(desk: Desk) -> None:
    desk.bot.score("given/over 1", "m1", ASKS)
    desk.bot.score("kept-1", "m1", OTHERS[0])
    desk.bot.post("/v1/conversations/kept-1/close", {"resolution": "resolved"})
    page = desk.visit()
    page.goto("/console/transcript?id=given%2Fover%201")
    assert "/console/handoffs/" in page.url
    assert page.get_by_text(ASKS).first.is_visible()
    page.goto("/console/transcript?id=kept-1")
    assert page.url.endswith("/console/missed/conversation?id=kept-1")
    assert page.get_by_text(OTHERS[0]).first.is_visible()
