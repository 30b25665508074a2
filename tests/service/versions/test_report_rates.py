"""Rates of the evaluation report: those of /v1/quality, and bounds where nobody can know."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from experiments.evaluation.decision_costs import ALWAYS_CONTINUE, RULES_ONLY
from learning.decision.policy import AuditBudget
from service.jobs.maintenance import Maintenance
from service.outcomes import audit_tasks
from service.store.ledger import mlflow_rows
from tests.service_in_process import OTHERS, InProcess, Place, serving

EVERYONE = AuditBudget(uniform_share=1.0, targeted_share=0.0, per_day=10_000, double_share=0.0)
NOBODY = AuditBudget(uniform_share=0.0, targeted_share=0.0)
SILENT = {"unneeded": 1e6, "missed": 1e-3, "ask": 1e6}
"""The model never hands over by itself."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("rates")) as running:
        yield running


def kept(place: Place, count: int, name: str = "c") -> None:
    for n in range(count):
        place.bot.decided(f"{name}{n}", "m1", OTHERS[n % len(OTHERS)])
        place.bot.posted(f"/v1/conversations/{name}{n}/close", {"resolution": "unknown"})


def sampled(place: Place, budget: AuditBudget) -> None:
    with place.service.baton.store.write() as connection:
        audit_tasks.draw_audits(connection, place.name, budget, time.time() + 60)


def answered(place: Place, missed: int, until: int = 10_000) -> None:
    """The audits that wait: so many were missed, the others fine."""
    for n in range(until):
        audit = place.agent.got("/v1/audits/next")["audit"]
        if audit is None:
            return
        verdict = {"verdict": "missed" if n < missed else "fine"}
        place.agent.posted(f"/v1/audits/{audit['id']}/outcome", verdict)


def report(place: Place) -> dict[str, Any]:
    Maintenance(place.service.baton.store, place.service.baton.settings).evaluate_one(place.name)
    with place.service.baton.store.read() as connection:
        row = mlflow_rows.last_evaluation(connection, place.name)
    assert row is not None
    return dict(row.report)


def complained(place: Place, conversation: str) -> dict[str, Any]:
    body = {"verdict": "missed", "source": "complaint"}
    place.agent.posted(f"/v1/conversations/{conversation}/outcome", body)
    return place.ledger()[-1]


def test_the_reports_rates_are_those_of_quality_with_caught_misses_counted_once(
    service: InProcess,
) -> None:
    place = service.workspace()
    place.policy(costs=SILENT)
    kept(place, 30)
    sampled(place, EVERYONE)
    answered(place, missed=5)
    missed = [entry for entry in place.ledger() if entry["verdict"] == "missed"]
    assert len(missed) == 5
    for entry in missed[:2]:
        complained(place, entry["conversation_id"])
    for n in range(3):
        handoff = place.escalated(f"h{n}")
        place.agent.posted(f"/v1/handoffs/{handoff}/claim")
        verdict = {"verdict": "needed" if n else "not_needed"}
        place.agent.posted(f"/v1/handoffs/{handoff}/outcome", verdict)
    found, quality = report(place)["rates"], place.engineer.got("/v1/quality")
    assert found["holds_for"] == {"since_switch": "every look", "recent": "one look"}
    for window in ("since_switch", "recent"):
        rates = found[window]
        whole = quality["missed"]
        assert rates["missed_rate"] == {name: whole[name] for name in rates["missed_rate"]}
        assert (rates["caught"], rates["audited"], rates["kept"]) == (2, 28, 30)
        assert rates["automation_rate"] == quality["automation_rate"]
        false = quality["handoffs"]["outcomes"]["false_escalation_rate"]
        assert rates["false_escalation_rate"] == false
        assert rates["cost_per_conversation"] == quality["cost"]["per_conversation"]


def test_a_thin_answer_speaks_for_its_kind_and_none_for_nothing(service: InProcess) -> None:
    """Of 20 kept conversations 2 audits are answered, of 5 handoffs one: 80 % were kept."""
    place = service.workspace()
    place.policy(costs=SILENT)
    kept(place, 20)
    sampled(place, EVERYONE)
    handoffs = [place.escalated(f"h{n}") for n in range(5)]
    answered(place, missed=0, until=2)
    row = report(place)["beside"]["since_switch"]["champion"]
    assert row["escalated"] is None, "no handoff is judged, so nothing is known of all"
    place.agent.posted(f"/v1/handoffs/{handoffs[0]}/claim")
    place.agent.posted(f"/v1/handoffs/{handoffs[0]}/outcome", {"verdict": "needed"})
    row = report(place)["beside"]["since_switch"]["champion"]
    assert row["escalated"][0] == pytest.approx(5 / 25)


def test_what_rules_alone_would_have_done_after_a_handoff_of_the_model_is_bounded(
    service: InProcess,
) -> None:
    place = service.workspace()
    place.policy(costs={"unneeded": 1.0, "missed": 4.0, "ask": 1e6})
    for n in range(40):
        place.bot.decided(f"t{n}", "m1", "my kettle leaks")
        label = {"labels": [{"message_id": "m1", "label": 1.0}]}
        place.engineer.posted(f"/v1/conversations/t{n}/outcome", label)
    for n in range(6):
        handoff = place.escalated(f"h{n}", "my kettle leaks")
        place.agent.posted(f"/v1/handoffs/{handoff}/claim")
        place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    beside = report(place)["beside"]["recent"]
    rules = beside[RULES_ONLY]
    assert rules["bounds"] is True
    assert beside["champion"]["bounds"] is beside[ALWAYS_CONTINUE]["bounds"] is False
    low, high = rules["more_than_champion"][1:]
    assert low < beside[ALWAYS_CONTINUE]["more_than_champion"][0] < high


def test_a_miss_that_comes_to_light_weighs_as_its_draw_has_it(service: InProcess) -> None:
    place = service.workspace()
    place.policy(costs=SILENT)
    kept(place, 1, "before")
    assert complained(place, "before0")["propensity"] == 1.0
    sampled(place, NOBODY)
    kept(place, 1, "passed")
    sampled(place, NOBODY)
    assert complained(place, "passed0")["propensity"] == 0.0
    kept(place, 1, "drawn")
    sampled(place, EVERYONE)
    assert complained(place, "drawn0")["propensity"] == 1.0


def test_conversations_without_any_chance_of_an_audit_are_told(service: InProcess) -> None:
    place = service.workspace()
    place.policy(costs=SILENT)
    kept(place, 10)
    sampled(place, AuditBudget(per_day=0))
    audits = place.engineer.got("/v1/quality")["audits"]
    assert audits["out_of_reach"] == 10
    assert "10 of 10 kept conversations had no chance" in audits["warning"]


def test_the_false_escalation_rate_of_all_is_told_by_those_drawn_at_random(
    service: InProcess,
) -> None:
    """Those drawn are asked about first; while some are pending, they alone speak of all."""
    place = service.workspace()
    place.policy(questions={"per_agent_per_day": 100, "uniform_share": 0.5})
    for n in range(24):
        place.agent.posted(f"/v1/handoffs/{place.escalated(f'h{n}')}/claim")
    asked = place.agent.got("/v1/questions")["questions"]
    drawn = [one["handoff_id"] for one in asked if one["drawn"]]
    assert [one["drawn"] for one in asked] == [True] * len(drawn) + [False] * (24 - len(drawn))
    assert 2 <= len(drawn) <= 22
    others = [one["handoff_id"] for one in asked if not one["drawn"]]
    for handoff, verdict in [(drawn[0], "needed"), (drawn[1], "not_needed"), (others[0], "needed")]:
        place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": verdict})
    assert [entry.get("asked") for entry in place.ledger()] == [0.5, 0.5, None]
    found = place.engineer.got("/v1/quality")["handoffs"]["outcomes"]
    assert found["false_escalation_rate"]["rate"] == pytest.approx(1 / 3)
    assert found["false_escalation_rate_of_all"]["rate"] == pytest.approx(1 / 2)
