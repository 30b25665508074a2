"""The holdout: in a few conversations, drawn by lot, rules alone decide."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from learning.estimation.audit_sampling import uniform_variate
from service.store.conversations import conversation_rows
from tests.service_in_process import ASKS, OTHERS, InProcess, Place, refusal, serving

EAGER = {"unneeded": 1e-3, "missed": 1e6, "ask": 1e6}
"""The model hands over whatever comes."""
CHANCE = 0.05
DANGER = "I want to kill myself"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("holdout")) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    made = service.workspace()
    made.policy(costs=EAGER, holdout=CHANCE)
    return made


def names(place: Place, *, drawn: bool) -> Iterator[str]:
    """Ids of conversations that the draw holds out, or does not."""
    every = (f"c{n}" for n in count())
    return (n for n in every if (uniform_variate(place.name, "holdout", n) < CHANCE) == drawn)


def test_in_a_conversation_held_out_the_model_speaks_and_only_rules_act(place: Place) -> None:
    held, other = next(names(place, drawn=True)), next(names(place, drawn=False))
    usual = place.bot.decided(other, "m1", OTHERS[0])
    assert (usual["action"], usual["held_out"]) == ("escalate", False)
    decided = place.bot.decided(held, "m1", OTHERS[0])
    assert (decided["action"], decided["held_out"]) == ("continue", True)
    assert decided["probability"] == usual["probability"]
    assert [trigger["name"] for trigger in decided["triggers"]] == ["model_escalate"]
    assert decided["reasons"][-1]["params"] == {"cause": "holdout"}
    assert "rules alone decide" in decided["reasons"][-1]["text"]
    assert place.bot.decided(held, "m1", OTHERS[0]) == decided
    assert place.bot.decided(held, "m2", ASKS)["action"] == "escalate"


def test_danger_is_never_held_out(place: Place) -> None:
    held = next(names(place, drawn=True))
    place.bot.decided(held, "m1", OTHERS[0])
    decided = place.bot.decided(held, "m2", DANGER)
    assert decided["action"] == "escalate"
    assert decided["say"]["kind"] == "crisis"


def test_the_draw_is_logged_with_its_chance_and_holds_to_the_end(place: Place) -> None:
    held, other = next(names(place, drawn=True)), next(names(place, drawn=False))
    for name in (held, other):
        place.bot.decided(name, "m1", OTHERS[0])
    with place.service.baton.store.read() as connection:
        rows = [
            conversation_rows.conversation(connection, place.name, name) for name in (held, other)
        ]
    assert [(row.holdout, row.held_out) for row in rows if row] == [(CHANCE, True), (CHANCE, False)]
    place.policy(holdout=0.0)
    decided = place.bot.decided(held, "m2", OTHERS[1])
    assert (decided["action"], decided["held_out"]) == ("continue", True)
    again = place.agent.got(f"/v1/decisions/{decided['decision_id']}/replay")
    assert again["identical"] is True


def test_nothing_is_drawn_where_the_policy_does_not_ask_or_nothing_is_acted_upon(
    service: InProcess,
) -> None:
    for mode, chance in (("live", 0.0), ("shadow", CHANCE)):
        place = service.workspace(mode)
        assert place.engineer.got("/v1/policy")["holdout"] == 0.0
        place.policy(costs=EAGER, holdout=chance)
        decided = place.bot.decided(next(names(place, drawn=True)), "m1", OTHERS[0])
        assert (decided["action"], decided["held_out"]) == ("escalate", False)


def test_a_conversation_that_is_under_way_is_not_drawn(place: Place) -> None:
    held = next(names(place, drawn=True))
    place.policy(holdout=0.0, costs={"unneeded": 1e6, "missed": 1e-3, "ask": 1e6})
    place.bot.decided(held, "m1", OTHERS[0])
    place.policy(holdout=CHANCE, costs=EAGER)
    assert place.bot.decided(held, "m2", OTHERS[1])["action"] == "escalate"


def test_no_policy_holds_out_more_than_one_in_twenty(place: Place) -> None:
    policy = place.engineer.got("/v1/policy") | {"holdout": 0.06}
    error = refusal(place.engineer.put("/v1/policy", json=policy), 422)
    assert error["field"] == "holdout"
