"""Features: readable, bounded, and out of reach of what customers write."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from learning.conversation.features import CONTEXT, features, names, parts
from learning.conversation.state import BotReport, Message, fold
from learning.models.bayesian_logistic import bucket
from learning.models.hashed_features import BUCKETS, RESERVED, Row

texts = st.text(max_size=60)
conversations = st.lists(
    st.builds(
        Message,
        id=st.text(max_size=3),
        author=st.sampled_from(["user", "bot", "agent", "system"]),
        text=texts,
        at=st.floats(0, 1e10),
        bot=st.none()
        | st.builds(
            BotReport,
            confidence=st.none() | st.floats(allow_nan=True),
            fallback=st.booleans(),
            tool_error=st.none() | texts,
        ),
        attributes=st.lists(st.tuples(texts, texts | st.floats() | st.booleans()), max_size=3).map(
            tuple
        ),
        event=st.sampled_from([None, "returned", "declined"]),
    ),
    max_size=12,
)


def of(*turns: tuple[str, str]) -> dict[str, float]:
    return features(fold(Message(str(n), a, t, 0.0) for n, (a, t) in enumerate(turns)))


@given(conversations)
def test_every_value_is_finite_and_small_whatever_was_written(turns: list[Message]) -> None:
    for name, value in features(fold(turns)).items():
        assert abs(value) <= 10, name  # false for NaN


@given(conversations)
def test_a_name_is_either_known_context_or_text_in_a_namespace(turns: list[Message]) -> None:
    for name in features(fold(turns)):
        assert name in CONTEXT or "=" in name


@given(conversations, st.sampled_from([RESERVED + 50, BUCKETS]))
def test_a_row_of_parts_is_the_row_of_the_names_they_spell(
    turns: list[Message], buckets: int
) -> None:
    state = fold(turns)
    one, other = Row.of_parts(parts(state), buckets), Row(features(state), buckets)
    assert one.index.tobytes() == other.index.tobytes()
    assert one.value.tobytes() == other.value.tobytes()
    assert one.square.tobytes() == other.square.tobytes()


@given(texts)
def test_text_never_collides_with_context(text: str) -> None:
    assert bucket("user=" + text, BUCKETS) >= RESERVED
    assert all(0 < bucket(name, BUCKETS) < RESERVED for name in CONTEXT)


def test_no_two_context_names_share_a_bucket() -> None:
    assert len({bucket(name, BUCKETS) for name in CONTEXT}) == len(CONTEXT) == len(set(CONTEXT))


def test_what_moved_the_model_is_named_in_words_that_tell_something() -> None:
    text = "this is useless, let me talk to a real person 24"
    state = fold([Message("m1", "user", text, 0.0)])
    named = names(state, parts(state))
    assert {"“useless”", "“person”"} <= named.keys()
    assert not {"“a”", "“to”", "“is”", "“me”", "“00”"} & named.keys()


def test_the_customers_message_and_the_bots_last_are_told_apart() -> None:
    x = of(("bot", "any refund"), ("user", "refund please"))
    assert {"user=refund", "user=refund_please", "bot=any", "bot=any_refund"} <= x.keys()
    assert "bot=refund_please" not in x


def test_a_scored_bot_message_has_namespaces_of_its_own() -> None:
    x = of(("user", "refund please"), ("bot", "sorry no"))
    assert {"reply=sorry", "reply=sorry_no", "asked=refund"} <= x.keys()
    assert not any(name.startswith(("user=", "bot=")) for name in x)


def test_what_the_last_messages_did_shows_newest_first() -> None:
    x = of(("bot", "shall I book the room?"), ("user", "no, another one please"))
    assert "acts=user denial more short" in x
    assert "acts=user denial more short|bot question short" in x


def test_who_sent_the_last_four_messages_shows_newest_last() -> None:
    turns = [("bot", "hello"), ("user", "hi"), ("user", "are you there?")]
    assert of(*turns)["order=buu"] == 1.0
    assert of(*turns, ("bot", "yes"), ("user", "well"))["order=uubu"] == 1.0


def test_what_the_bot_understood_and_tried_shows_by_name() -> None:
    report = BotReport(intent="refund", attempt="lookup_order")
    x = features(fold([Message("u", "user", "hm", 0.0, bot=report)]))
    assert x["intent=refund"] == x["tried=lookup_order"] == 1.0


def test_turning_down_what_was_offered_shows_as_context() -> None:
    x = of(("user", "no"), ("bot", "sorry, that failed"), ("user", "then something else instead"))
    assert x["user_denied_before"] == x["user_turns_away"] == x["bot_turns_away"] == 1.0
    assert x["user_denies"] == 0.0


def test_a_long_message_weighs_as_much_as_a_short_one() -> None:
    """Within a factor of two, by the length of the vector of its words."""
    short, long = of(("user", "refund please")), of(("user", " ".join(map(chr, range(97, 123)))))
    norms = [
        math.sqrt(sum(v * v for name, v in x.items() if name.startswith("user=")))
        for x in (short, long)
    ]
    assert 0.5 < norms[0] / norms[1] < 2.0


def test_chinese_gives_characters_and_pairs_of_them() -> None:
    assert {"user=转", "user=转_人", "user=人_工"} <= of(("user", "转人工")).keys()


@given(conversations)
def test_the_same_state_gives_the_same_names_in_the_same_order(turns: list[Message]) -> None:
    one, other = features(fold(turns)), features(fold(turns))
    assert list(one.items()) == list(other.items())


def test_a_huge_message_gives_a_bounded_number_of_features() -> None:
    text = " ".join(f"word{n}" for n in range(5000))
    assert len(of(("bot", text), ("user", text))) < 1000


def test_a_repeated_question_and_failed_automation_show() -> None:
    asked = "where is my order from tuesday"
    first, again = of(("user", asked)), of(("user", asked), ("bot", "hm"), ("user", asked))
    assert again["user_same"] > 0.0
    assert "user_same" not in first or first["user_same"] == 0.0
    failed = fold([Message("b", "bot", "", 0.0, bot=BotReport(fallback=True))])
    assert features(failed)["reply_failed"] == 1.0
    answered = fold([Message("u", "user", "what", 1.0)], failed)
    assert features(answered)["failed"] == 1.0
