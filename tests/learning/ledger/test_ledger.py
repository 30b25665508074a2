"""A standing is the fold of its ledger, however it came to stand there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.conversation.state import fold
from learning.decision.policy import Policy
from learning.ledger import checkpoint
from learning.ledger.model_state import (
    Entry,
    Exclusions,
    HalfLearnedError,
    LedgerGapError,
    ModelState,
    replay_entries,
)
from tests.ledgers import (
    AGENTS,
    CONVERSATIONS,
    RECIPE,
    SOURCES,
    bodies,
    digest_without,
    learned,
    numbered,
    outcome,
    transcript,
)

LEDGERS = bodies().map(numbered)
few = settings(max_examples=40)


def digest(standing: ModelState) -> str:
    return checkpoint.digest(standing)


def switch(position: int, learn_from: int = 0) -> Entry:
    body = {"version": 2, "learn_from": learn_from, "without": {}, "kind": "promotion"}
    return Entry(position, "switch", body, "test", 0.0)


@few
@given(LEDGERS, st.data())
def test_the_pieces_in_which_a_ledger_is_read_do_not_matter(entries: list[Entry], data) -> None:
    pieces = ModelState(recipe=RECIPE)
    while pieces.position < len(entries):
        most = data.draw(st.integers(1, len(entries)))
        replay_entries(pieces, entries[pieces.position : pieces.position + most], transcript)
    assert digest(pieces) == digest(learned(entries))
    assert pieces.position == len(entries)


@few
@given(LEDGERS, st.integers(0, 20))
def test_an_entry_that_is_not_the_next_one_is_refused(entries: list[Entry], position: int) -> None:
    standing = learned(entries)
    before = digest(standing)
    wrong = Entry(position, "outcome", outcome(), "test", 0.0)
    if position == len(entries) + 1:
        return
    with pytest.raises(LedgerGapError, match="read the ledger again"):
        replay_entries(standing, [wrong], transcript)
    assert (digest(standing), standing.position) == (before, len(entries))


@few
@given(LEDGERS, LEDGERS)
def test_a_standing_stops_before_a_switch_that_is_not_its_own(
    first: list[Entry], then: list[Entry]
) -> None:
    place = len(first) + 1
    later = [replace(entry, position=place + entry.position) for entry in then]
    standing = ModelState(recipe=RECIPE)
    stopped = replay_entries(standing, [*first, switch(place), *later], transcript)
    assert stopped == switch(place)
    assert standing.position == len(first)
    assert digest(standing) == digest(learned(first))
    shadow = learned([*first, switch(place), *later])
    assert shadow.position == place + len(then)
    assert digest(shadow) == digest_without([*first, switch(place), *later], [place])
    answering = ModelState(recipe=RECIPE, switch=place)
    assert replay_entries(answering, [*first, switch(place), *later], transcript) is None


WITHOUT = st.builds(
    Exclusions,
    st.none() | st.sampled_from(AGENTS),
    st.none() | st.sampled_from(SOURCES),
    st.none() | st.integers(1, 12),
    st.none() | st.integers(1, 12),
    st.frozensets(st.integers(1, 12), max_size=3),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=2).map(tuple),
)


@settings(max_examples=80)
@given(LEDGERS, WITHOUT)
def test_outcomes_left_out_leave_nothing_behind(entries: list[Entry], without: Exclusions) -> None:
    def left_out(entry: Entry) -> bool:
        named = entry.position in without.positions or any(
            after < entry.position <= until for after, until in without.withheld
        )
        asked = (
            (without.agent, entry.body.get("agent") == without.agent),
            (without.source, entry.body.get("source") == without.source),
            (without.from_position, entry.position >= (without.from_position or 0)),
            (without.to_position, entry.position <= (without.to_position or 0)),
        )
        wanted = [met for criterion, met in asked if criterion is not None]
        return named or (bool(wanted) and all(wanted))

    gone = [e.position for e in entries if e.kind == "outcome" and left_out(e)]
    assert digest(learned(entries, without=without)) == digest_without(entries, gone)
    assert Exclusions.of(without.body()) == without


@few
@given(LEDGERS, st.data())
def test_a_promoted_version_learns_what_it_missed(entries: list[Entry], data) -> None:
    """From the position at which it was saved on, through the switch that lets it serve."""
    saved = data.draw(st.integers(0, len(entries)))
    state = checkpoint.dump(learned(entries[:saved]))
    later = [replace(entry, position=entry.position + 1) for entry in entries[saved:]]
    cut = data.draw(st.integers(0, len(later)))
    at = saved + cut + 1
    ledger = [
        *entries[:saved],
        *(replace(entry, position=entry.position - 1) for entry in later[:cut]),
        switch(at, saved),
        *later[cut:],
    ]
    promoted = checkpoint.load(state)
    promoted.switch, promoted.learn_from = at, saved
    assert replay_entries(promoted, ledger[saved:], transcript) is None
    assert digest(promoted) == digest(learned(entries))


@few
@given(LEDGERS, LEDGERS, st.data())
def test_a_rollback_withholds_what_was_learned_since(
    before: list[Entry], then: list[Entry], data
) -> None:
    saved = data.draw(st.integers(0, len(before)))
    at = len(before) + 1
    ledger = [*before, switch(at, at), *(replace(e, position=at + e.position) for e in then)]
    back = checkpoint.load(checkpoint.dump(learned(before[:saved])))
    back.switch = back.learn_from = at
    assert replay_entries(back, ledger[saved:], transcript) is None
    assert digest(back) == digest_without(ledger, range(saved + 1, at + 1))


@few
@given(LEDGERS, st.data())
def test_a_corrected_outcome_is_learned_besides_and_a_rebuild_never_held_the_mistake(
    entries: list[Entry], data
) -> None:
    wrong = data.draw(st.integers(1, len(entries)))
    mistake = Entry(wrong, "outcome", outcome("c2", verdict="missed", since=1), "test", 0.0)
    entries = [*entries[: wrong - 1], mistake, *entries[wrong:]]
    right = outcome("c2", verdict="fine", replaces=wrong)
    ledger = [*entries, Entry(len(entries) + 1, "outcome", right, "test", 0.0)]
    without = Exclusions(positions=frozenset({wrong}))
    assert digest(learned(ledger)) != digest(learned(entries))
    assert digest(learned(ledger)) != digest(learned(ledger, without=without))
    assert digest(learned(ledger, without=without)) == digest_without(ledger, [wrong])


@few
@given(LEDGERS)
def test_a_retraction_teaches_nothing_by_itself(entries: list[Entry]) -> None:
    body = {"outcome_id": "o", "conversation_id": "c1", "replaces": 1}
    taken_back = Entry(len(entries) + 1, "retraction", body, "test", 0.0)
    assert digest(learned([*entries, taken_back])) == digest(learned(entries))


def test_the_policy_is_the_newest_one_of_the_ledger_and_no_part_of_the_model() -> None:
    policy = Policy(waiting_seconds=77.0)
    standing = learned(numbered([("outcome", outcome())]))
    before = digest(standing)
    replay_entries(
        standing, [Entry(2, "policy", policy.model_dump(mode="json"), "t", 0.0)], transcript
    )
    assert standing.policy == policy
    assert digest(standing) == before


@few
@given(LEDGERS)
def test_scoring_changes_nothing(entries: list[Entry]) -> None:
    standing = learned(entries)
    before = digest(standing)
    states = [fold(t.message for t in turns) for turns in CONVERSATIONS.values()]
    scores = [standing.score(state) for state in states]
    assert [standing.score(state) for state in reversed(states)][::-1] == scores
    assert digest(standing) == before


def test_a_rule_s_outcome_teaches_but_is_no_measure_of_the_model() -> None:
    by_model, by_rule = (
        learned(numbered([("outcome", outcome("c3", by_rule=rule))])) for rule in (False, True)
    )
    assert digest(by_model) == digest(by_rule) != digest(ModelState(recipe=RECIPE))
    assert len(by_model.window) > 0
    assert len(by_rule.window) == 0


def test_each_lesson_is_scored_before_any_of_its_conversation_teaches() -> None:
    found = outcome("c4", verdict="missed", since=1)
    standing = learned(numbered([("outcome", found)]))
    untrained = ModelState(recipe=RECIPE)
    turns = CONVERSATIONS["c4"]
    expected = [
        untrained.score(fold(turn.message for turn in turns[:place])).probability
        for place, turn in enumerate(turns, 1)
        if turn.scored
    ]
    assert len(expected) > 1
    assert standing.window.scores().probability.tolist() == expected


def test_a_standing_that_broke_within_an_outcome_is_not_followed_further() -> None:
    standing = learned(numbered([("outcome", outcome())]))
    broken = outcome("c1", verdict="labels", labels=[(1, 1.0, 1.0), (3, 7.0, 1.0)])
    with pytest.raises(ValueError, match="calibrate"):
        replay_entries(standing, [Entry(2, "outcome", broken, "test", 0.0)], transcript)
    assert standing.half_learned
    with pytest.raises(HalfLearnedError, match="stand anew"):
        replay_entries(standing, [Entry(2, "outcome", outcome(), "test", 0.0)], transcript)


def test_a_transcript_that_cannot_be_read_leaves_the_standing_whole() -> None:
    standing = learned(numbered([("outcome", outcome())]))
    before = digest(standing)
    entry = Entry(2, "outcome", outcome("c5"), "test", 0.0)

    def unreachable(_conversation: str, _until: int):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        replay_entries(standing, [entry], unreachable)
    assert (digest(standing), standing.position, standing.half_learned) == (before, 1, False)
    assert replay_entries(standing, [entry], transcript) is None
    assert standing.position == 2
