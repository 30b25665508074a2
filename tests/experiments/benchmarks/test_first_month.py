"""The bench of the first month: a closed loop through the service's own code, costs as promised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.benchmarks.inputs.closed_loop import FixedBars, Stateless
from experiments.benchmarks.model_quality.first_month import (
    COLUMNS,
    COSTS,
    DECIDERS,
    FirstMonthPlan,
    Month,
    month,
    parse_acceptance,
    parse_deciders,
    parse_seeds,
    yardstick_cost,
)
from experiments.simulation.world import World
from learning.conversation.state import Message
from learning.decision.policy import Policy
from service.cli import app
from service.cli.bench.local_service import LocalService

FIELDS = ["decider", "seed", *list(COLUMNS)[2:]]
PLAN = FirstMonthPlan(LocalService, (5,), conversations=40)


def test_a_month_is_the_same_each_time_and_has_the_fields_of_a_row() -> None:
    once, again = month(PLAN, "baton", 5), month(PLAN, "baton", 5)
    assert once == again
    assert list(once) == FIELDS


def test_nobody_misses_what_is_handed_over_and_everybody_what_is_not() -> None:
    everybody, nobody = month(PLAN, "hand_over_all", 5), month(PLAN, "never", 5)
    assert (everybody["handed_over"], everybody["found"], everybody["delay"]) == (1.0, 1.0, 0.0)
    assert (nobody["handed_over"], nobody["found"]) == (0.0, 0.0)
    assert everybody["cost"] > 0 < nobody["cost"]
    missed = nobody["cost"] * 40 / COSTS.missed
    assert missed == pytest.approx(round(missed))


def test_the_service_without_a_model_decides_as_the_rules_do(tmp_path: Path) -> None:
    """Both through the same world: one by ledger, store and handoffs, one by two functions."""
    served = LocalService(tmp_path, oracle=True)
    world = World(9)
    for number in range(15):
        conversation = world.conversation(number)
        turns = conversation.next()
        bare = Stateless(Policy())
        with served.turn(world.began(number)):
            decided = served.decide(conversation.id, turns, 0.0)
        assert decided.action == bare.decide(conversation.id, turns, 0.0).action
    served.close()


def test_an_offer_that_is_ignored_begins_a_cool_down_with_and_without_the_service(
    tmp_path: Path,
) -> None:
    said = ("I mean the other lamp", "the lamp, it flickers", "still the lamp")
    turns = [Message(f"m{n}", "user", text, 1e9 + n) for n, text in enumerate(said)]
    served = LocalService(tmp_path, oracle=True)
    bars = FixedBars(offer=0.2, offers={"first_message": True, "share_max": 1.0})  # type: ignore[arg-type]
    bare = Stateless(bars)
    with served.turn(1e9):
        actions = [served.decide("c", [turn], 0.3).action for turn in turns]
    after_offer = actions[actions.index("offer") + 1 :]
    assert after_offer
    assert "offer" not in after_offer
    decided = [bare.decide("c", [turn], 0.3).action for turn in turns]
    assert decided == ["offer", "continue", "continue"]
    served.close()


def test_the_best_bars_in_hindsight_cost_no_more_than_any() -> None:
    best = month(PLAN, "oracle_best", 5)
    some = Month(PLAN.world(5), 40, Stateless(FixedBars(offer=0.3, escalate=0.6))).play().row()
    assert best["cost"] <= some["cost"]


def test_jobs_move_the_policy_and_endings_teach_in_the_loop(tmp_path: Path) -> None:
    service = LocalService(tmp_path)
    Month(World(3), 60, service).play()
    assert service.policy.lost < 1.0
    service.close()


def test_recorded_conversations_are_played_as_well(tmp_path: Path) -> None:
    turns = [
        {"role": "USER", "text": "where is my parcel", "satisfaction": [1, 1, 2]},
        {"role": "SYSTEM", "text": "which parcel?"},
        {"role": "USER", "text": "you do not understand", "satisfaction": [1, 1, 1]},
    ]
    lines = [json.dumps({"conversation_id": f"c{n}", "turns": turns}) for n in range(6)]
    file = tmp_path / "talk.jsonl"
    file.write_text("\n".join(lines))
    plan = FirstMonthPlan(LocalService, (0,), stream=str(file))
    assert month(plan, "never", 0)["cost"] == COSTS.missed
    assert month(plan, "hand_over_all", 0)["cost"] == 0.0


@pytest.mark.long
def test_the_command_prints_rows(tmp_path: Path) -> None:
    arguments = ["bench", "first-month", "--quick", "--seeds", "1", "--deciders", "rules,never"]
    told = CliRunner().invoke(app, [*arguments, "--workers", "1", "--json"])
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)
    assert [row["decider"] for row in rows] == ["rules", "never"]
    assert all(list(row) == FIELDS for row in rows)


@pytest.mark.parametrize(
    "parse, text",
    [
        (parse_seeds, "1,x"),
        (parse_deciders, "luck"),
        (parse_acceptance, "2,0"),
        (parse_acceptance, "1"),
    ],
)
def test_what_cannot_be_is_refused(parse: object, text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse(text)  # type: ignore[operator]


@pytest.mark.long
def test_a_month_may_start_from_another_and_have_an_adviser() -> None:
    cold, started, advised = (
        month(replace(PLAN, **more), "baton", 5) for more in ({}, {"donor": "6"}, {"adviser": 1.0})
    )
    assert cold != started
    assert cold != advised
    assert list(started) == list(advised) == FIELDS


def test_the_yardsticks_of_a_play_cost_what_their_months_do() -> None:
    settings = PLAN.world(5).settings
    rules = yardstick_cost("rules only", settings, 5, 40)
    assert rules == pytest.approx(month(PLAN, "rules", 5)["cost"])
    everybody = yardstick_cost("everybody handed over", settings, 5, 40)
    assert everybody == pytest.approx(month(PLAN, "hand_over_all", 5)["cost"])
    assert rules != yardstick_cost("the true probability", settings, 5, 40) < everybody


def test_no_name_means_every_decider() -> None:
    assert parse_deciders("") == DECIDERS
