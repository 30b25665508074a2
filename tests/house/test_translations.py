"""Every text of the console stands in each catalogue, whole, and none stands outside of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

from service.web.console.language import sentences
from service.web.console.language.translations import CATALOGUES
from tests.house.console_texts import (
    HOLE,
    TEMPLATES,
    bare_texts,
    made_sentences,
    messages,
    refusals,
)

FILES = sorted(CATALOGUES.glob("*.po"))
HOLES = re.compile(r"%%|%\(\w+\)s")
TAGS = re.compile(r"</?[a-z][^>]*>")
PUT_TOGETHER = {
    *("%(field)s: is required", "automation failed once", "automation failed %(count)s times"),
    *("the bot took it for %(intent)s", "the bot tried %(attempt)s"),
    *("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
}
"""Sentences that the code does not write in one piece."""

BY_API = ("offer_passed", "not_an_offer", "answered_otherwise")
"""Refusals that no page meets: offers are answered by bots."""


@pytest.fixture(scope="module")
def code() -> Catalog:
    return messages()


def _read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=path.stem)


def _forms(message: Message) -> tuple[list[str], list[str]]:
    """The English and the translated forms of a text."""
    own = [message.id] if isinstance(message.id, str) else list(message.id)
    told = [message.string] if isinstance(message.string, str) else list(message.string)
    return own, told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_text_of_the_code_is_translated(path: Path, code: Catalog) -> None:
    """`make translations` puts in what is missing."""
    there = _read(path)
    asked = {(m.id, m.context) for m in code if m.id}
    known = {(m.id, m.context): m for m in there if m.id}
    assert sorted(map(str, asked - known.keys())) == []
    assert sorted(map(str, known.keys() - asked)) == [], "nobody asks for these any longer"
    assert [m.id for m in known.values() if m.fuzzy or not all(_forms(m)[1])] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_translation_has_the_holes_and_tags_of_its_text(path: Path) -> None:
    faults = []
    for message in _read(path):
        own, told = _forms(message)
        for form in told if message.id else ():
            if sorted(HOLES.findall(form)) != sorted(HOLES.findall(own[-1])):
                faults.append(f"holes: {form}")
            if sorted(TAGS.findall(form)) != sorted(TAGS.findall(own[-1])):
                faults.append(f"tags: {form}")
            if '"' in TAGS.sub("", form) or "'" in TAGS.sub("", form):
                faults.append(f"straight quotation marks: {form}")
    assert faults == []


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.html")))
def test_no_template_shows_english_outside_of_the_catalogue(name: str) -> None:
    assert bare_texts(name) == []


def test_sentences_that_are_found_again_are_those_that_the_code_makes() -> None:
    made = made_sentences()
    known = [s for s in sentences.SENTENCES if s not in PUT_TOGETHER]
    holed = {HOLES.sub(HOLE, sentence): sentence for sentence in known}
    assert sorted(holed[text] for text in holed.keys() - made) == []


def test_what_a_page_may_refuse_can_be_said_in_every_language() -> None:
    known = {HOLES.sub(HOLE, sentence) for sentence in sentences.SENTENCES}
    packages = ("service/handoffs", "service/web/console", "service/web/access")
    assert sorted(set(refusals(*packages, besides=BY_API)) - known) == []
