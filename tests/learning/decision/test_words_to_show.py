"""The bot has words for a crisis, an offer and a callback in fifteen languages, or a policy's."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from learning.decision.policy import Policy
from learning.decision.words.words_to_show import WordsToShow, default_words
from learning.text.language import language_of
from learning.text.lexicon.phrase_matcher import FULL
from learning.text.signals import read

KINDS = ("crisis", "offer", "callback")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words_in_all_fifteen_languages(kind: str) -> None:
    assert set(default_words()) == set(KINDS)
    words = default_words()[kind]
    assert set(words) == FULL
    assert len(set(words.values())) == len(words)
    for code, text in words.items():
        assert language_of(text) in (code, None), (code, text)


def test_batons_own_name_no_helpline() -> None:
    for text in default_words()["crisis"].values():
        assert not re.search(r"\d", text)


@pytest.mark.parametrize("kind", ["offer", "callback"])
def test_batons_own_do_not_speak_of_danger(kind: str) -> None:
    for code, text in default_words()[kind].items():
        assert "safety" not in read(text, code).topics, text


@pytest.mark.parametrize(
    "language, shown",
    [
        ("pt-BR", "tag"), ("pt", "base"), ("pt-PT", "base"), ("de", "Baton's"),
        ("de-AT", "Baton's"),
        ("sw", "English"), (None, "English"), ("", "English"), ("fil", "English"),
    ],
)  # fmt: skip
def test_the_nearest_words_are_shown(language: str | None, shown: str) -> None:
    say = WordsToShow(offer={"pt-BR": "tag", "pt": "base", "en": "English"})
    text = say.text("offer", language)
    assert text == (default_words()["offer"]["de"] if shown == "Baton's" else shown)


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_that_nobody_wrote_for_gets_english(kind: str) -> None:
    assert WordsToShow().text(kind, "xx") == default_words()[kind]["en"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "offer",
    [
        {"en": ""}, {"en": " \n"}, {"en": "x" * 1001}, {"en": "a\x00b"}, {"en": "a\x1bb"},
        {"English": "x"}, {"": "x"}, {"en us": "x"}, {"en": None},
    ],
)  # fmt: skip
def test_words_that_cannot_be_shown_are_refused(offer: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({"say": {"offer": offer}})


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({"say": {"greeting": {"en": "hello"}}})
