"""Last week under another policy: made again from what is stored, and honest about the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from learning.decision.policy import AuditBudget, Policy
from service.outcomes import audit_tasks
from service.policy.preview import preview
from tests.postgres import on_both
from tests.service_in_process import ASKS, OTHERS, InProcess, Place, refusal, serving

store_url = on_both()
EVERYONE = AuditBudget(uniform_share=1.0, targeted_share=0.0, double_share=0.0)
KEEPS = {"unneeded": 1e6, "missed": 1e-3, "ask": 1e6}
ESCALATES = {"unneeded": 1e-3, "missed": 1e6, "ask": 1e6}


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("preview"), database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    """Eight kept conversations, all reviewed, two of them missed; two that asked for a person,
    one of them needlessly; one that is not over.
    """
    made = service.workspace()
    made.policy(costs=KEEPS)
    for n in range(8):
        made.bot.decided(f"c{n}", "m1", OTHERS[n])
        made.bot.posted(f"/v1/conversations/c{n}/close", {"resolution": "resolved"})
    for verdict in ("needed", "not_needed"):
        handoff = made.bot.decided(verdict, "m1", ASKS)["handoff"]["id"]
        made.agent.posted(f"/v1/handoffs/{handoff}/resolve")
        made.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": verdict})
    made.bot.decided("open", "m1", OTHERS[8])
    with service.baton.store.write() as connection:
        audit_tasks.draw_audits(connection, made.name, EVERYONE, time.time() + 60)
    for n in range(8):
        audit = made.agent.got("/v1/audits/next")["audit"]
        verdict = "missed" if n < 2 else "fine"
        made.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": verdict})
    return made


def previewed(place: Place, **changes: Any) -> dict[str, Any]:
    policy = place.engineer.got("/v1/policy") | changes
    found: dict[str, Any] = place.engineer.posted("/v1/policy/preview", policy)
    return found


def test_under_the_policy_in_force_nothing_would_have_been_otherwise(place: Place) -> None:
    found = previewed(place)
    assert found["decisions"]["changed"] == 0
    assert found["decisions"]["all"] == 11
    assert found["as_made"] == found["under_this_policy"]
    assert found["conversations"]["not_over_yet"] == 1
    assert found["cut"] is None
    assert found["as_made"]["missed_rate"]["value"] == pytest.approx(2 / 8)
    assert found["as_made"]["false_escalation_rate"]["value"] == pytest.approx(1 / 2)
    assert found["by_trigger"] == {"request": {"as_made": 2, "under_this_policy": 2}}


def test_turns_that_nobody_decided_about_are_read_and_not_counted(service: InProcess) -> None:
    """The bot's own, an agent's, the system's, and the customer's that came as history."""
    place = service.workspace()
    greeting = {"id": "b1", "author": "bot", "text": "hello, I am the bot"}
    unscored = {"id": "u1", "author": "user", "text": OTHERS[1]}
    place.bot.decided("c", "m1", OTHERS[0], history=[greeting, unscored])
    handoff = place.bot.decided("c", "m2", ASKS)["handoff"]["id"]
    place.bot.decided("c", "m3", OTHERS[2])  # a person has it
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    place.bot.decided("c", "m4", OTHERS[3])
    found = previewed(place)
    assert found["decisions"]["all"] == 3
    assert found["decisions"]["changed"] == 0
    assert found["conversations"]["without_text"] == 0
    assert found["by_trigger"] == {"request": {"as_made": 1, "under_this_policy": 1}}


def test_an_offer_that_is_made_again_is_answered_as_it_was(service: InProcess) -> None:
    """And what asking cost is in both."""
    place = service.workspace()
    asking = {"unneeded": 1.0, "missed": 1.0, "ask": 1e-6}
    offers = {"share_max": 1.0, "first_message": True}
    place.policy(costs=asking, accepting={"needed": 1.0, "unneeded": 0.0}, offers=offers)
    for name, accepted in (("yes", True), ("no", False)):
        made = place.bot.decided(name, "m1", OTHERS[0])
        assert made["action"] == "offer"
        answer = {"accepted": accepted}
        handoff = place.bot.posted(f"/v1/decisions/{made['decision_id']}/answer", answer)["handoff"]
        if handoff:
            place.agent.posted(f"/v1/handoffs/{handoff['id']}/resolve")
        else:
            place.bot.posted(f"/v1/conversations/{name}/close", {"resolution": "resolved"})
    found = previewed(place)
    assert found["as_made"] == found["under_this_policy"]
    assert (found["as_made"]["kept"], found["as_made"]["escalated"]) == (1, 1)
    assert found["conversations"]["no_longer_escalated"] == 0
    asked = previewed(place, costs=asking | {"ask": 0.3})["as_made"]["cost_per_conversation"]
    unasked = found["as_made"]["cost_per_conversation"]
    assert asked["low"] - unasked["low"] == pytest.approx(0.3 - 1e-6)


def test_escalating_everything_misses_nothing_and_is_mostly_needless(place: Place) -> None:
    found = previewed(place, costs=ESCALATES)
    there = found["under_this_policy"]
    assert (there["kept"], there["escalated"]) == (0, 10)
    assert there["missed"]["value"] == 0
    assert there["false_escalation_rate"]["value"] == pytest.approx(7 / 10)
    assert there["false_escalation_rate"]["low"] < 7 / 10 < there["false_escalation_rate"]["high"]
    assert found["conversations"]["newly_escalated"] == 8
    assert any("that would have been escalated and were not" in x for x in found["cannot_know"])


def test_asking_changes_nothing(place: Place) -> None:
    before = place.content()
    previewed(place, costs=ESCALATES)
    assert place.content() == before
    assert place.engineer.got("/v1/policy")["costs"] == KEEPS


def test_a_preview_that_was_cut_says_so(place: Place) -> None:
    with place.service.baton.store.read() as connection:
        found = preview(connection, place.name, Policy(), 7.0, most=3)
    assert found["decisions"]["all"] == 3
    assert "newest 3" in found["cut"]


def test_an_empty_week_is_said_to_be_empty(service: InProcess) -> None:
    found = previewed(service.workspace())
    assert found["decisions"]["all"] == 0
    assert found["under_this_policy"]["missed_rate"]["value"] is None


def test_a_policy_that_could_not_be_set_cannot_be_previewed(place: Place) -> None:
    policy = place.engineer.got("/v1/policy") | {"rules": []}
    refusal(place.engineer.post("/v1/policy/preview", json=policy), 422)
    refusal(place.agent.post("/v1/policy/preview", json=policy), 403)
