"""Advice is trusted as far as it earns, costs little where it is wrong, and speaks for itself."""

from __future__ import annotations

import json
import math
import random

import pytest

from learning.conversation.state import EMPTY, Message, fold, step
from learning.decision.policy import Policy
from learning.ledger import checkpoint
from learning.ledger.advice_worth import AdviceTrials, action_cost
from learning.ledger.model_state import Entry, ModelState, Turn, replay_entries
from learning.models.mixture.advisers import ADVISERS_MAX, SHARE, Advisers

NOBODY = ModelState(recipe="bayes-4")


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def taught(advisers: Advisers, count: int, *, honest: bool, seed: int = 0) -> None:
    """The model's own word is worth nothing; the adviser's is the truth, or its contrary."""
    draw = random.Random(seed)
    for _ in range(count):
        y = float(draw.random() < 0.3)
        p = min(max((y if honest else 1 - y) * 0.6 + draw.random() * 0.4, 0.01), 0.99)
        advisers.learn(draw.gauss(-1, 0.3), [("judge", p)], y, 1.0)


def test_without_advice_the_model_says_what_it_said() -> None:
    advisers = Advisers()
    taught(advisers, 50, honest=True)
    assert advisers.margin(0.7, []) == 0.7
    assert advisers.margin(0.7, [("judge", 0.9)]) > 0.7


def test_new_advisers_share_a_quarter_of_the_say() -> None:
    advisers = Advisers()
    assert advisers.margin(0.0, [("a", 0.9)]) == pytest.approx(SHARE * logit(0.9))
    assert advisers.margin(1.0, [("a", 0.9), ("b", 0.9)]) == pytest.approx(
        (1 - SHARE) * 1.0 + SHARE * logit(0.9)
    )


def test_an_honest_adviser_gains_say_and_a_wrong_one_loses_it_and_soon() -> None:
    honest, wrong = Advisers(), Advisers()
    taught(honest, 200, honest=True)
    taught(wrong, 60, honest=False)
    assert honest.margin(-1.0, [("judge", 0.9)]) > honest.margin(-1.0, [("judge", 0.3)]) + 1
    assert wrong.margin(-1.0, [("judge", 0.9)]) < wrong.margin(-1.0, [("judge", 0.1)])
    taught(honest, 150, honest=False, seed=1)
    assert honest.margin(-1.0, [("judge", 0.9)]) < honest.margin(-1.0, [("judge", 0.1)])


def test_names_beyond_the_most_are_not_heard() -> None:
    advisers = Advisers()
    for n in range(ADVISERS_MAX):
        advisers.learn(0.0, [(f"a{n}", 0.5)], 1.0, 1.0)
    before = json.dumps(advisers.dump()[0])
    assert advisers.margin(0.3, [("late", 0.99)]) == pytest.approx(
        sum(advisers._shares.theta) * 0.3
    )
    assert json.dumps(advisers.dump()[0]) == before
    advisers.learn(0.0, [("late", 0.9)], 1.0, 1.0)
    assert "late" not in advisers.names


def test_what_was_learned_is_restored_to_the_bit() -> None:
    advisers, again = Advisers(), Advisers()
    taught(advisers, 30, honest=True)
    advisers.learn(0.2, [("other", 0.4), ("judge", 0.7)], 1.0, 0.5)
    again.load(json.loads(json.dumps(advisers.dump()[0])), {})
    for one in (advisers, again):
        one.learn(0.1, [("judge", 0.9)], 0.0, 1.0)
    assert again.dump() == advisers.dump()


# In the fold


def said(n: int, *advice: tuple[str, float], author: str = "user") -> Message:
    return Message(f"m{n}", author, f"message {n}", 1e9 + n, advice=advice)


def late(n: int, *advice: tuple[str, float]) -> Message:
    return Message(f"s{n}", "system", "", 1e9 + n, event="advice", advice=advice)


def test_advice_speaks_of_its_own_message_alone() -> None:
    state = fold([said(1, ("judge", 0.8)), said(2)])
    assert state.advice == ()
    assert fold([said(1, ("judge", 0.8))]).advice == (("judge", 0.8),)


def test_late_advice_counts_from_the_next_message_on_until_the_adviser_speaks_again() -> None:
    state = fold([said(1), late(2, ("judge", 0.8))])
    assert state.advice == ()
    assert state.turns == 1
    state = step(state, said(3))
    assert state.advice == (("judge", 0.8),)
    state = step(state, said(4, ("judge", 0.1), ("other", 0.5)))
    assert state.advice == (("judge", 0.1), ("other", 0.5))
    assert step(state, said(5)).advice == ()


def test_a_late_event_changes_nothing_else_of_the_state() -> None:
    plain, advised = fold([said(1), said(2)]), fold([said(1), late(2, ("judge", 0.8)), said(2)])
    assert NOBODY.score(plain).own_margin == 0.0
    ignoring = {"advice": (), "late_advice": ()}
    fields = {n: getattr(plain, n) for n in plain.__slots__} | ignoring
    assert {n: getattr(advised, n) for n in advised.__slots__} | ignoring == fields
    assert EMPTY.advice == ()


# What it is worth


def ledger(honest: bool, count: int = 60) -> tuple[list[Entry], dict[str, list[Turn]]]:
    draw, entries, talks = random.Random(3), [Entry(1, "policy", {}, "t", 0.0)], {}
    for n in range(count):
        y = float(draw.random() < 0.4)
        p = 0.05 + 0.9 * (y if honest else draw.random())
        talks[f"c{n}"] = [Turn(said(n, ("judge", p)), True)]
        body = {
            "outcome_id": f"o{n}",
            "conversation_id": f"c{n}",
            "verdict": "labels",
            "begins": 1,
            "covers": 1,
            "labels": [(1, y, 1.0)],
            "source": "labels",
            "propensity": 1.0,
            "by_rule": False,
        }
        entries.append(Entry(n + 2, "outcome", body, "t", 0.0))
    return entries, talks


def learned(honest: bool) -> ModelState:
    state, (entries, talks) = ModelState(recipe="bayes-4"), ledger(honest)
    replay_entries(state, entries, lambda name, until: talks[name][:until])
    return state


def test_the_worth_of_a_good_adviser_is_shown_and_of_a_random_one_not() -> None:
    good, random_ = (learned(honest).advice_trials.worth("judge") for honest in (True, False))
    assert good["low"] > 0.0
    assert good["cost"] < good["cost_without"]
    assert random_["low"] < 0.0
    assert good["conversations"] == good["messages"] == 59, "the first lesson had nobody to try"


def test_a_checkpoint_keeps_the_advisers_and_what_they_were_worth() -> None:
    state = learned(honest=True)
    again = checkpoint.load(checkpoint.dump(state))
    assert checkpoint.digest(again) == checkpoint.digest(state)
    assert again.advice_trials.worth("judge") == state.advice_trials.worth("judge")
    assert again.advisers.shares == state.advisers.shares


def test_few_conversations_tell_nothing() -> None:
    trials = AdviceTrials()
    for n in range(9):
        trials.add("judge", n, 1.0, 0.1, 0.5)
    assert trials.worth("judge")["saves"] is None
    assert trials.worth("nobody")["messages"] == 0


def test_a_decision_costs_what_the_policy_says_of_it() -> None:
    policy = Policy()
    bars = policy.thresholds
    assert action_cost(policy, 0.0, 1.0) == policy.costs.missed
    assert action_cost(policy, 1.0, 0.0) == policy.costs.unneeded
    assert action_cost(policy, 1.0, 1.0) == action_cost(policy, 0.0, 0.0) == 0.0
    assert action_cost(policy, bars.offer, 0.0) == pytest.approx(0.15 + 0.25)
