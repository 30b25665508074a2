"""The fold: what a conversation's state says, and that it stays small."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.conversation.speaker import MEMORY
from learning.conversation.state import EMPTY, BotReport, Message, State, fold, step
from learning.text.dialogue_cues import CUES
from learning.text.similarity import LENGTH_MAX, WORDS_MAX, similarity, words


def said(author: str, *texts: str, start: int = 0) -> list[Message]:
    return [Message(f"m{n}", author, text, float(n)) for n, text in enumerate(texts, start)]


def event(name: str, at: float = 100.0) -> Message:
    return Message(f"e{at}", "system", "", at, event=name)


ORDER = "where is my order from last tuesday"

messages = st.builds(
    Message,
    id=st.text(max_size=4),
    author=st.sampled_from(["user", "bot", "agent", "system"]),
    text=st.text(max_size=40),
    at=st.floats(0, 1e10),
    bot=st.none() | st.builds(BotReport, fallback=st.booleans(), intent=st.none() | st.text()),
    event=st.sampled_from([None, "returned", "declined", "handed_over"]),
)


def test_a_question_asked_three_times_counts_three_and_names_its_messages() -> None:
    state = fold(said("user", ORDER, "I asked: where is my order from last tuesday", ORDER + "?"))
    assert state.repeats == 3
    assert state.repeat_ids == ("m0", "m1", "m2")


def test_a_new_question_is_asked_for_the_first_time() -> None:
    state = fold(said("user", ORDER, "can you recommend a restaurant instead"))
    assert state.repeats == 1


def test_short_answers_said_again_are_no_repeated_question() -> None:
    assert fold(said("user", "yes", "yes", "yes")).repeats == 1


def test_the_bot_saying_the_same_again_is_seen_apart_from_the_customer() -> None:
    turns = [*said("bot", ORDER), *said("user", "no", start=1), *said("bot", ORDER, start=2)]
    state = fold(turns)
    assert (state.bot_repeats, state.bot_repeat_ids) == (2, ("m0", "m2"))
    assert state.repeats == 1


@pytest.mark.parametrize(
    "report",
    [BotReport(fallback=True), BotReport(tool_error="timeout"), BotReport(confidence=0.1)],
)
def test_failed_automation_is_counted_with_the_message_that_shows_it(report: BotReport) -> None:
    state = step(EMPTY, Message("b1", "bot", "sorry", 0.0, bot=report))
    assert (state.failures, state.failure_ids) == (1, ("b1",))


def test_what_the_bot_tried_is_remembered_oldest_first() -> None:
    reports = [BotReport(intent="refund"), BotReport(intent="refund", attempt="lookup")]
    turns = [Message(str(n), "bot", "", 0.0, bot=r) for n, r in enumerate(reports)]
    assert fold(turns).attempts == ("refund", "lookup")


def test_nothing_older_than_a_return_counts_any_more() -> None:
    report = BotReport(fallback=True, attempt="lookup")
    turns = [*said("user", ORDER, ORDER), Message("b", "bot", "Sorry!", 3.0, bot=report)]
    state = fold([*turns, event("handed_over"), event("returned")])
    assert (state.failures, state.repeats, state.attempts, state.sentiment) == (0, 1, (), 0.0)
    assert state.signals.request is None
    assert state.signals_id == ""
    again = fold(said("user", ORDER, start=9), state)
    assert again.repeats == 1
    assert again.user.turns == 3


def test_customer_messages_since_a_return_and_a_declined_offer_are_counted() -> None:
    assert fold(said("user", "hello")).user_since_return is None
    state = fold(
        [
            *said("user", "hello"),
            event("returned"),
            *said("user", "a", "b", start=3),
            event("declined"),
            *said("user", "c", start=6),
        ]
    )
    assert (state.user_since_return, state.user_since_decline) == (3, 1)


def test_signals_name_the_customers_newest_message() -> None:
    turns = [*said("user", "this is terrible, awful, useless"), *said("bot", "I see", start=1)]
    state = fold(turns)
    assert state.signals_id == "m0"
    assert state.message_id == "m1"


def test_falling_sentiment_shows_as_a_trend_below_zero() -> None:
    state = fold(said("user", "great, thank you, wonderful", "this is terrible and useless"))
    assert state.trend < 0


def test_the_latest_report_of_the_bot_stays_until_the_next() -> None:
    turns = [Message("b", "bot", "", 0.0, bot=BotReport(intent="refund")), *said("user", "hm")]
    assert fold(turns).report == BotReport(intent="refund")
    assert fold([*turns, event("returned")]).report is None


def test_cues_of_a_message_and_of_the_one_before_it_are_told_apart() -> None:
    state = fold(said("user", "no", "another one please", "yes"))
    assert (state.user.cues, state.user.cues_before) == (("assent",), ("more",))


def test_messages_in_a_row_are_counted_until_the_other_side_speaks() -> None:
    state = fold([*said("user", "a", "b"), *said("bot", "c", start=2)])
    assert (state.user.run, state.bot.run) == (2, 1)
    assert fold(said("user", "d", start=3), state).user.run == 1


@pytest.mark.parametrize("listed", CUES.values(), ids=CUES)
def test_every_cue_word_is_written_as_messages_are_read(listed: frozenset[str]) -> None:
    assert all(words(word) == (word,) for word in listed)


@given(st.lists(messages, max_size=30), st.integers(0, 30))
def test_folding_in_two_parts_is_folding_at_once(turns: list[Message], cut: int) -> None:
    assert fold(turns[cut:], fold(turns[:cut])) == fold(turns)


@given(messages, st.integers(1, 60))
def test_no_state_outgrows_its_memory(message: Message, times: int) -> None:
    state = fold([message] * times)
    for side in (state.user, state.bot):
        assert len(side.ids) == len(side.distinct_words) == len(side.letters) <= MEMORY
        assert len(side.repeat_ids) <= MEMORY + 1
    assert max(len(state.failure_ids), len(state.attempts)) <= MEMORY


def test_what_is_remembered_of_messages_shares_its_words_and_is_nothing_to_the_collector() -> None:
    """Twenty thousand conversations are remembered: each of their sets was visited by every full
    collection, during which nobody was answered, and had words of its own.
    """
    texts = [f"where is my order from last {day}" for day in ("monday", "friday", "sunday")]
    one, other = fold(said("user", *texts)).user, fold(said("user", *texts)).user
    gc.collect()
    gc.collect()
    assert not gc.is_tracked(one.distinct_words)
    assert not gc.is_tracked(one.words)
    assert all(a is b for a, b in zip(one.words, other.words, strict=True))


@given(st.text(max_size=400))
def test_no_word_is_long_or_can_be_taken_for_a_feature_name(text: str) -> None:
    for word in words(text):
        assert 0 < len(word) <= LENGTH_MAX + 4
        assert "=" not in word
        assert "_" not in word


def test_a_huge_message_keeps_its_beginning_and_its_end() -> None:
    found = words("start " + "x y " * 10_000 + "end")
    assert len(found) == WORDS_MAX
    assert (found[0], found[-1]) == ("start", "end")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Don't you SEE?!", ("don't", "you", "see", "?", "!")),
        ("Don\u2019t", ("don't",)),
        ("w12 w7", ("w12", "w7")),
        ("call 408-729-76901 now...", ("call", "000", "000", "0000", "now", "...")),
        ("转人工\uff1f", ("转", "人", "工", "?")),
        ("返金して", ("返", "金", "し", "て")),
        ("मुझे मदद", ("मुझे", "मदद")),
        ("Größe naïve", ("größe", "naïve")),
        ("snake_case=1", ("snake", "case", "0")),
        ("", ()),
    ],
)
def test_words_of_any_script(text: str, expected: tuple[str, ...]) -> None:
    assert words(text) == expected


@given(st.frozensets(st.text(min_size=1)), st.frozensets(st.text(min_size=1)))
def test_similarity_is_symmetric_and_lies_between_nothing_and_the_same(
    one: frozenset[str], other: frozenset[str]
) -> None:
    found = similarity(one, other)
    assert 0.0 <= found <= 1.0
    assert found == similarity(other, one)
    assert similarity(one, one) == (1.0 if one else 0.0)


def test_the_fold_is_the_same_under_any_hash_seed() -> None:
    program = (
        "from learning.conversation.state import Message, fold\n"
        "s = fold(Message(str(n), a, t, n * 60.0) for n, (a, t) in enumerate([\n"
        "    ('user', 'where is my refund? it is late'), ('bot', 'I am sorry'),\n"
        "    ('user', 'where is my refund!! late again'), ('bot', 'I am sorry')]))\n"
        "print([s.user.nearest, s.bot.nearest, s.repeats, s.sentiment, s.trend])"
        "; print(s.reply_similarity)"
    )
    assert len({_printed(program, seed) for seed in ("0", "1", "2")}) == 1


def _printed(program: str, seed: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_an_empty_state_is_of_nobody() -> None:
    assert State() == EMPTY
    assert (EMPTY.turns, EMPTY.user.turns, EMPTY.repeats) == (0, 0, 1)
