"""Own words: what a customer wrote is read, and what others wrote in the same text is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.conversation.state import EMPTY, Message, State, step
from learning.text.own_words import FORMATS, own_words
from learning.text.signals import read
from tests.work import calls

DATA = Path(__file__).parents[2] / "data" / "own_words"
ANGRY = 0.4
FIFTEEN = frozenset(
    ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "tr", "zh"]
)


def rows(name: str) -> Iterator[dict[str, Any]]:
    for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines():
        yield json.loads(line)


def shares(
    labelled: Iterator[tuple[bool, bool]],
) -> tuple[float, float]:
    """Recall, and the share of the others that stays quiet."""
    pairs = list(labelled)
    shown = [got for expected, got in pairs if expected]
    quiet = [not got for expected, got in pairs if not expected]
    return sum(shown) / len(shown) if shown else 1.0, sum(quiet) / len(quiet) if quiet else 1.0


@pytest.mark.parametrize("style, recall_min", [("plain", 0.95), ("slang", 0.88)])
@pytest.mark.parametrize("further", [False, True], ids=["the fifteen", "the nineteen"])
def test_requests_are_told_in_every_style(style: str, recall_min: float, further: bool) -> None:
    recall, _ = shares(
        (row["request"], read(row["text"]).request is not None)
        for row in rows("requests")
        if row["style"] == style and (row["lang"] not in FIFTEEN) is further
    )
    assert recall >= recall_min


def test_texts_that_only_look_like_requests_are_none() -> None:
    _, quiet = shares(
        (row["request"], read(row["text"]).request is not None) for row in rows("requests")
    )
    assert quiet >= 0.95


@pytest.mark.parametrize("form", FORMATS)
def test_quotes_footers_and_tags_hide_no_request_and_are_none(form: str) -> None:
    recall, quiet = shares(
        (row["request"], read(row["text"], format=form).request is not None)
        for row in rows("mail")
        if row["format"] == form
    )
    assert quiet == 1.0
    assert recall >= 0.6


def test_hidden_letters_do_not_hide_a_request() -> None:
    recall, quiet = shares(
        (row["request"], read(row["text"]).request is not None) for row in rows("hidden")
    )
    assert recall >= 0.9
    assert quiet == 1.0


def test_anger_alone_shows_as_frustration_in_all_fifteen_languages() -> None:
    recall, quiet = shares(
        (row["angry"], read(row["text"]).frustration >= ANGRY) for row in rows("anger")
    )
    assert recall >= 0.9
    assert quiet >= 0.9


def played(row: dict[str, Any]) -> State:
    state = EMPTY
    for number, turn in enumerate(row["turns"]):
        state = step(state, Message(str(number), turn["author"], turn["text"], float(number)))
    return state


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in rows("played")
        if row["kind"] in ("consent", "split_request", "promise_unkept")
    ],
    ids=lambda row: f"{row['kind']} {row['lang']} {row['expect']}",
)
def test_a_request_that_only_the_turns_before_show_is_one(row: dict[str, Any]) -> None:
    assert (played(row).signals.request is not None) is (row["expect"] != "continue"), row["note"]


@pytest.mark.parametrize(
    "row", [row for row in rows("played") if row["kind"] == "repeats"], ids=lambda row: row["note"]
)
def test_short_messages_said_again_are_counted(row: dict[str, Any]) -> None:
    assert (played(row).short_repeats >= 4) is (row["expect"] != "continue")


def test_the_customers_own_auto_reply_is_no_repeated_question() -> None:
    text = "Automatic reply: I am out of the office until Monday and will answer then."
    state = EMPTY
    for number in range(3):
        state = step(state, Message(str(number), "user", text, float(number)))
    assert state.repeats == 1


@pytest.mark.parametrize("mark", [", ", " - ", " ", "\n", "... "])
def test_a_mark_between_role_and_politeness_hides_no_request(mark: str) -> None:
    assert read(f"A real agent{mark}please").request is not None


def test_the_declared_language_is_believed_before_look_alikes() -> None:
    assert "safety" not in read("Brand?", "en").topics
    assert "safety" in read("voy a suicidarme").topics
    assert "legal" in read("anwalt in berlin", "de").topics


def test_words_about_words_are_no_request() -> None:
    assert read("Your message says “type human to talk to an agent” but it fails").request is None
    assert read("I want to talk to a “real” person").request is not None


@given(st.text(alphabet="ab<>&;p/*_`~> \n-", max_size=60), st.sampled_from([None, *FORMATS]))
def test_every_character_of_the_own_words_has_its_place_in_what_was_stored(
    text: str, form: str | None
) -> None:
    own = own_words(text, form)
    places = own.places if own.places is not None else tuple(range(len(text)))
    assert len(places) == len(own.text)
    assert list(places) == sorted(places)
    assert all(0 <= place < max(1, len(text)) for place in places)


def test_evidence_is_quoted_from_what_was_stored() -> None:
    text = "<p>I want to talk to a <b>hum</b>an</p>"
    request = read(text).request
    assert request is not None
    assert request in text


def test_where_all_would_be_set_aside_the_text_is_read_as_it_is() -> None:
    assert own_words("> talk to a human").text == "> talk to a human"


@pytest.mark.parametrize("unit", ["<", "<!--", "<a ", "&", "> a\n", "\n", "**", "[a](", "```"])
def test_hostile_markup_takes_work_in_proportion_to_the_text(unit: str) -> None:
    def work(length: int) -> int:
        text = unit * (length // len(unit))
        return calls(lambda: own_words(text))

    assert work(40_000) <= 5 * work(10_000) + 100
