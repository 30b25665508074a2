"""What is true of recorded conversations once they are a stream, and of files that are not one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets.streams import (
    SETS,
    Episode,
    StreamError,
    count_conversations,
    data_folder,
    episode_line,
    read,
    recognise,
)
from learning.conversation.state import BotReport, Message

USS: dict[str, Any] = {
    "conversation_id": "Trains_0",
    "overall_satisfaction": [2, 3],
    "turns": [
        {
            "role": "user",
            "text": "Two seats to Ghent please",
            "action": "A",
            "satisfaction": [3, 2, 3],
        },
        {"role": "bot", "text": "Which day?", "action": "REQUEST"},
        {"role": "user", "text": "Friday!", "action": "B", "satisfaction": [1, 2, 5, 4]},
        {"role": "bot", "text": "The desk is closed.", "action": "NOTIFY_FAILURE"},
        {"role": "user", "text": "oh well", "action": "C", "satisfaction": [2, 2, 5]},
    ],
}
DBDC: dict[str, Any] = {
    "conversation_id": "BOX_1/BOX0001",
    "source": "BOX",
    "turns": [
        {"role": "bot", "text": "Good day."},
        {"role": "user", "text": "Do you like rain?"},
        {"role": "bot", "text": "My cat is a lamp.", "breakdown_votes": {"O": 1, "T": 2, "X": 7}},
        {"role": "user", "text": "What?"},
        {"role": "bot", "text": "Indeed.", "breakdown_votes": {"O": 5, "T": 5, "X": 0}},
    ],
}
MHCH: dict[str, Any] = {
    "dialogue_id": "shop_0",
    "turns": [
        {"turn": 0, "role": 0, "token_ids": [7, 12], "label": 0},
        {"turn": 1, "role": 1, "token_ids": [3], "senti": 0.0, "label": 1},
        {"turn": 2, "role": 0, "token_ids": [], "label": 0},
    ],
}
BATON: dict[str, Any] = {
    "conversation_id": "own-1",
    "messages": [
        {"id": "a", "author": "user", "text": "where is it", "at": 5},
        {"id": "b", "author": "bot", "text": "no idea", "bot": {"fallback": True}},
        {"id": "c", "author": "user", "text": "a person please", "language": "en"},
    ],
    "labels": [{"message_id": "a", "label": 0}, {"message_id": "c", "label": 1}],
}
EACH = {"uss": USS, "dbdc": DBDC, "mhch": MHCH, "baton": BATON}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(*records: Any) -> Path:
        path = tmp_path / "stream.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        return path

    return file


def changed(record: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**record, **fields}


def turned(record: dict[str, Any], place: int, **fields: Any) -> dict[str, Any]:
    """The record with one turn changed; a field given as ... is left out."""
    key = "messages" if "messages" in record else "turns"
    turns = [dict(turn) for turn in record[key]]
    turns[place] = {k: v for k, v in {**turns[place], **fields}.items() if v is not ...}
    return {**record, key: turns}


@pytest.mark.parametrize("name", EACH)
def test_each_format_is_recognised_by_its_fields(write: Write, name: str) -> None:
    assert recognise(write(EACH[name])) == name


def test_a_format_is_recognised_though_the_first_conversations_have_no_labels(write: Write) -> None:
    bare = changed(DBDC, conversation_id="first", turns=DBDC["turns"][:2])
    assert recognise(write(bare, DBDC)) == "dbdc"
    assert [len(episode.labels) for episode in read(write(bare, DBDC))] == [0, 2]


def test_a_low_mean_rating_needs_a_person(write: Write) -> None:
    (episode,) = read(write(USS))
    assert episode.labels == ((0, 1.0), (2, 0.0), (4, 0.0))
    assert episode.scored == (0, 2, 4)


def test_strictly_more_than_half_of_the_raters_must_be_dissatisfied(write: Write) -> None:
    (episode,) = read(write(USS), target="strict")
    assert episode.labels == ((0, 0.0), (2, 0.0), (4, 1.0))


def test_the_bot_reports_its_own_acts_and_failures(write: Write) -> None:
    (episode,) = read(write(USS))
    assert [message.bot for message in episode.messages] == [
        None,
        BotReport(attempt="REQUEST"),
        None,
        BotReport(attempt="NOTIFY_FAILURE", tool_error="NOTIFY_FAILURE"),
        None,
    ]


def test_acts_and_ratings_may_be_missing(write: Write) -> None:
    record = turned(turned(turned(USS, 0, satisfaction=...), 2, satisfaction=[]), 1, action=...)
    (episode,) = read(write(record))
    assert episode.scored == (4,)
    assert episode.messages[1].bot is None


def test_the_share_of_breakdown_votes_is_a_soft_label_of_the_bots_turn(write: Write) -> None:
    (episode,) = read(write(DBDC))
    assert episode.id == "BOX_1_BOX0001"
    assert episode.labels == ((2, 0.7), (4, 0.0))
    assert [message.author for message in episode.messages] == ["bot", "user"] * 2 + ["bot"]
    (hard,) = read(write(DBDC), target="majority")
    assert hard.labels == ((2, 1.0), (4, 0.0))


def test_no_votes_are_no_label(write: Write) -> None:
    nobody = {"O": 0, "T": 0, "X": 0}
    (episode,) = read(write(turned(DBDC, 2, breakdown_votes=nobody)))
    assert episode.scored == (4,)


def test_word_ids_become_words_and_both_sides_are_scored(write: Write) -> None:
    (episode,) = read(write(MHCH))
    assert [message.text for message in episode.messages] == ["w7 w12", "w3", ""]
    assert [message.author for message in episode.messages] == ["user", "bot", "user"]
    assert episode.labels == ((0, 0.0), (1, 1.0), (2, 0.0))


def test_our_own_export_keeps_everything(write: Write) -> None:
    (episode,) = read(write(BATON))
    assert episode.messages[0].at == 5.0
    assert episode.messages[1].bot == BotReport(fallback=True)
    assert episode.messages[2].language == "en"
    assert episode.labels == ((0, 0.0), (2, 1.0))
    assert episode.scored == (0, 2)


@pytest.mark.parametrize(
    "outcome, labels",
    [
        (None, ()),
        ({"verdict": "unknowable"}, ()),
        ({"verdict": "fine"}, ((0, 0.0), (2, 0.0))),
        ({"verdict": "missed", "first_needed_message_id": "c"}, ((0, 0.0), (2, 1.0))),
        ({"verdict": "needed", "escalating_message_id": "c"}, ((2, 1.0),)),
        ({"verdict": "not_needed", "escalating_message_id": "a"}, ((0, 0.0),)),
    ],
)
def test_an_exported_verdict_teaches_what_it_taught(
    write: Write, outcome: Any, labels: Any
) -> None:
    record = {k: v for k, v in BATON.items() if k != "labels"}
    (episode,) = read(write(changed(record, outcome=outcome)))
    assert episode.labels == labels
    assert episode.scored == (0, 2)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MESSAGES = st.builds(
    Message,
    id=st.just(""),
    author=st.sampled_from(["user", "bot", "agent", "system"]),
    text=TEXT,
    at=st.floats(0, 4e9),
    language=st.one_of(st.none(), st.just("nl")),
    bot=st.one_of(
        st.none(), st.builds(BotReport, confidence=st.floats(0, 1), attempt=st.just("lookup"))
    ),
    attributes=st.sampled_from([(), (("plan", "gold"), ("vip", True))]),
    event=st.one_of(st.none(), st.just("returned")),
)


@given(messages=st.lists(MESSAGES, min_size=1, max_size=6), data=st.data())
def test_what_is_written_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, messages: list[Message], data: st.DataObject
) -> None:
    known = tuple(
        Message(f"m{n}", m.author, m.text, m.at, m.language, m.bot, m.attributes, m.event)
        for n, m in enumerate(messages)
    )
    scored = data.draw(st.sets(st.integers(0, len(known) - 1)))
    labels = tuple((place, data.draw(st.floats(0, 1))) for place in sorted(scored))
    episode = Episode("written-1", known, labels, tuple(sorted(scored)))
    path = tmp_path_factory.mktemp("written") / "own.jsonl"
    path.write_text(episode_line(episode) + "\n", "utf-8")
    assert list(read(path)) == [episode]


@pytest.mark.parametrize("name", EACH)
def test_reading_again_gives_the_same_ids_and_times(write: Write, name: str) -> None:
    path = write(EACH[name])
    first, second = list(read(path)), list(read(path))
    assert first == second
    ids = [message.id for message in first[0].messages]
    assert len(set(ids)) == len(ids)


def test_turns_are_thirty_seconds_apart_in_every_conversation(write: Write) -> None:
    one, other = read(write(MHCH, changed(MHCH, dialogue_id="shop_1")))
    assert [m.at - one.messages[0].at for m in one.messages] == [0.0, 30.0, 60.0]
    assert one.messages[0].at == other.messages[0].at


def test_counting_counts_conversations_and_not_blank_lines(write: Write) -> None:
    path = write(USS, DBDC, MHCH)
    path.write_text(path.read_text("utf-8").replace("\n", "\n\n") + "  \n", "utf-8")
    assert count_conversations(path) == 3


def test_a_byte_order_mark_and_blank_lines_do_no_harm(write: Write) -> None:
    path = write(MHCH)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n\n")
    assert len(list(read(path))) == 1


def test_half_a_surrogate_pair_becomes_text_that_can_be_sent(write: Write) -> None:
    (episode,) = read(write(turned(DBDC, 1, text="rain \ud83d")))
    assert episode.messages[1].text == "rain ?"


# -- what is no stream ----------------------------------------------------------------------------


def complaint(path: Path, **named: Any) -> str:
    with pytest.raises(StreamError) as caught:
        list(read(path, **named))
    assert isinstance(caught.value, ValueError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "none.jsonl")
    assert "cannot be read" in complaint(tmp_path)
    with pytest.raises(StreamError, match="no such file"):
        count_conversations(tmp_path / "none.jsonl")


def test_an_empty_file_is_no_stream(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("\n\n", "utf-8")
    assert "holds no conversation" in complaint(path)
    assert "holds no conversation" in complaint(path, format="uss")


def test_errors_of_the_whole_file_come_before_the_first_conversation(tmp_path: Path) -> None:
    with pytest.raises(StreamError):
        read(tmp_path / "none.jsonl", format="uss")


def test_unknown_fields_formats_and_targets_name_the_known_ones(write: Write) -> None:
    said = complaint(write({"speech": 1}))
    assert "speech" in said
    assert "turns[].satisfaction (uss)" in said
    assert "use one of uss, dbdc, mhch, baton" in complaint(write(USS), format="csv")
    assert "use mean, strict" in complaint(write(USS), target="median")


def test_a_stream_read_in_another_format_says_as_what_it_was_read(write: Write) -> None:
    said = complaint(write(MHCH), format="uss")
    assert "line 1, read as uss: field turns[0].role is 0; use one of 'user', 'bot'" in said


@pytest.mark.parametrize(
    "name, record, named",
    [
        ("uss", changed(USS, turns="none"), "field turns is a string; make it a list"),
        ("uss", changed(USS, turns=[3]), "field turns[0] is a whole number; make it an object"),
        ("uss", {"turns": USS["turns"]}, "field conversation_id is missing"),
        ("uss", changed(USS, conversation_id=""), "field conversation_id is empty"),
        ("uss", turned(USS, 0, text=4), "field turns[0].text is a whole number; make it a string"),
        ("uss", turned(USS, 0, text=...), "field turns[0].text is missing"),
        (
            "uss",
            turned(USS, 2, role="cat"),
            "field turns[2].role is 'cat'; use one of 'user', 'bot'",
        ),
        ("uss", turned(USS, 2, role=...), "field turns[2].role is missing"),
        ("uss", turned(USS, 2, role=["user"]), "field turns[2].role is ['user']"),
        ("uss", turned(USS, 2, satisfaction=[6]), "field turns[2].satisfaction holds 6"),
        ("uss", turned(USS, 2, satisfaction=["3"]), "field turns[2].satisfaction holds '3'"),
        ("uss", turned(USS, 2, satisfaction=3), "field turns[2].satisfaction is a whole number"),
        (
            "dbdc",
            turned(DBDC, 2, breakdown_votes={"X": -1}),
            "field turns[2].breakdown_votes.X is -1",
        ),
        (
            "dbdc",
            turned(DBDC, 2, breakdown_votes={"Y": 1}),
            "field turns[2].breakdown_votes.Y is 1",
        ),
        (
            "dbdc",
            turned(DBDC, 2, breakdown_votes=[1]),
            "breakdown_votes is a list; make it an object",
        ),
        ("mhch", turned(MHCH, 1, label=2), "field turns[1].label is 2; use 0 or 1"),
        ("mhch", turned(MHCH, 1, token_ids=["a"]), "field turns[1].token_ids holds more"),
        ("mhch", turned(MHCH, 1, role=2), "field turns[1].role is 2; use one of 0, 1"),
        ("baton", turned(BATON, 1, id="a"), "field messages[1].id repeats 'a'"),
        ("baton", turned(BATON, 1, bot={"mood": 1}), "field messages[1].bot.mood is unknown"),
        (
            "baton",
            turned(BATON, 1, bot={"confidence": "x"}),
            "field messages[1].bot.confidence is a string",
        ),
        ("baton", turned(BATON, 1, scored=1), "field messages[1].scored is a whole number"),
        ("baton", turned(BATON, 1, at=float("nan")), "field messages[1].at is nan"),
        (
            "baton",
            changed(BATON, labels=[{"message_id": "z", "label": 1}]),
            "labels[0].message_id is 'z'",
        ),
        ("baton", changed(BATON, labels=[{"message_id": "a", "label": 2}]), "labels[0].label is 2"),
        (
            "baton",
            changed(BATON, labels=[{"message_id": "a", "label": True}]),
            "label is true or false",
        ),
        (
            "baton",
            changed(BATON, labels=None, outcome={"verdict": "maybe"}),
            "field outcome.verdict is 'maybe'; use one of needed",
        ),
    ],
)
def test_a_bad_line_names_its_number_its_field_and_the_fix(
    write: Write, name: str, record: Any, named: str
) -> None:
    known = "dialogue_id" if name == "mhch" else "conversation_id"
    said = complaint(write({**EACH[name], known: "good"}, record), format=name)
    assert f"line 2, read as {name}: " in said
    assert named in said


def test_lines_that_are_no_objects_are_named(write: Write) -> None:
    path = write(USS, [1])
    assert "line 2: is a list; write one JSON object" in complaint(path)
    path.write_text(json.dumps(USS) + '\n{"conversation_id": \n', "utf-8")
    assert "line 2: is not JSON" in complaint(path)
    path.write_bytes(json.dumps(USS).encode() + b'\n{"text": "\xff"}\n')
    assert "line 2: byte 11 is not UTF-8" in complaint(path)


def test_a_conversation_that_comes_twice_is_refused(write: Write) -> None:
    said = complaint(write(USS, USS))
    assert "line 2: conversation 'Trains_0' was already on line 1" in said


# -- the recorded conversations themselves --------------------------------------------------------

DATA = data_folder(os.environ)
recorded = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the recorded conversations are not in {DATA}; set BATON_DATA"
)


@pytest.mark.data
@recorded
@pytest.mark.parametrize(
    "name, target, conversations, labels, share",
    [
        ("uss_sgd", "mean", 1000, 12_833, 0.194),
        ("uss_sgd", "strict", 1000, 12_833, 0.044),
        ("uss_redial", "mean", 1000, 10_806, 0.210),
        ("uss_redial", "strict", 1000, 10_806, 0.041),
        ("dbdc3", "share", 415, 4_150, None),
        ("mhch_clothing", "label", 700, 6_853, 0.193),
    ],
)
def test_the_data_sets_hold_what_their_description_says(
    name: str, target: str, conversations: int, labels: int, share: float | None
) -> None:
    files = [DATA / file for file in SETS[name]]
    episodes = [episode for file in files for episode in read(file, target=target)]
    assert len(episodes) == sum(count_conversations(file) for file in files) == conversations
    assert len({episode.id for episode in episodes}) == conversations
    found = [label for episode in episodes for _, label in episode.labels]
    assert len(found) == labels
    if share is not None:
        assert sum(found) / labels == pytest.approx(share, abs=0.0006)


def test_the_data_folder_can_be_set() -> None:
    assert data_folder({"BATON_DATA": "elsewhere"}) == Path("elsewhere")
    assert data_folder({}).parts[-2:] == ("shared", "data")
