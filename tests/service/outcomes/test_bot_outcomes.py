"""What a bot's key says of conversations weighs less, has a daily bound, and is not an agent's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.outcomes import annotator_review
from tests.postgres import on_both
from tests.service_in_process import QUIET, InProcess, Place, refusal, serving

store_url = on_both("module")
MISSED = {"verdict": "missed", "source": "complaint"}


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(Path(tmp_path_factory.mktemp("bots")), database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


def missed(place: Place, caller: Any, count: int) -> list[dict[str, Any]]:
    """So many conversations alike, and what a key was answered to calling them missed."""
    answers = []
    for number in range(count):
        name = f"c{caller.headers['authorization'][-6:]}{number}"
        place.bot.decided(name, "m", QUIET)
        answers.append(caller.posted(f"/v1/conversations/{name}/outcome", MISSED))
    return answers


def probability(place: Place, name: str) -> float:
    return float(place.bot.decided(name, "m", QUIET)["probability"])


def test_a_bot_s_outcome_moves_the_model_less_than_a_person_s(service: InProcess) -> None:
    by_bot, by_agent = service.workspace(), service.workspace()
    missed(by_bot, by_bot.bot, 3)
    missed(by_agent, by_agent.agent, 3)
    assert probability(by_bot, "next") < probability(by_agent, "next")
    assert [body["weight"] for body in by_bot.ledger()] == [0.5] * 3


def test_beyond_the_day_s_bound_a_bot_s_outcomes_wait(place: Place) -> None:
    place.policy(bot_outcomes={"weight": 0.5, "daily": 4})
    answers = missed(place, place.bot, 4)
    before = probability(place, "before")
    late = missed_again = place.bot
    place.bot.decided("late", "m", QUIET)
    answers.append(late.posted("/v1/conversations/late/outcome", MISSED))
    assert [answer["effect"] for answer in answers] == ["learned"] * 4 + ["waiting"]
    assert probability(place, "after") == before
    assert missed_again.posted("/v1/conversations/late/outcome", MISSED)["effect"] == "waiting"


def test_an_agent_s_outcomes_have_no_bound(place: Place) -> None:
    place.policy(bot_outcomes={"weight": 0.5, "daily": 1})
    missed(place, place.agent, 3)
    assert all("weight" not in body for body in place.ledger())


def test_a_bot_cannot_sign_as_an_agent(place: Place) -> None:
    place.bot.decided("c", "m", QUIET)
    forged = place.bot.post(
        "/v1/conversations/c/outcome", json={"verdict": "missed", "source": "agent"}
    )
    refusal(forged, 403, "role_too_low")
    said = place.bot.posted("/v1/conversations/c/outcome", {"verdict": "missed"})
    assert said["source"] == "bot"


def test_a_bot_s_outcomes_are_looked_at_like_an_agent_s(place: Place) -> None:
    told = missed(place, place.bot, 3)
    name = told[0]["agent"]
    right = {"verdict": "fine", "source": "agent"}
    assert place.agent.put(f"/v1/outcomes/{told[0]['id']}", json=right).status_code == 200
    monitor = annotator_review.AnnotatorMonitor(place.service.baton.store)
    while monitor.review_workspace(place.name, time.time() + 1):
        pass
    (row,) = [
        one for one in place.engineer.got("/v1/quality/agents")["agents"] if one["agent"] == name
    ]
    assert (row["told_unasked"], row["corrected_by_others"]) == (3, 1)
    assert row["suspected"] is None
