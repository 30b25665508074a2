"""Facts, summaries and evidence: what a conversation says, cited and never invented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from re._constants import MAXREPEAT
from re._parser import SubPattern, parse
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import learning.conversation.brief.emails
import learning.conversation.brief.entities
import learning.conversation.brief.phones
from learning.conversation.brief.entities import FACTS_MAX, KINDS, facts
from learning.conversation.brief.highlights import highlights
from learning.conversation.brief.phones import phones
from learning.conversation.brief.sentences import SENTENCE_CHARS_MAX, sentences
from learning.conversation.brief.summary import SENTENCES_MAX, SummarySentence, summary
from learning.conversation.state import Message
from learning.decision.label_requests import label_value
from learning.text.signals import read
from tests.work import calls


def said(*texts: str, language: str | None = None) -> list[Message]:
    return [
        Message(f"m{place}", "user", text, 0.0, language) for place, text in enumerate(texts, 1)
    ]


def found(text: str, language: str | None = None) -> list[tuple[str, str]]:
    return [(fact.kind, fact.value) for fact in facts(said(text, language=language))]


def told(messages: list[Message]) -> tuple[SummarySentence, ...]:
    shown = {
        m.id: [(mark.start, mark.stop) for mark in highlights(m.id, m.text, read(m.text))]
        for m in messages
    }
    given_: dict[str, list[tuple[int, int]]] = {}
    for fact in facts(messages):
        given_.setdefault(fact.message_id, []).append((fact.start, fact.stop))
    return summary(messages, messages[-1].id, shown, given_)


GIVEN = {
    "refund of $42.50 for order AB-12345, write to jo.doe+x@example.org": [
        ("amount", "$42.50"),
        ("order", "AB-12345"),
        ("email", "jo.doe+x@example.org"),
    ],
    "call +44 20 7946 0958 or (202) 555-0123": [
        ("phone", "+44 20 7946 0958"),
        ("phone", "(202) 555-0123"),
    ],
    "I bought a coffee machine last week, on 2026-11-02, and paid 120 euros": [
        ("product", "coffee machine"),
        ("date", "2026-11-02"),
        ("amount", "120 euros"),
    ],
    "Hi, my name is Ana López. Invoice no. INV-2026-001, tracking number 1Z999AA10123456784": [
        ("name", "Ana López"),
        ("invoice", "INV-2026-001"),
        ("tracking", "1Z999AA10123456784"),
    ],
    "call me on 2025550123 about order 2025550123": [
        ("phone", "2025550123"),
        ("order", "2025550123"),
    ],
    "it broke on May 5th, that is the 5th of May 2026": [
        ("date", "May 5th"),
        ("date", "5th of May 2026"),
    ],
}
FOREIGN = {
    "de": (
        "Mein Name ist Jörg Müller, Bestellnummer: 4711-2233, 12,50 €",
        [("name", "Jörg Müller"), ("order", "4711-2233"), ("amount", "12,50 €")],
    ),
    "de-CH": ("am 3. März 2026", [("date", "3. März 2026")]),
    "fr": ("je m'appelle Ana, commande nº 88123", [("name", "Ana"), ("order", "88123")]),
    "zh": ("我的订单号是123456789，11月3日", [("order", "123456789"), ("date", "11月3日")]),
    "de-AT": ("ruf mich an: 01 5880 01234", [("phone", "01 5880 01234")]),
}
NOTHING = (
    "order 250 units and then set 5 items, out 10",
    "my order was 3 days late, case closed",
    "order 4111111111111111",
    "the card is 4111 1111 1111 1111",
    "the serial is 2025550123",
    "it may 5 times fail, version 1.2.3",
    "write to me@nowhere or @me",
    "I ordered the thing and bought some items",
    "my name is not important",
)


@pytest.mark.parametrize("text", GIVEN)
def test_what_the_customer_gave_is_found(text: str) -> None:
    assert found(text) == GIVEN[text]


@pytest.mark.parametrize("language", FOREIGN)
def test_what_was_given_in_other_languages_is_found(language: str) -> None:
    text, expected = FOREIGN[language]
    assert found(text, language) == expected


@pytest.mark.parametrize("text", NOTHING)
def test_what_only_looks_like_a_fact_is_none(text: str) -> None:
    assert found(text) == []


def test_a_fact_is_told_once_where_it_was_first_given_and_only_the_customers() -> None:
    first, again = said("order AB-12345, jo@Example.org", "ORDER: ab-12345 and jo@example.org")
    bot = Message("b", "bot", "is it order XY-99999?", 0.0)
    assert [(f.value, f.message_id) for f in facts([bot, first, again])] == [
        ("AB-12345", "m1"),
        ("jo@Example.org", "m1"),
    ]


@pytest.mark.parametrize(
    "asked, answer, expected",
    [
        ("Which order is it about?", "nh-41849, as i said", [("order", "nh-41849")]),
        ("May I have your booking reference?", "sure, it is QX81725", []),  # one of two kinds
        ("What is your ticket number?", "it's 81725", [("ticket", "81725")]),
        ("Welche Bestellung meinen Sie?", "AB-12345", [("order", "AB-12345")]),
        ("Which order is it about?", "the order AB-12345", [("order", "AB-12345")]),
        ("Which order is it about?", "2 days ago I bought 12345 of them", []),
        ("Which order is it about?", "4111111111111111", []),
        ("Which order is it about?", "3 March 2026", [("date", "3 March 2026")]),
        ("Your order is on its way.", "nh-41849", []),
        ("How can I help?", "nh-41849", []),
    ],
)
def test_a_code_that_answers_the_bots_question_is_what_it_asked_for(
    asked: str, answer: str, expected: list[tuple[str, str]]
) -> None:
    messages = [Message("b1", "bot", asked, 0.0), *said(answer, "nh-99999")]
    assert [(fact.kind, fact.value) for fact in facts(messages)] == expected


def test_a_number_written_as_at_home_is_read_by_the_language_spoken_there() -> None:
    assert [one.e164 for one in phones("030 1234567", "de")] == ["+49301234567"]
    assert phones("030 1234567", "ja") == ()


TEXTS = st.text(
    st.one_of(st.sampled_from("order #12AB-@.é €年\n\u202e😀 may call"), st.characters())
)


@given(st.lists(TEXTS, max_size=6), st.sampled_from([None, "en", "de", "zz", "pt-BR"]))
@settings(max_examples=200, deadline=None)
def test_every_fact_mark_and_quote_cites_its_very_words(
    texts: list[str], language: str | None
) -> None:
    messages = said(*texts, language=language)
    by_id = {message.id: message.text for message in messages}
    for fact in facts(messages):
        assert fact.value == by_id[fact.message_id][fact.start : fact.stop]
        assert fact.kind in KINDS
    for message in messages:
        spans = sentences(message.text)
        assert "".join(message.text.split()) == "".join(
            "".join(message.text[start:stop].split()) for start, stop in spans
        )
        assert all(0 < stop - start <= SENTENCE_CHARS_MAX for start, stop in spans)
        last = 0
        for mark in highlights(message.id, message.text, read(message.text), ("says:order",)):
            assert last <= mark.start < mark.stop <= len(message.text)
            last = mark.stop
    if messages:
        quotes = told(messages)
        assert len(quotes) <= SENTENCES_MAX
        assert quotes == told(messages)
        for quote in quotes:
            assert quote.text == by_id[quote.message_id][quote.start : quote.stop]


HOSTILE = (
    *("1 " * 10_000, "order number " * 1500, "a@" * 10_000, "(555) " * 3000, "1.1.20 " * 2800),
    *("bought a x x x x " * 1200, "my name is A " * 1500, "order #" + "-" * 19_000, "9" * 20_000),
    *("€1 " * 6000, "order is is is " * 1300, "a. " * 6600, "。" * 20_000),
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_makes_the_search_long_or_its_findings_many(text: str) -> None:
    def work(text: str) -> int:
        messages = said(*[text + str(place) for place in range(3)])
        assert len(facts(messages)) <= FACTS_MAX
        return calls(lambda: (facts(messages), told(messages)))

    half, eighth = text[: len(text) // 2], text[: len(text) // 8]
    assert work(half) < 4.4 * max(work(eighth), 1000)


def searched(module: ModuleType) -> Iterator[re.Pattern[str]]:
    """The expressions that a module looks for."""
    for found in vars(module).values():
        every = found.values() if isinstance(found, dict) else [found]
        yield from (one for one in every if isinstance(one, re.Pattern))


def repeats(pattern: re.Pattern[str]) -> Iterator[int]:
    """How often an expression repeats something at most, for each thing that it repeats."""

    def within(part: Any) -> Iterator[int]:
        for one in part:
            if isinstance(one, tuple) and str(one[0]).endswith("_REPEAT"):
                yield int(one[1][1])
            if isinstance(one, (tuple, list, SubPattern)):
                yield from within(one)

    return within(parse(pattern.pattern, pattern.flags & ~re.UNICODE))


def test_no_search_for_a_fact_looks_further_than_some_characters() -> None:
    """So that each is linear in a text's length: whatever it repeats, it repeats only so often."""
    entities, emails, phones = (
        learning.conversation.brief.entities,
        learning.conversation.brief.emails,
        learning.conversation.brief.phones,
    )
    found = [*searched(entities), *searched(emails), *searched(phones)]
    assert len(found) > 20
    for pattern in found:
        assert all(most <= 253 for most in repeats(pattern)), pattern.pattern
    assert list(repeats(re.compile("a(?:b|c+)*d"))) == [MAXREPEAT, MAXREPEAT]


# Summaries


def test_a_summary_tells_the_matter_the_problem_and_why_a_person_is_wanted() -> None:
    messages = said(
        "Hi there!",
        "My coffee machine arrived broken. I ordered it on 3 March 2026, order AB-12345.",
        "Yes, I did unplug it. It still leaks water everywhere.",
        "no",
        "The machine leaks! I want a refund for the coffee machine.",
        "this is ridiculous, let me talk to a human please",
    )
    assert [(quote.message_id, quote.text) for quote in told(messages)] == [
        ("m2", "I ordered it on 3 March 2026, order AB-12345."),
        ("m5", "I want a refund for the coffee machine."),
        ("m6", "this is ridiculous, let me talk to a human please"),
    ]


def test_a_summary_needs_no_spaces_between_words() -> None:
    quotes = told(said("你好", "我的订单号是123456789。还没有收到货！", "我要退款", "转人工"))
    assert [quote.text for quote in quotes][-1] == "转人工"
    assert "我的订单号是123456789。" in [quote.text for quote in quotes]


def test_a_summary_does_not_say_the_same_thing_twice() -> None:
    quotes = told(said(*["where is my order, it is three weeks late"] * 5, "I need it by Friday"))
    assert len([quote for quote in quotes if "three weeks late" in quote.text]) == 1


def test_a_conversation_without_words_has_no_summary() -> None:
    assert told(said("   ", "\n")) == ()


# Evidence


def test_what_a_trigger_went_by_is_marked_in_the_customers_words() -> None:
    text = "this is stupid, I want to talk to a human. My lawyer will call"
    found_ = highlights("m", text, read(text), ("request", "says:lawyer will"))
    by_signal = {mark.signal: (text[mark.start : mark.stop], mark.led) for mark in found_}
    assert by_signal["request"] == (read(text).request, True)
    assert by_signal["says:lawyer will"] == ("lawyer will", True)


def test_what_no_trigger_went_by_is_marked_as_such() -> None:
    text = "I want a refund now"
    assert {(m.signal, m.led) for m in highlights("m", text, read(text), ("request",))} >= {
        ("refund", False)
    }


def test_a_rule_about_frustration_is_shown_by_what_frustrates() -> None:
    text = "WHY is this so HARD?!?! this damn thing"
    assert any(mark.led for mark in highlights("m", text, read(text), ("frustration",)))


# Which answer is worth asking for


def test_the_most_valuable_answer_is_where_the_model_doubts_and_knows_least() -> None:
    assert label_value(0.5, 1.0, by_rule_alone=False) > label_value(0.9, 1.0, by_rule_alone=False)
    assert label_value(0.5, 2.0, by_rule_alone=False) > label_value(0.5, 0.1, by_rule_alone=False)
    assert label_value(0.1, 0.1, by_rule_alone=True) > label_value(0.1, 0.1, by_rule_alone=False)
    assert label_value(None, None, by_rule_alone=True) == 0.0


@given(st.floats(0, 1), st.floats(0, allow_infinity=True, allow_nan=False), st.booleans())
def test_the_value_of_an_answer_has_bounds(p: float, s2: float, alone: bool) -> None:
    assert 0.0 <= label_value(p, s2, by_rule_alone=alone) <= 1.5
