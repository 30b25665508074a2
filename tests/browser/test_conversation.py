"""A conversation and its teaching, in a real browser: the whole story, and what goes wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import NARROW, WIDE, Desk, overflow, serious
from tests.service_in_process import ASKS, QUIET

HOSTILE = (
    "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"
    "{{ 7 * 7 }} </div></li></ol> \u202emirrored\u202c \u2066isolated \U0001f469\u200d\U0001f680 "
    "&lt;b&gt; '\"><svg/onload=alert(1)> javascript:alert(1)\n\n\tI want to talk to a human "
)


def story(desk: Desk, conversation: str = "order-4711") -> dict[str, Any]:
    """A bot fails twice, and the customer asks for a person."""
    bot = desk.bot
    first = "My coffee machine arrived broken. Order AB-12345, write to jo@example.org"
    bot.post("/v1/score", _said(conversation, "m1", first))
    tried = {"id": "b1", "author": "bot", "text": "Have you tried unplugging it?"}
    failed = {"tool_error": "timeout", "attempt": "find_order"}
    angry = "Yes, it still leaks. This is awful."
    bot.post("/v1/score", _said(conversation, "m2", angry) | {"history": [tried], "bot": failed})
    asked: dict[str, Any] = bot.post("/v1/score", _said(conversation, "m3", ASKS))
    assert asked["action"] == "escalate"
    return asked


def _said(conversation: str, message: str, text: str) -> dict[str, Any]:
    return {"conversation_id": conversation, "message": {"id": message, "text": text}}


def opened(desk: Desk, name: str, handoff: str, **window: Any) -> Page:
    return desk.visit(name, f"/console/handoffs/{handoff}", **window)


def claimed(desk: Desk, name: str, handoff: str, **window: Any) -> Page:
    page = opened(desk, name, handoff, **window)
    page.get_by_role("button", name="Claim").click()
    expect(page.locator("#status")).to_contain_text("yours")
    return page


def test_the_whole_story_from_the_queue_to_a_message_that_is_scored_differently(
    desk: Desk,
) -> None:
    asked = story(desk)
    ann = desk.visit("ann", "/console/queue")
    ann.get_by_role("button", name=re.compile("Claim")).click()
    expect(ann.get_by_role("heading", level=1)).to_contain_text("order-4711")
    handoff = asked["handoff"]["id"]

    ben = opened(desk, "ben", handoff)
    expect(ben.locator("#status")).to_contain_text("ann has it")
    expect(ben.get_by_role("button", name="Resolve", exact=True)).to_have_count(0)

    given = ann.get_by_role("region", name="Already given")
    expect(given).to_contain_text("AB-12345")
    expect(given).to_contain_text("jo@example.org")
    expect(ann.get_by_role("region", name="In short")).to_contain_text("asks for a person")
    expect(ann.locator("mark.led")).to_have_text("want to talk to a human")
    expect(ann.get_by_role("region", name="What the bot tried")).to_contain_text(
        "find_order: a tool failed: timeout"
    )

    silent = desk.bot.post("/v1/score", _said("order-4711", "m4", "hello? is anybody there?"))
    assert silent["action"] == "human_active"
    expect(ann.locator("#turns")).to_contain_text("is anybody there?")  # without reload

    ann.locator("#turn-1 .said").click()
    expect(ann.locator("#turn-1 input")).to_be_checked()
    ann.keyboard.press("n")
    told = ann.locator("#teach")
    expect(told).to_contain_text("You said: a person was needed, since turn 1.")
    now, before = _effect(told.inner_text())
    assert now > before
    other = desk.bot.post("/v1/score", _said("another", "m1", ASKS))
    assert round(other["probability"], 2) > round(asked["probability"], 2)

    ann.get_by_text("Correct it").click()
    told.get_by_role("button", name="Not needed").click()
    expect(told).to_contain_text("You said: no person was needed.")
    corrected = _effect(told.inner_text())
    assert corrected[0] < corrected[1]

    ann.get_by_role("button", name="Return to the bot").click()
    expect(ann.locator("#status")).to_contain_text("back with the bot")
    again = desk.bot.post("/v1/score", _said("order-4711", "m5", QUIET))
    assert again["action"] == "continue"


def _effect(text: str) -> tuple[float, float]:
    found = re.search(r"now gives (\d\.\d\d) to messages like this; it was (\d\.\d\d)", text)
    assert found is not None, text
    return float(found[1]), float(found[2])


def test_who_comes_second_is_told_by_whom_it_is_claimed(desk: Desk) -> None:
    handoff = story(desk)["handoff"]["id"]
    ben = opened(desk, "ben", handoff)
    claimed(desk, "ann", handoff)
    ben.locator("#work button", has_text="Claim").click()
    expect(ben.get_by_role("alert")).to_contain_text("is claimed by ann")
    expect(ben.locator("#work")).to_contain_text("ann has this conversation")


@pytest.mark.parametrize(
    "key, said",
    [
        ("n", "a person was needed"),
        pytest.param("u", "no person was needed", marks=pytest.mark.long),
        ("c", "nobody can say"),
    ],
)
def test_one_key_teaches_and_one_takes_it_back(desk: Desk, key: str, said: str) -> None:
    handoff = story(desk)["handoff"]["id"]
    page = claimed(desk, "ann", handoff)
    page.keyboard.press(key)
    expect(page.locator("#teach")).to_contain_text(said)
    page.keyboard.press("z")
    expect(page.get_by_role("heading", name="Was a person needed?")).to_be_visible()
    assert desk.agent("ann").get(f"/v1/handoffs/{handoff}")["outcome"] is None


def test_keys_do_nothing_while_writing_or_when_they_are_switched_off(desk: Desk) -> None:
    handoff = story(desk)["handoff"]["id"]
    page = claimed(desk, "ann", handoff)
    page.get_by_label("A note for colleagues").press_sequentially("nuc n u c")
    page.locator("h1").click()
    page.get_by_role("button", name="Shortcuts").click()
    page.get_by_label("Use keys in this browser").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("n")
    page.reload()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="Was a person needed?")).to_be_visible()
    assert desk.agent("ann").get(f"/v1/handoffs/{handoff}")["outcome"] is None


def test_teaching_tells_team_reason_and_note_and_works_without_scripts(desk: Desk) -> None:
    handoff = story(desk)["handoff"]["id"]
    page = claimed(desk, "ann", handoff, javascript=False)
    page.locator("#turn-3 input[type=radio]").check()
    page.get_by_text("Say more").click()
    page.get_by_label("It belonged to").select_option("legal")
    page.get_by_label("Reason").fill("only a person may do this")
    page.get_by_role("button", name="Needed", exact=False).first.click()
    expect(page.locator("#teach")).to_contain_text("since turn 3, for legal: only a person")
    outcome = desk.agent("ann").get(f"/v1/handoffs/{handoff}")["outcome"]
    assert (outcome["first_needed_message_id"], outcome["team"]) == ("m2", "legal")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", name="Was a person needed?")).to_be_visible()
    page.get_by_role("button", name="Resolve", exact=True).click()
    expect(page.locator("#status")).to_contain_text("resolved")


def test_baton_asks_only_as_often_as_it_may(desk: Desk) -> None:
    engineer = desk.caller("engineer")
    engineer.put("/v1/policy", engineer.get("/v1/policy") | {"questions": {"per_agent_per_day": 1}})
    first, second = (story(desk, name)["handoff"]["id"] for name in ("one", "two"))
    page = claimed(desk, "ann", first)
    expect(page.locator("#teach")).to_contain_text("1 of 1 questions left today")
    page.keyboard.press("n")
    expect(page.locator("#teach")).to_contain_text("You said")
    page.goto(f"/console/handoffs/{second}")
    page.get_by_role("button", name="Claim").click()
    expect(page.locator("#teach")).to_contain_text("You need not answer")


def test_a_transfer_and_a_note_are_seen_by_the_next_agent(desk: Desk) -> None:
    handoff = story(desk)["handoff"]["id"]
    ann = claimed(desk, "ann", handoff)
    ann.get_by_label("A note for colleagues").fill("the warehouse knows\n<b>more</b>")
    ann.get_by_role("button", name="Keep note").click()
    ann.get_by_text("Transfer to another team").click()
    ann.get_by_label("Team", exact=True).select_option("legal")
    ann.get_by_label("What they should know").fill("speaks of a contract")
    ann.get_by_role("button", name="Transfer", exact=True).click()
    expect(ann.locator("#status")).to_contain_text("legal · waiting")
    ben = opened(desk, "ben", handoff)
    notes = ben.get_by_role("region", name="Notes")
    expect(notes).to_contain_text("<b>more</b>")
    expect(notes).to_contain_text("moved it to legal")
    expect(ben.get_by_role("region", name="In short")).to_contain_text("moved to legal")


def test_hostile_text_is_shown_as_text(desk: Desk) -> None:
    conversation = "<script>document.title='broken'</script>"
    text = (HOSTILE + "cancel </> plan " + "x" * 20_000)[:20_000]
    engineer = desk.caller("engineer")
    policy = engineer.get("/v1/policy")
    policy["rules"].append({"name": "leaving", "watches": "says:cancel plan"})
    engineer.put("/v1/policy", policy)
    bot = desk.bot
    bot.post(
        "/v1/score",
        _said(
            conversation, "<b>m0</b>", HOSTILE.replace("want to talk to a human", "have a question")
        ),
    )
    asked = bot.post(
        "/v1/score",
        _said(conversation, "m'\"><1", text)
        | {
            "attributes": {"<i>plan</i>": "<script>1</script>"},
            "bot": {"tool_error": "<img src=x onerror=alert(1)>", "attempt": "<u>x</u>"},
        },
    )
    for size in (WIDE, NARROW):
        page = opened(desk, "ann", asked["handoff"]["id"], size=size)
        expect(page.locator("h1")).to_contain_text(conversation)
        said = page.locator(".turn.user .said").last.evaluate("node => node.textContent")
        assert said == text
        expect(page.locator("mark.led").last).to_have_text("cancel </> plan")
        assert "broken" not in page.title().replace(conversation, "")
        assert page.locator("main script, main img, main b, main i, main u").count() == 0
        assert overflow(page) <= 0
    page.get_by_role("button", name="Claim").click()
    page.locator("#turns input[name=since]").last.check()
    page.get_by_role("button", name="Needed").first.click()
    expect(page.locator("#teach")).to_contain_text("since turn")


@pytest.mark.parametrize(
    "scheme, size",
    [
        pytest.param("light", WIDE, marks=pytest.mark.long),
        ("light", NARROW),
        pytest.param("dark", WIDE, marks=pytest.mark.long),
        pytest.param("dark", NARROW, marks=pytest.mark.long),
    ],
    ids=["light-wide", "light-narrow", "dark-wide", "dark-narrow"],
)
def test_the_page_keeps_nobody_out_in_any_state(
    desk: Desk, size: tuple[int, int], scheme: Any
) -> None:
    handoff = story(desk)["handoff"]["id"]
    page = opened(desk, "ann", handoff, size=size, scheme=scheme)
    assert serious(page) == []
    page.get_by_role("button", name="Claim").click()
    page.get_by_text("Say more").click()
    page.get_by_text("Transfer to another team").click()
    assert serious(page) == []
    page.get_by_role("button", name="Cannot say").click()
    page.get_by_text("Correct it").click()
    assert serious(page) == []
    assert overflow(page) <= 0


def test_what_is_not_there_is_told_so(desk: Desk) -> None:
    page = opened(desk, "ann", "h0")
    expect(page.get_by_role("alert")).to_contain_text("There is no handoff 'h0'")
