"""Strong anger is told from mild displeasure, from a feeling of somebody else, and from things.

`upset.jsonl` holds sentences written before any phrase: on one half the phrases were mended, the
other (`kept`) was only counted.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.conversation.brief.highlights import highlights
from learning.conversation.state import Message, State, fold
from learning.decision.policy import Policy, decide
from learning.text.lexicon.phrase_matcher import FULL
from learning.text.lexicon.upset import upset_words
from learning.text.signals import read
from learning.text.similarity import words

FILE = Path(__file__).parents[2] / "data" / "own_words" / "upset.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]


def says(text: str) -> State:
    return fold([Message("m", "user", text, 0.0)])


def shown(rows: list[dict[str, Any]]) -> float:
    return sum(upset_words(words(row["text"])) is not None for row in rows) / len(rows)


@pytest.mark.parametrize("kept", [True, False])
def test_anger_is_recognised_and_mild_displeasure_is_not_on_either_half(kept: bool) -> None:
    half = [row for row in ROWS if row["kept"] is kept]
    assert shown([row for row in half if row["upset"]]) >= 0.95
    assert shown([row for row in half if not row["upset"]]) <= 0.03


@pytest.mark.parametrize("language", sorted(FULL))
def test_anger_is_recognised_in_each_of_the_fifteen_languages(language: str) -> None:
    rows = [row for row in ROWS if row["lang"] == language]
    assert Counter(row["upset"] for row in rows)[True] >= 15
    assert shown([row for row in rows if row["upset"]]) >= 0.85
    assert shown([row for row in rows if not row["upset"]]) <= 0.1


@pytest.mark.parametrize(
    "text",
    ["I am furious", "this bot is useless", "waiting two weeks for my refund and nobody helps"],
)
def test_a_new_workspace_offers_a_person_to_who_is_upset(text: str) -> None:
    decision = decide(Policy(), says(text), 0.03)
    assert decision.action == "offer"
    assert "upset" in [trigger.name for trigger in decision.triggers]
    assert any(one.text.startswith("is upset: “") for one in decision.reasons)


def test_who_complains_of_a_colleague_is_offered_a_person() -> None:
    decision = decide(Policy(), says("I want to complain about your employee"), 0.03)
    assert (decision.action, [one.name for one in decision.triggers]) == ("offer", ["complaint"])


def test_a_stored_policy_that_watches_for_no_anger_decides_as_it_did() -> None:
    stored = Policy().model_dump(mode="json")
    stored["rules"] = [one for one in stored["rules"] if one["name"] not in ("upset", "complaint")]
    old = Policy.from_ledger(stored)
    assert {one.name for one in old.rules}.isdisjoint({"upset", "complaint"})
    assert decide(old, says("this bot is useless"), 0.03).action == "continue"


def test_no_signal_that_the_model_reads_depends_on_it() -> None:
    assert {name for name, _ in read("I am furious").evidence} == {"exasperation"}


@pytest.mark.parametrize(
    "text", ["C'EST UNE HONTE !!!", "¡Esto es una vergüenza!", "もううんざりです", "Я в ярости"]
)
def test_the_words_are_highlighted_where_they_stand(text: str) -> None:
    (mark,) = [one for one in highlights("m", text, read(text), ["upset"]) if one.led]
    assert mark.signal in ("upset", "exasperation")
    assert 0 <= mark.start < mark.stop <= len(text)


def test_only_the_newest_message_counts() -> None:
    calm = fold([Message("a", "user", "I am furious", 0.0), Message("b", "bot", "Sorry", 1.0)])
    assert decide(Policy(), calm, 0.03).action == "continue"


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    found = upset_words(words(text))
    assert found is None or found
