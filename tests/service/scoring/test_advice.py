"""Advice comes with a message or late, is stored with it, and never holds a decision up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from learning.ledger.checkpoint import digest as digest_of
from learning.models.recipes import DEFAULT
from service.jobs.maintenance import Maintenance
from tests.postgres import on_both
from tests.service_in_process import InProcess, Place, refusal, same, serving

store_url = on_both()
TEXT = "where is the parcel that I ordered"


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("advice"), database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace("shadow", DEFAULT)


def judged(place: Place, count: int = 12) -> None:
    """An adviser that is right, and what was true."""
    for n in range(count):
        needed = n % 3 == 0
        place.bot.decided(f"c{n}", "m", f"{TEXT} {n}", advice={"judge": 0.95 if needed else 0.05})
        verdict = {"verdict": "missed" if needed else "fine"}
        place.agent.posted(f"/v1/conversations/c{n}/outcome", verdict)


def test_advice_moves_the_decision_that_it_comes_with_and_is_stored(place: Place) -> None:
    low = place.bot.decided("a", "m", TEXT, advice={"judge": 0.02})
    high = place.bot.decided("b", "m", TEXT, advice={"judge": 0.98})
    none = place.bot.decided("d", "m", TEXT)
    assert low["probability"] < none["probability"] < high["probability"]
    (stored,) = place.agent.got("/v1/conversations/b")["messages"]
    assert stored["advice"] == {"judge": 0.98}


def test_late_advice_counts_from_the_next_message_on_and_once(place: Place) -> None:
    judged(place)
    first = place.bot.decided("late", "m1", TEXT)
    path = f"/v1/decisions/{first['decision_id']}/advice"
    body = {"advice": {"judge": 0.97}}
    same([place.bot.post(path, json=body) for _ in range(2)])
    refusal(place.bot.post(path, json={"advice": {"judge": 0.2}}), 409, "advice_differs")
    assert place.bot.decided("late", "m1", TEXT) == first
    told = place.bot.decided("late", "m2", "any news of it?")
    place.bot.decided("plain", "m1", TEXT)
    plain = place.bot.decided("plain", "m2", "any news of it?")
    assert told["probability"] > plain["probability"]
    refusal(place.bot.post("/v1/decisions/d0/advice", json=body), 404, "no_decision")


def test_decisions_with_advice_are_made_again_to_the_bit(place: Place) -> None:
    judged(place, 6)
    decided = place.bot.decided("again", "m", TEXT, advice={"judge": 0.4, "toxicity": 0.9})
    judged_later = place.bot.decided("c99", "m", TEXT, advice={"judge": 0.9})
    place.agent.posted("/v1/conversations/c99/outcome", {"verdict": "missed"})
    for decision in (decided, judged_later):
        again = place.agent.got(f"/v1/decisions/{decision['decision_id']}/replay")
        assert again["identical"] is True


def test_quality_says_what_each_adviser_is_worth_and_costs(place: Place) -> None:
    place.policy(advisers={"judge": 0.002})
    judged(place, 24)
    worth = place.engineer.got("/v1/quality")["advice"]["judge"]
    assert worth["price"] == 0.002
    assert worth["messages"] == 23
    assert worth["low"] <= worth["saves"] <= worth["high"]
    assert worth["saves"] == pytest.approx(worth["cost_without"] - worth["cost"])


def test_names_and_numbers_of_advice_are_bounded(place: Place) -> None:
    for advice in (
        {f"a{n}": 0.5 for n in range(9)},
        {"judge": 1.5},
        {"": 0.5},
        {"UPPER": 0.5},
        {"x" * 65: 0.5},
    ):
        refusal(place.bot.score("x", "m", TEXT, advice=advice), 422)


def test_a_rebuild_and_another_process_learn_the_same_of_advisers(place: Place) -> None:
    judged(place)
    jobs = Maintenance(place.service.baton.store, place.service.baton.settings)
    champion = jobs._lines.champion(place.name)
    assert champion.advisers.names == ("judge",)
    digest = place.engineer.got("/v1/standing")["digest"]
    assert digest_of(champion) == digest
