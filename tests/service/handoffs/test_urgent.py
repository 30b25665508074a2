"""Urgent is never held back: whatever came before, and whoever has the conversation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from learning.text.signals import read
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.store.handoffs import handoff_rows
from tests.postgres import on_both
from tests.service_in_process import (
    ASKS,
    OTHERS,
    QUIET,
    InProcess,
    Place,
    at_once,
    serving,
)

URGENT = {
    "safety": ("I am going to kill myself", "there is a gas leak in the kitchen"),
    "security": ("someone hacked my account",),
}
SAID = [(rule, text) for rule, texts in URGENT.items() for text in texts]
LEGAL = "I will sue you, my lawyer will call"
CLOSED = [{"days": ["mon"], "opens": "00:00", "closes": "00:01"}]
TUESDAY = "2026-11-24T12:00:00Z"

store_url = on_both()


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("urgent"), database=store_url) as running:
        yield running


def names(decided: dict[str, Any]) -> set[str]:
    return {trigger["name"] for trigger in decided["triggers"]}


def overdue(place: Place, handoff: str) -> None:
    """Let nobody come in time."""
    store = place.service.baton.store
    with store.write() as connection:
        handoff_rows.change(connection, place.name, handoff, opened_at=time.time() - 700_000)
    Maintenance(store, Settings()).expire()


def returned(place: Place) -> None:
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/return")


def resolved_and_closed(place: Place) -> None:
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/resolve")
    place.bot.posted("/v1/conversations/c/close", {"resolution": "resolved"})


def unanswered(place: Place) -> None:
    overdue(place, place.escalated())


def abandoned(place: Place) -> None:
    place.escalated()
    place.bot.posted("/v1/conversations/c/close", {"resolution": "abandoned"})


def offered(place: Place) -> str:
    place.offering()
    decided = place.bot.decided("c", "m0", QUIET)
    assert decided["action"] == "offer"
    return str(decided["decision_id"])


def declined(place: Place) -> None:
    place.bot.posted(f"/v1/decisions/{offered(place)}/answer", {"accepted": False})


def ignored(place: Place) -> None:
    offered(place)
    assert place.bot.decided("c", "m00", OTHERS[0])["action"] == "continue"


BEFORE: tuple[Callable[[Place], Any], ...] = (
    returned, resolved_and_closed, unanswered, abandoned, declined, ignored,
)  # fmt: skip


@pytest.mark.parametrize("before", BEFORE, ids=lambda before: before.__name__)
@pytest.mark.parametrize("rule, text", SAID)
def test_what_is_urgent_escalates_whatever_came_before(
    place: Place, before: Callable[[Place], None], rule: str, text: str
) -> None:
    before(place)
    decided = place.bot.decided("c", "m1", text)
    assert (decided["action"], decided["handoff"]["priority"]) == ("escalate", 1)
    assert rule in names(decided)
    assert not any("held back" in reason["text"] for reason in decided["reasons"])


@pytest.mark.parametrize("before", [returned, declined, ignored], ids=lambda b: b.__name__)
def test_a_legal_threat_knows_no_cool_down(place: Place, before: Callable[[Place], None]) -> None:
    before(place)
    assert place.bot.decided("c", "m1", LEGAL)["action"] == "escalate"


def test_a_legal_threat_waits_for_opening_hours(place: Place) -> None:
    place.policy(teams=[{"name": "legal", "hours": CLOSED}])
    body = {"conversation_id": "c", "message": {"id": "m1", "text": LEGAL, "at": TUESDAY}}
    assert place.bot.posted("/v1/score", body)["action"] == "offer"


@pytest.mark.parametrize("on_call", [None, "night"])
@pytest.mark.parametrize("rule, text", SAID)
def test_a_closed_team_passes_what_is_urgent_on_at_once(
    place: Place, on_call: str | None, rule: str, text: str
) -> None:
    teams = [{"name": name, "hours": CLOSED} for name in (rule, "support")]
    place.policy(teams=teams, on_call_team=on_call)
    body = {"conversation_id": "c", "message": {"id": "m1", "text": text, "at": TUESDAY}}
    decided = place.bot.posted("/v1/score", body)
    assert decided["action"] == "escalate"
    assert decided["handoff"]["team"] == (on_call or "support")
    assert "promised_at" not in decided["handoff"]
    route = place.agent.got(f"/v1/decisions/{decided['decision_id']}")["route"]
    assert (route["by"], route["rule"]) == ("on_call", rule)


@pytest.mark.parametrize("rule, text", SAID)
def test_an_urgent_message_raises_a_handoff_that_waits_with_its_team(
    place: Place, rule: str, text: str
) -> None:
    handoff, other = place.escalated(), place.escalated("other")
    said = place.bot.decided("c", "m1", text)
    assert (said["action"], said["handoff"]["id"]) == ("human_active", handoff)
    assert said["handoff"] == {"id": handoff, "team": rule, "priority": 1, "raised": True}
    assert names(said) == {rule}
    queue = place.agent.got("/v1/handoffs?status=waiting")["handoffs"]
    assert [(one["id"], one["team"], one["priority"]) for one in queue] == [
        (handoff, rule, 1),
        (other, "support", 2),
    ]
    assert queue[0]["raised_at"] is not None
    assert queue[1]["raised_at"] is None
    later = place.bot.decided("c", "m2", QUIET)
    assert (later["handoff"]["raised"], later["handoff"]["priority"]) == (False, 1)
    assert place.bot.decided("c", "m1", text) == said


@pytest.mark.parametrize("rule, text", SAID)
def test_an_urgent_message_leaves_a_claim_and_its_team_and_alerts(
    place: Place, rule: str, text: str
) -> None:
    handoff = place.escalated()
    claimed = place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    said = place.bot.decided("c", "m1", text)
    assert said["handoff"] == {"id": handoff, "team": "support", "priority": 1, "raised": True}
    now = place.agent.got(f"/v1/handoffs/{handoff}")
    assert (now["status"], now["claimed_by"]) == ("claimed", claimed["claimed_by"])
    assert now["raised_at"] is not None


def test_a_claim_whose_agent_went_quiet_does_not_keep_what_is_urgent(place: Place) -> None:
    handoff = place.escalated()
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    with place.service.baton.store.write() as connection:
        handoff_rows.change(connection, place.name, handoff, claim_expires_at=time.time() - 1)
    said = place.bot.decided("c", "m1", URGENT["safety"][0])
    assert (said["handoff"]["team"], said["handoff"]["raised"]) == ("safety", True)
    assert place.agent.got(f"/v1/handoffs/{handoff}")["status"] == "waiting"


@pytest.mark.parametrize("text", [QUIET, ASKS, LEGAL])
def test_nothing_else_raises_a_handoff(place: Place, text: str) -> None:
    handoff = place.escalated()
    said = place.bot.decided("c", "m1", text)
    assert said["handoff"] == {"id": handoff, "team": "support", "priority": 2, "raised": False}


def test_a_shadow_workspace_raises_nothing_for_nothing_is_open(service: InProcess) -> None:
    place = service.workspace("shadow")
    place.bot.decided("c", "m1", ASKS)
    said = place.bot.decided("c", "m2", URGENT["safety"][0])
    assert (said["action"], said["handoff"]) == ("escalate", None)


def test_a_claim_and_an_urgent_message_at_once_lose_neither(place: Place) -> None:
    def both(number: int) -> Any:
        if number:
            return place.agent.post(f"/v1/handoffs/{handoff}/claim")
        return place.bot.score(conversation, "m1", URGENT["safety"][0])

    for turn in range(4):
        conversation = f"c{turn}"
        handoff = place.escalated(conversation)
        said, claimed = at_once(2, both)
        assert said.json()["handoff"]["raised"] is True
        assert claimed.status_code == 200
        now = place.agent.got(f"/v1/handoffs/{handoff}")
        assert (now["status"], now["priority"]) == ("claimed", 1)
        assert now["raised_at"] is not None


# The cool-down


@contextmanager
def asking_at(place: Place) -> Iterator[Callable[[str, str, float], Any]]:
    """Score a message some seconds from now."""

    def ask(message: str, text: str, seconds: float) -> Any:
        at = time.time() + seconds
        body = {"conversation_id": "c", "message": {"id": message, "text": text, "at": at}}
        return place.bot.posted("/v1/score", body)

    yield ask


@pytest.mark.parametrize("before", [returned, declined], ids=lambda b: b.__name__)
def test_the_cool_down_ends_by_time_as_well_as_by_messages(
    place: Place, before: Callable[[Place], None]
) -> None:
    before(place)
    place.policy(
        cooldown_messages=100,
        cooldown_seconds=3600,
        costs={"unneeded": 1e-6, "missed": 1e6, "ask": 1e6},
    )
    with asking_at(place) as ask:
        assert ask("n1", OTHERS[1], 3000)["action"] == "continue"
        assert ask("n2", OTHERS[2], 4000)["action"] == "escalate"


@pytest.mark.parametrize("before", [resolved_and_closed, abandoned], ids=lambda b: b.__name__)
def test_ordinary_rules_are_not_cooled_down_unless_the_conversation_was_given_back(
    place: Place, before: Callable[[Place], None]
) -> None:
    before(place)
    for number in range(3):
        failed = {"tool_error": "the order system timed out"}
        decided = place.bot.decided("c", f"n{number}", "where is my order 12345", bot=failed)
    assert decided["action"] == "escalate"
    assert {"failed_automation", "repeated_by_customer"} <= names(decided)


# Offers


def test_an_offer_that_the_next_message_ignores_begins_the_cool_down(place: Place) -> None:
    offered(place)
    place.policy(cooldown_messages=2)
    actions = [place.bot.decided("c", f"n{n}", OTHERS[n])["action"] for n in range(3)]
    assert actions == ["continue", "continue", "offer"]
    events = [turn["event"] for turn in place.agent.got("/v1/conversations/c")["messages"]]
    assert events.count("ignored") == 1


def test_asking_for_a_person_after_an_offer_does_not_ignore_it(place: Place) -> None:
    offered(place)
    assert place.bot.decided("c", "n1", ASKS)["action"] == "escalate"
    events = [turn["event"] for turn in place.agent.got("/v1/conversations/c")["messages"]]
    assert "ignored" not in events


@pytest.mark.parametrize("accepted", [True, False])
def test_an_answer_to_an_offer_while_a_handoff_is_open_gives_that_handoff(
    place: Place, accepted: bool
) -> None:
    decision = offered(place)
    handoff = place.bot.decided("c", "n1", ASKS)["handoff"]["id"]
    answer = place.bot.posted(f"/v1/decisions/{decision}/answer", {"accepted": accepted})
    assert answer["handoff"]["id"] == handoff
    assert place.content()["handoff"] == 1
    events = [turn["event"] for turn in place.agent.got("/v1/conversations/c")["messages"]]
    assert "declined" not in events


# Nobody came


def test_after_nobody_came_the_request_stands(place: Place) -> None:
    handoff = place.escalated()
    overdue(place, handoff)
    assert place.agent.got(f"/v1/handoffs/{handoff}")["status"] == "unanswered"
    decided = place.bot.decided("c", "m1", OTHERS[0])
    assert decided["action"] == "offer"
    assert "unanswered" in names(decided)
    answer = f"/v1/decisions/{decided['decision_id']}/answer"
    place.bot.posted(answer, {"accepted": False})
    assert place.bot.decided("c", "m2", OTHERS[3])["action"] == "continue"


def test_somebody_who_comes_late_has_the_conversation_all_the_same(place: Place) -> None:
    handoff = place.escalated()
    for turn in range(2):
        overdue(place, handoff)
        assert place.bot.decided("c", f"s{turn}", OTHERS[turn])["action"] == "offer"
        claimed = place.agent.posted(f"/v1/handoffs/{handoff}/claim")
        assert claimed["status"] == "claimed"
        assert place.bot.decided("c", f"m{turn}", OTHERS[3 + turn])["action"] == "human_active"
        with place.service.baton.store.write() as connection:
            handoff_rows.change(
                connection, place.name, handoff, status="waiting", claimed_by=None,
                claim_expires_at=None,
            )  # fmt: skip
    overdue(place, handoff)
    newer = place.bot.decided("c", "m9", ASKS)["handoff"]["id"]
    refused = place.agent.post(f"/v1/handoffs/{handoff}/claim")
    assert (refused.status_code, newer != handoff) == (409, True)


@pytest.mark.parametrize("how, event", [("return", "returned"), ("resolve", "resolved")])
def test_the_fold_hears_how_a_handoff_ended(place: Place, how: str, event: str) -> None:
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/{how}")
    turns = place.agent.got("/v1/conversations/c")["messages"]
    assert [turn["event"] for turn in turns if turn["event"]] == ["handed_over", event]


def test_the_texts_of_this_file_are_read_as_what_they_are() -> None:
    for rule, text in SAID:
        assert rule in read(text).topics, text
    assert "legal" in read(LEGAL).topics
