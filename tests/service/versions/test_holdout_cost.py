"""What rules alone cost, by the conversations in which they alone decided."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from experiments.evaluation import mlflow_run
from experiments.evaluation.decision_costs import RULES_HELD_OUT, RULES_ONLY
from learning.decision.policy import AuditBudget
from learning.estimation.audit_sampling import uniform_variate
from service.jobs.maintenance import Maintenance
from service.outcomes import audit_tasks
from service.store.ledger import mlflow_rows
from tests.service.web.test_conversation_page import Window
from tests.service_in_process import ASKS, OTHERS, Place, serving

EAGER = {"unneeded": 1.0, "missed": 1e5, "ask": 1e6}
"""The model hands over whatever comes."""
EVERYONE = AuditBudget(uniform_share=1.0, targeted_share=0.0, per_day=10_000, double_share=0.0)
CHANCE, KEPT, ASKED = 0.05, 8, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Twelve are held out: eight kept, of which one was missed, and four that asked for a person,
    of which one needed none; three others the model handed over, as nobody needed.
    """
    with serving(tmp_path_factory.mktemp("holdout-cost")) as service:
        made = service.workspace()
        made.policy(costs=EAGER, holdout=CHANCE)
        held = drawn(made)
        for n in range(KEPT):
            name = next(held)
            made.bot.decided(name, "m1", OTHERS[n % len(OTHERS)])
            made.bot.posted(f"/v1/conversations/{name}/close", {"resolution": "unknown"})
        with service.baton.store.write() as connection:
            audit_tasks.draw_audits(connection, made.name, EVERYONE, time.time() + 60)
        for n in range(KEPT):
            audit = made.agent.got("/v1/audits/next")["audit"]
            verdict = {"verdict": "missed" if n == 0 else "fine"}
            made.agent.posted(f"/v1/audits/{audit['id']}/outcome", verdict)
        for n in range(ASKED):
            judge(made, made.escalated(next(held), ASKS), needed=n > 0)
        usual = (f"c{n}" for n in count() if not is_drawn(made, f"c{n}"))
        for _ in range(3):
            judge(made, made.escalated(next(usual), OTHERS[0]), needed=False)
        yield made


def is_drawn(place: Place, name: str) -> bool:
    return uniform_variate(place.name, "holdout", name) < CHANCE


def drawn(place: Place) -> Iterator[str]:
    return (f"c{n}" for n in count() if is_drawn(place, f"c{n}"))


def judge(place: Place, handoff: str, *, needed: bool) -> None:
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    verdict = {"verdict": "needed" if needed else "not_needed"}
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", verdict)


@pytest.fixture(scope="module")
def report(place: Place) -> dict[str, Any]:
    Maintenance(place.service.baton.store, place.service.baton.settings).evaluate_one(place.name)
    with place.service.baton.store.read() as connection:
        row = mlflow_rows.last_evaluation(connection, place.name)
    assert row is not None
    return dict(row.report)


def test_the_holdout_tells_what_rules_cost_beside_the_bounds(report: dict[str, Any]) -> None:
    beside = report["beside"]["recent"]
    assert beside[RULES_ONLY]["source"] == "bounds"
    row = beside[RULES_HELD_OUT]
    assert (row["source"], row["bounds"]) == ("holdout", False)
    assert row["conversations"] == row["held_out"] == KEPT + ASKED
    missed = report["costs"]["lost"] * EAGER["missed"]
    rules = (missed + EAGER["unneeded"]) / (KEPT + ASKED)
    model = (KEPT - 1 + 1) * EAGER["unneeded"] / (KEPT + ASKED)
    cost, more = row["cost_per_conversation"], row["more_than_champion"]
    assert cost[0] == pytest.approx(rules)
    assert more[0] == pytest.approx(rules - model)
    assert cost[1] < cost[0] < cost[2]
    assert row["escalated"][0] == pytest.approx(ASKED / (KEPT + ASKED))


def test_quality_and_mlflow_tell_the_same_by_source(place: Place, report: dict[str, Any]) -> None:
    beside = report["beside"]["recent"]
    told = {row["source"]: row for row in place.engineer.got("/v1/quality")["rules_only"]}
    assert set(told) == {"bounds", "holdout"}
    for source, name in (("bounds", RULES_ONLY), ("holdout", RULES_HELD_OUT)):
        for figure in ("conversations", "cost_per_conversation", "more_than_champion", "held_out"):
            assert told[source][figure] == beside[name].get(figure)
    run = next(run for run in mlflow_run.nested(report) if run.name == RULES_HELD_OUT)
    assert run.tags["baton.source"] == "holdout"
    cost = [run.metrics[name] for name in ("cost", "cost low", "cost high")]
    assert cost == beside[RULES_HELD_OUT]["cost_per_conversation"]


def test_the_console_names_both_by_their_source(place: Place, report: dict[str, Any]) -> None:
    assert report["beside"]["recent"]
    lead = Window(place, place.keys["engineer"]).caller
    page = lead.get("/console/engineering").text
    assert "Rules alone, holdout" in page
    assert "Rules alone (bounds)" in page
    assert "of the holdout" in lead.get("/console/today").text


def test_what_was_held_out_is_no_mistake_of_the_model(report: dict[str, Any]) -> None:
    assert {mistake["what"] for mistake in report["mistakes"]} == {
        "handed over by the model: needed nobody"
    }
    assert len(report["mistakes"]) == 3
