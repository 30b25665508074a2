"""What the simulated world must hold for experiments on it to mean anything."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.datasets.episode import Episode
from experiments.simulation.world import (
    Agent,
    AgentBehaviour,
    Conversation,
    Drift,
    Forgery,
    World,
    WorldSettings,
    episodes,
)
from experiments.simulation.world.intents import intents
from experiments.simulation.world.simulated_world import HARMLESS_INTENT, NEW_PRODUCT
from experiments.simulation.world.templates import data, fill, template
from learning.measures.scores import measures
from tests.work import calls


def played(world: World, number: int) -> Conversation:
    """A conversation with the bot left alone."""
    conversation = world.conversation(number)
    while not conversation.ended:
        conversation.next()
    return conversation


def handed_over(world: World, count: int) -> list[Conversation]:
    """Conversations that were handed over at their second message of the customer, or first."""
    found = []
    for number in range(count):
        conversation = world.conversation(number)
        conversation.next()
        turns = conversation.next()
        if not conversation.ended and turns:
            conversation.next("escalate")
            found.append(conversation)
    return found


def needed_share(world: World, numbers: range) -> float:
    """Own requests aside, which count as needed whatever the matter."""
    return float(np.mean([played(world, number).hard for number in numbers]))


def test_the_same_seed_gives_the_same_stream_under_any_hash_seed() -> None:
    program = (
        "import hashlib; from experiments.simulation.world import episodes;"
        "print(hashlib.sha256(repr(list(episodes(5, 40))).encode()).hexdigest())"
    )
    here = hashlib.sha256(repr(list(episodes(5, 40))).encode()).hexdigest()
    for seed in ("0", "4711"):
        told = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == here


def test_another_seed_gives_other_conversations() -> None:
    assert list(episodes(1, 20)) != list(episodes(2, 20))


def test_a_conversation_does_not_depend_on_which_others_were_played() -> None:
    world = World(3)
    alone = played(World(3), 17).messages
    for number in (5, 99, 2):
        played(world, number)
    assert played(world, 17).messages == alone


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(0, 10_000),
    st.lists(st.sampled_from(["continue", "offer", "escalate", "human_active", "returned"])),
)
def test_every_conversation_ends_and_keeps_its_order(
    seed: int, number: int, plan: list[str]
) -> None:
    """Whatever is decided: ids are unique, times rise, the last new message is the customer's
    unless it is over, labels never fall before a return, and the truth names a known message."""
    conversation = World(seed).conversation(number)
    turns, since, actions = conversation.next(), 0, iter(plan)
    while not conversation.ended:
        assert turns[-1].author == "user"
        action = next(actions, "continue")
        if action == "offer":
            action = "escalate" if conversation.accepts() else "continue"
        turns = conversation.next("escalate" if action == "returned" else action)
        if conversation.handed_over:
            assert turns == ()
            turns = conversation.serve("ada", returned=action == "returned")
            since = len(conversation.labels) - 1
    ids = [message.id for message in conversation.messages]
    assert len(set(ids)) == len(ids) <= 100
    times = [message.at for message in conversation.messages]
    assert times == sorted(times)
    users = [message.id for message in conversation.messages if message.author == "user"]
    assert list(conversation.labels) == list(conversation.beliefs) == users
    labels = list(conversation.labels.values())[since:]
    truth = conversation.truth
    assert labels == sorted(labels)
    assert truth.needed == (truth.first_needed_message_id is not None)
    if truth.needed:
        assert conversation.labels[truth.first_needed_message_id] == 1


def test_a_conversation_refuses_what_cannot_happen() -> None:
    conversation = World().conversation(0)
    conversation.next()
    with pytest.raises(ValueError, match="unknown"):
        conversation.next("shout")
    with pytest.raises(ValueError, match="not handed over"):
        conversation.serve("ada")
    conversation.next("escalate")
    with pytest.raises(ValueError, match="waits for a person"):
        conversation.next()
    conversation.serve("ada")
    with pytest.raises(ValueError, match="has ended"):
        conversation.next()


@pytest.mark.long
def test_there_are_many_intents_and_thousands_of_distinct_sentences() -> None:
    conversations = [played(World(1), number) for number in range(2500)]
    texts = {
        message.text
        for conversation in conversations
        for message in conversation.messages
        if message.author == "user"
    }
    seen = Counter(conversation.customer.intent.name for conversation in conversations)
    assert len(texts) > 5000
    assert len(seen) == len(intents()) >= 12
    assert min(seen.values()) >= 20
    assert {c.customer.language for c in conversations} == {"en", "de", "fr", "es"}


def test_every_template_can_be_filled_and_leaves_no_mark_of_its_grammar() -> None:
    for name in range(400):
        for message in played(World(2), name).messages:
            assert message.text.strip() == message.text != ""
            assert not set("[]{}|") & set(message.text)


def test_a_template_draws_choices_and_fills_slots() -> None:
    told = {fill((template("[a|b] {x} [, c|]"),), Random(seed), {"x": "y"}) for seed in range(50)}
    assert told == {"a y, c", "b y, c", "a y", "b y"}


def test_every_language_has_a_topic_for_every_intent() -> None:
    for words in data("talk.toml")["lang"].values():
        assert set(words["topics"]) == set(intents())


def test_ids_and_reports_are_as_the_service_wants_them() -> None:
    for number in range(200):
        for message in played(World(4), number).messages:
            if message.author == "bot":
                assert message.bot is None or message.bot.intent is None
            if message.author == "user":
                assert message.bot is not None
                assert message.bot.confidence is not None
                assert 0 <= message.bot.confidence <= 1
                assert message.language is not None


@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_the_base_rate_is_what_was_set(rate: float) -> None:
    world = World(21, WorldSettings(base_rate=rate))
    count = 6000
    band = 4 * (rate * (1 - rate) / count) ** 0.5 + 0.06 * rate
    assert abs(needed_share(world, range(count)) - rate) < band


def test_an_impossible_base_rate_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="base rate"):
        World(0, WorldSettings(base_rate=0.9))
    with pytest.raises(ValueError, match="base rate"):
        World(0, WorldSettings(base_rate=0.3, drifts=(Drift("base_rate", at=10),)))


def test_belief_is_calibrated_and_near_the_best_auc_that_was_planned() -> None:
    """The exact filter: its mean is the share of labels, and in each tenth as well."""
    truth, belief = [], []
    for number in range(5000):
        conversation = played(World(8), number)
        truth += conversation.labels.values()
        belief += conversation.beliefs.values()
    y, p = np.array(truth, dtype=float), np.array(belief)
    figures = measures(p, y)
    assert 0.88 < figures["auc"] < 0.95
    assert figures["ece"] < 0.015
    assert abs(p.mean() - y.mean()) < 0.015


def test_truth_is_more_than_anger_failures_or_a_request() -> None:
    """Some calm customers who ask for nobody need a person; some furious ones do not. Who asks
    does, whatever it is about."""
    calm = angry = asked = 0
    for number in range(2000):
        conversation = played(World(6), number)
        calm += conversation.truth.needed and not conversation.requests
        angry += conversation.customer.anger == 2 and not conversation.truth.needed
        asked += conversation.requests > 0 and not conversation.hard
        assert conversation.truth.needed or not conversation.requests
    assert calm > 100
    assert angry > 30
    assert asked > 30


def test_failures_raise_the_need_of_a_person() -> None:
    first = later = 0
    for number in range(1500):
        truth = played(World(6), number).truth
        first += truth.first_needed_message_id == "u1"
        later += truth.needed and truth.first_needed_message_id != "u1"
    assert first > 50
    assert later > 50


def test_a_return_begins_anew() -> None:
    world = World(12, WorldSettings(base_rate=0.4))
    again = []
    for conversation in handed_over(world, 600):
        before = len(conversation.labels)
        conversation.serve("ben", returned=True)
        assert conversation.messages[-1].author == "user"
        assert not conversation.handed_over
        assert len(conversation.labels) == before + 1
        again.append(conversation.truth.needed)
        assert conversation.truth.first_needed_message_id in (None, conversation.messages[-1].id)
    assert np.mean(again) < 0.4


def test_customers_who_need_a_person_accept_one_more_often() -> None:
    world, accepted = World(13, WorldSettings(base_rate=0.4)), {True: [0, 0], False: [0, 0]}
    for number in range(1500):
        conversation = world.conversation(number)
        conversation.next()
        needed = conversation.truth.needed
        accepted[needed][0] += conversation.accepts()
        accepted[needed][1] += 1
    assert accepted[True][0] / accepted[True][1] > 0.8
    assert accepted[False][0] / accepted[False][1] < 0.35


def test_offers_are_accepted_declined_and_ignored_as_the_settings_say() -> None:
    settings = WorldSettings(base_rate=0.05, acceptance=(0.8, 0.3), ignoring=0.5)
    answers = Counter[bool | None]()
    for number in range(3000):
        conversation = World(13, settings).conversation(number)
        conversation.next()
        if not conversation.truth.needed:
            answers[conversation.answer()] += 1
    total = answers.total()
    assert abs(answers[True] / total - 0.3) < 0.04
    assert abs(answers[None] / (total - answers[True]) - 0.5) < 0.05


def test_customers_come_back_once_the_unsettled_ones_more_often() -> None:
    world, back = World(25), {True: [0, 0], False: [0, 0]}
    for number in range(1500):
        conversation = played(world, number)
        needed, said = conversation.truth.needed, len(conversation.messages)
        back[needed][1] += 1
        after = world.comes_back_after(conversation)
        if after is None:
            continue
        back[needed][0] += 1
        turns = conversation.come_back(after)
        assert [turn.author for turn in turns] == ["user"]
        assert turns[0].at > conversation.messages[said - 1].at
        assert conversation.truth.needed or not needed
        while not conversation.ended:
            conversation.next()
        assert world.comes_back_after(conversation) is None
    assert back[True][0] / back[True][1] > 3 * back[False][0] / back[False][1] > 0


def test_some_customers_who_were_helped_leave_without_a_word() -> None:
    ends = Counter(played(World(26), number).resolution for number in range(600))
    assert set(ends) == {"resolved", "unknown", "abandoned"}
    assert min(ends.values()) > 30


def test_careful_agents_err_at_the_rates_they_were_given() -> None:
    agent = Agent(
        "ada", AgentBehaviour(wrong=0.1, vague=0.4, misplaced=0.2, unknowable=0.05), seed=1
    )
    wrong = vague = misplaced = unknowable = named = right = 0
    conversations = handed_over(World(14, WorldSettings(base_rate=0.4)), 5000)
    for conversation in conversations:
        truth, told = conversation.truth, agent.verdict(conversation)
        unknowable += told.verdict == "unknowable"
        if told.verdict == "unknowable":
            continue
        agrees = (told.verdict == "needed") == truth.needed
        wrong += not agrees
        if agrees and truth.needed:
            right += 1
            vague += told.first_needed_message_id is None
            named += told.first_needed_message_id is not None
            misplaced += told.first_needed_message_id not in (None, truth.first_needed_message_id)
    assert abs(unknowable / len(conversations) - 0.05) < 0.015
    assert abs(wrong / len(conversations) - 0.095) < 0.02
    assert abs(vague / right - 0.4) < 0.05
    assert 0.05 < misplaced / named < 0.2


def test_a_hostile_agent_inverts_and_a_careless_one_says_needed() -> None:
    conversations = handed_over(World(15), 800)
    hostile = Agent("eve", AgentBehaviour(manner="hostile", unknowable=0.0), seed=1)
    careless = Agent("kim", AgentBehaviour(manner="careless"), seed=1)
    assert all((hostile.verdict(c).verdict == "needed") != c.truth.needed for c in conversations)
    said = [careless.verdict(c).verdict == "needed" for c in conversations]
    assert np.mean(said) > 0.8
    with pytest.raises(ValueError, match="manner"):
        AgentBehaviour(manner="sleepy")


def test_a_verdict_is_the_same_whenever_it_is_asked_for() -> None:
    world = World(16)
    conversations = handed_over(world, 50)
    once = [world.agent(c.number).verdict(c) for c in conversations]
    again = [world.agent(c.number).verdict(c) for c in reversed(conversations)]
    assert once == again[::-1]
    assert all(set(told.body()) >= {"verdict"} for told in once)
    assert all(None not in told.body().values() for told in once)


def test_verdicts_come_late_by_their_mean_delay() -> None:
    agent = Agent("ada", AgentBehaviour(delay_seconds=600.0), seed=3)
    delays = [agent.verdict(c).delay_seconds for c in handed_over(World(17), 2000)]
    assert min(delays) >= 0
    assert abs(np.mean(delays) - 600) < 60


def test_forged_verdicts_come_from_the_forger_in_the_burst_alone() -> None:
    world = World(18, WorldSettings(forgeries=(Forgery(first=10, last=19),)))
    assert [world.agent(n).name == "mallory" for n in (9, 10, 19, 20)] == [False, True, True, False]
    assert "mallory" not in [agent.name for agent in world.agents()]


def test_complaints_catch_the_share_of_missed_ones_and_nothing_else() -> None:
    world = World(19, WorldSettings(caught=0.3))
    missed = caught = 0
    for number in range(4000):
        conversation = played(world, number)
        told = world.complaint(conversation)
        assert told is None or conversation.truth.needed
        missed += conversation.truth.needed
        caught += told is not None
        if told is not None:
            assert told.body()["verdict"] == "missed"
    assert abs(caught / missed - 0.3) < 0.06
    assert all(world.complaint(c) is None for c in handed_over(world, 200))


def test_reviews_speak_of_missed_and_fine() -> None:
    world = World(20)
    said = Counter(world.agent(n).review(played(world, n)).verdict for n in range(400))
    assert set(said) == {"missed", "fine", "unknowable"}
    assert said["fine"] > said["missed"] > said["unknowable"]


def test_a_new_product_comes_and_needs_people() -> None:
    world = World(22, WorldSettings(drifts=(Drift("new_product", at=2000),)))
    before = [played(world, number) for number in range(1000)]
    after = [played(world, number) for number in range(2000, 4000)]
    assert not any(c.customer.product == NEW_PRODUCT for c in before)
    about = [c.truth.needed for c in after if c.customer.product == NEW_PRODUCT]
    assert 0.08 < len(about) / len(after) < 0.16
    assert np.mean(about) > 0.5


@pytest.mark.long
def test_a_known_intent_becomes_harmless() -> None:
    world = World(23, WorldSettings(drifts=(Drift("harmless_intent", at=3000),)))
    shares = []
    for numbers in (range(3000), range(3000, 6000)):
        asked = [played(world, n) for n in numbers]
        refunds = [c for c in asked if c.customer.intent.name == HARMLESS_INTENT]
        first = [c.labels["u1"] for c in refunds]
        later = [c.truth.needed for c in refunds]
        shares.append((np.mean(first), np.mean(later)))
    assert shares[1][0] < 0.3 * shares[0][0]
    assert shares[1][1] < 0.5 * shares[0][1]


def test_the_base_rate_jumps() -> None:
    world = World(
        24, WorldSettings(base_rate=0.05, drifts=(Drift("base_rate", at=3000, times=3.6),))
    )
    assert abs(needed_share(world, range(3000)) - 0.05) < 0.015
    assert abs(needed_share(world, range(3000, 6000)) - 0.18) < 0.025
    with pytest.raises(ValueError, match="unknown"):
        Drift("weather", at=1)


def test_episodes_are_complete_and_labelled() -> None:
    stream = list(episodes(9, 200))
    assert len({episode.id for episode in stream}) == 200
    for episode in stream:
        assert isinstance(episode, Episode)
        users = tuple(p for p, m in enumerate(episode.messages) if m.author == "user")
        assert episode.scored == users == tuple(place for place, _ in episode.labels)
        labels = [label for _, label in episode.labels]
        assert labels == sorted(labels)


def test_a_conversation_takes_as_much_work_however_many_there_were_before() -> None:
    """And few enough calls that `baton demo` plays a thousand of them in seconds."""
    list(episodes(1, 20))
    few, many = (calls(lambda n=n: list(episodes(1, n))) for n in (100, 400))
    assert many < 4.4 * few
    assert many / 400 < 1200


def test_knobs_can_be_changed_one_at_a_time() -> None:
    """The settings of judgement leave the conversations as they are."""
    settings = WorldSettings(base_rate=0.1)
    other = replace(settings, caught=0.9, behaviours=(("zoe", AgentBehaviour(wrong=0.4)),))
    assert list(episodes(3, 50, settings)) == list(episodes(3, 50, other))
