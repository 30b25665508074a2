"""Honest denominators: a handoff counts once, pending and unknowable ones divide nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from learning.estimation.rate_intervals import under_drift
from tests.service_in_process import ASKS, OTHERS, QUIET, InProcess, Place, serving

LEGAL = "I will sue you, my lawyer will call"
NEVER = {"unneeded": 1e6, "missed": 1e-6, "ask": 1e6}
"""Costs under which the model alone hands nothing over."""
NOTHING = {"count": 0, "among": 0, "rate": None, "low": None, "high": None}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("quality")) as running:
        yield running


def quality(place: Place) -> Any:
    return place.engineer.got("/v1/quality")


def escalated(place: Place, name: str, text: str = ASKS) -> str:
    found: str = place.bot.decided(name, "m1", text)["handoff"]["id"]
    return found


def judged(place: Place, name: str, verdict: str, text: str = ASKS) -> str:
    handoff = escalated(place, name, text)
    told = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": verdict})
    found: str = told["id"]
    return found


def kept(place: Place, name: str, **outcome: Any) -> None:
    place.bot.decided(name, "m1", QUIET)
    if outcome:
        place.bot.posted(f"/v1/conversations/{name}/outcome", outcome)
    place.bot.posted(f"/v1/conversations/{name}/close", {"resolution": "resolved"})


def test_of_nothing_there_is_no_rate_and_no_error(place: Place) -> None:
    found = quality(place)
    assert found["conversations"] == {"all": 0, "closed": 0, "escalated": 0, "kept": 0}
    assert found["automation_rate"] == NOTHING
    assert found["handoffs"]["outcomes"]["false_escalation_rate"] == NOTHING
    assert found["missed"]["rate"] is None
    assert found["missed"]["why"]
    assert found["model"]["window"] == {"n": 0, "positives": 0}
    assert found["model"]["reliability"] == {"predicted": [], "observed": [], "mass": []}


def test_pending_and_unknowable_handoffs_are_shown_and_divide_nothing(place: Place) -> None:
    for n in range(3):
        judged(place, f"needed{n}", "needed")
    judged(place, "not", "not_needed")
    judged(place, "who knows", "unknowable")
    escalated(place, "pending")
    outcomes = quality(place)["handoffs"]["outcomes"]
    rate = outcomes.pop("false_escalation_rate")
    assert outcomes.pop("false_escalation_rate_of_all")["among"] <= 4, "of those drawn at random"
    assert outcomes == {"needed": 3, "not_needed": 1, "unknowable": 1, "pending": 1}
    expected = under_drift(1, 4)
    assert rate == {name: getattr(expected, name) for name in expected.__slots__}


def test_every_handoff_stands_in_exactly_one_state_and_one_verdict(place: Place) -> None:
    for n, verdict in enumerate(("needed", "not_needed", "unknowable")):
        judged(place, f"a{n}", verdict)
    handoffs = [escalated(place, f"b{n}") for n in range(4)]
    place.agent.posted(f"/v1/handoffs/{handoffs[0]}/claim")
    place.agent.posted(f"/v1/handoffs/{handoffs[1]}/return")
    place.agent.posted(f"/v1/handoffs/{handoffs[2]}/resolve")
    place.bot.posted("/v1/conversations/b3/close", {"resolution": "abandoned"})
    whole = quality(place)
    found = whole["handoffs"]
    assert found["by_status"] == {
        "waiting": 3,
        "claimed": 1,
        "returned": 1,
        "resolved": 1,
        "abandoned": 1,
    }
    verdicts = ("needed", "not_needed", "unknowable", "pending")
    assert sum(found["outcomes"][name] for name in verdicts) == 7
    for part in (found["by_cause"], whole["by_team"]):
        assert sum(one[name] for one in part.values() for name in verdicts) == 7


def test_a_correction_moves_a_handoff_and_a_retraction_makes_it_pending_again(
    place: Place,
) -> None:
    outcome = judged(place, "c", "needed")
    place.agent.put(f"/v1/outcomes/{outcome}", json={"verdict": "not_needed"}).raise_for_status()
    found = quality(place)["handoffs"]["outcomes"]
    assert (found["needed"], found["not_needed"], found["pending"]) == (0, 1, 0)
    place.agent.delete(f"/v1/outcomes/{outcome}").raise_for_status()
    found = quality(place)["handoffs"]["outcomes"]
    assert (found["needed"], found["not_needed"], found["pending"]) == (0, 0, 1)
    assert found["false_escalation_rate"] == NOTHING


def test_rates_are_told_apart_by_team_cause_rule_and_version(place: Place) -> None:
    judged(place, "a", "needed", LEGAL)
    judged(place, "b", "not_needed", "someone hacked my account")
    place.policy(costs={"unneeded": 1e-6, "missed": 1e6, "ask": 1e6})
    judged(place, "c", "not_needed", QUIET)
    found = quality(place)
    teams = found["by_team"]
    assert set(teams) == {"legal", "security", "support"}
    assert (teams["legal"]["needed"], teams["security"]["not_needed"]) == (1, 1)
    causes = found["handoffs"]["by_cause"]
    assert (causes["rule"]["needed"], causes["rule"]["not_needed"]) == (1, 1)
    assert (causes["model"]["needed"], causes["model"]["not_needed"]) == (0, 1)
    assert found["by_rule"]["legal"]["needed"] == 1
    assert found["by_rule"]["security"]["false_escalation_rate"]["rate"] == 1.0
    assert set(found["by_version"]) == {"1"}
    assert found["by_version"]["1"]["false_escalation_rate"]["count"] == 2


def test_the_automation_rate_stands_beside_the_missed_ones(place: Place) -> None:
    place.policy(costs=NEVER)
    escalated(place, "a")
    for n in range(3):
        kept(place, f"k{n}")
    found = quality(place)
    assert found["conversations"] == {"all": 4, "closed": 3, "escalated": 1, "kept": 3}
    assert found["automation_rate"]["rate"] == 0.75
    assert found["missed"]["kept_conversations"] == 3


def test_a_caught_miss_is_of_a_conversation_that_was_closed_and_never_escalated(
    place: Place,
) -> None:
    place.policy(costs=NEVER)
    kept(place, "missed", verdict="missed", source="complaint")
    kept(place, "fine", verdict="fine")
    place.bot.decided("open", "m1", QUIET)
    place.bot.posted("/v1/conversations/open/outcome", {"verdict": "missed"})
    escalated(place, "escalated")
    place.bot.posted("/v1/conversations/escalated/outcome", {"verdict": "missed"})
    place.bot.posted("/v1/conversations/escalated/close", {"resolution": "unknown"})
    missed = quality(place)["missed"]
    assert (missed["caught"], missed["kept_conversations"]) == (1, 2)
    assert missed["low"] == pytest.approx(0.5)
    assert missed["rate"] is None
    place.bot.posted("/v1/conversations/open/close", {"resolution": "resolved"})
    missed = quality(place)["missed"]
    assert (missed["caught"], missed["kept_conversations"]) == (2, 3)
    (outcome,) = place.agent.got("/v1/conversations/open")["outcomes"]
    place.agent.delete(f"/v1/outcomes/{outcome['id']}").raise_for_status()
    missed = quality(place)["missed"]
    assert (missed["caught"], missed["kept_conversations"]) == (1, 3)


def test_the_models_measures_are_of_what_it_was_taught(place: Place) -> None:
    for n in range(8):
        place.bot.decided(f"c{n}", "m1", OTHERS[n])
        labels = {"labels": [{"message_id": "m1", "label": n % 2}]}
        place.engineer.posted(f"/v1/conversations/c{n}/outcome", labels)
    model = quality(place)["model"]
    assert (model["lessons"], model["window"]["n"], model["window"]["positives"]) == (8, 8, 4)
    assert {"auc", "average_precision", "log_loss", "brier", "ece"} <= set(model["window"])
    assert sum(model["reliability"]["mass"]) == pytest.approx(8)
    standing = place.engineer.got("/v1/standing")
    assert {name: model[name] for name in ("version", "recipe", "position")} == {
        name: standing[name] for name in ("version", "recipe", "position")
    }


def test_decisions_are_counted_by_version_and_action(place: Place) -> None:
    escalated(place, "a")
    place.bot.decided("a", "m2", QUIET)
    place.bot.decided("b", "m1", ASKS)
    place.bot.decided("b", "m1", ASKS)
    assert quality(place)["decisions"] == [
        {"version": 1, "action": "escalate", "total": 2},
        {"version": 1, "action": "human_active", "total": 1},
    ]


def test_in_a_shadow_workspace_nothing_is_handed_over_and_nothing_counts_as_such(
    service: InProcess,
) -> None:
    place = service.workspace("shadow")
    place.bot.decided("a", "m1", ASKS)
    found = quality(place)
    assert found["conversations"]["escalated"] == 0
    assert found["handoffs"]["by_status"] == {}
    assert found["decisions"] == [{"version": 1, "action": "escalate", "total": 1}]
