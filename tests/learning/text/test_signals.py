"""What a text shows by itself: requests for a person, topics, moods, and what they are not."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.conversation.brief.sentences import _END, sentences
from learning.text.lexicon import phrase_matcher
from learning.text.lexicon.phrase_matcher import (
    ANCHORS_MAX,
    FULL,
    NEAR_TOKENS,
    WHOLE_TOKENS_MAX,
    _windows,
    covered,
    languages,
    lexicon,
)
from learning.text.sentiment import analyzer, compound
from learning.text.signals import (
    EVIDENCE_CHARS_MAX,
    EVIDENCE_MAX,
    MENTIONS,
    QUIET,
    TEXT_CHARS_MAX,
    TOPICS,
    Signals,
    read,
)
from learning.text.tokens import _ASCII_TOKEN, _TOKEN, tokens
from tests.work import calls

DATA = Path(__file__).parents[2] / "data"


def _phrases(file: str) -> Iterator[tuple[str, str, str, bool]]:
    for signal, by_language in tomllib.loads((DATA / file).read_text("utf-8")).items():
        for language, lists in by_language.items():
            for answer, texts in lists.items():
                for text in texts:
                    yield signal, language, text, answer == "yes"


def _shows(signal: str, text: str) -> bool:
    signals = read(text)
    return signals.request is not None if signal == "request" else signal in signals.topics


TABLE = list(_phrases("signals_phrases.toml"))


@pytest.mark.parametrize("signal, language, text, expected", TABLE, ids=[row[2] for row in TABLE])
def test_each_phrase_of_the_table_shows_its_signal_or_does_not(
    signal: str, language: str, text: str, expected: bool
) -> None:
    assert _shows(signal, text) is expected, read(text).evidence


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert sum(row[3] for row in TABLE) >= 120
    assert sum(not row[3] for row in TABLE) >= 120


@pytest.mark.parametrize("signal", ["request", "identity", "security"])
@pytest.mark.parametrize("file", ["heldout", "heldout_late", "unseen"])
def test_precision_and_recall_hold_on_phrases_that_were_held_out(signal: str, file: str) -> None:
    table = _phrases(f"signals_{file}.toml")
    rows = [(text, expected) for name, _, text, expected in table if name == signal]
    shown = [(text, expected) for text, expected in rows if _shows(signal, text)]
    right = sum(expected for _, expected in shown)
    assert right / len(shown) >= 0.95, [text for text, expected in shown if not expected]
    assert right / sum(expected for _, expected in rows) >= 0.80


def test_every_phrase_of_every_language_can_be_compiled_and_found_by_its_anchor() -> None:
    book = lexicon()
    reached = {number for numbers in book.anchors.values() for number in numbers}
    reached |= {number for numbers in book.stems.values() for number in numbers}
    assert reached == set(range(len(book.phrases)))
    for phrase in (*book.phrases, *book.unspaced):
        phrase.search(". hello . ", 0, 10)
    signals = {phrase.group.signal for phrase in (*book.phrases, *book.unspaced)}
    assert signals == {*TOPICS, "request", "urgent", "exasperation"} - {*MENTIONS.values()}


@pytest.mark.parametrize("language", sorted(set(languages()) - FULL))
def test_what_is_recognised_beyond_requests_is_said_of_each_further_language(language: str) -> None:
    assert covered(language)
    assert not covered(language, "safety")


@pytest.mark.parametrize("language", sorted(FULL))
def test_every_language_knows_every_signal(language: str) -> None:
    book = lexicon()
    known = {
        p.group.signal for p in (*book.phrases, *book.unspaced) if p.group.language == language
    }
    assert known == {*TOPICS, "request", "urgent", "exasperation"} - {*MENTIONS.values()}


def test_the_request_is_told_in_the_customers_own_words() -> None:
    assert read("Well... TALK to a Human, now").request == "TALK to a Human"
    assert ("request", "TALK to a Human") in read("Well... TALK to a Human, now").evidence
    assert read("我要转人工客服").request is not None


def test_a_denial_of_another_thing_does_not_hide_a_request() -> None:
    for text in (
        "I don't want the bot, I want a human",
        "I don't want another article. I want to speak to someone.",
        "no quiero el robot, quiero un agente",
        "stop sending me articles and give me a person",
    ):
        assert read(text).request, text


def test_an_empty_text_is_quiet() -> None:
    assert read("") == read(" \n") == QUIET


@pytest.mark.parametrize(
    "text, topic",
    [
        ("I will sue you, my lawyer will call", "legal"),
        ("there is a gas leak in my kitchen", "safety"),
        ("I want to kill myself", "safety"),
        ("I want my money back", "refund"),
        ("please cancel my subscription", "cancellation"),
        ("I want to file a complaint", "complaint"),
        ("the app shows an error and crashes", "technical"),
        ("quiero un reembolso", "refund"),
        ("ich möchte meinen Vertrag kündigen", "cancellation"),
        ("退款", "refund"),
    ],
)
def test_other_topics_are_told(text: str, topic: str) -> None:
    assert topic in read(text).topics


def test_anger_shows_as_frustration_and_a_calm_text_shows_none() -> None:
    calm = read("Could you tell me when my order arrives?")
    annoyed = read("For the third time, that's not what I asked.")
    furious = read("THIS IS RIDICULOUS!!! for the THIRD time, you USELESS FUCKING bot!!!")
    assert calm.frustration == 0
    assert not calm.profanity
    assert 0 < annoyed.frustration < furious.frustration == 1
    assert furious.profanity


@pytest.mark.parametrize(
    "text", ["this f***ing thing", "was für eine Scheiße", "no sirve 🤬", "wtf"]
)
def test_profanity_is_told_masked_or_as_a_face(text: str) -> None:
    assert read(text).profanity
    assert not read("2 * 3 ** 4, a *bold* word and a smile 🙂").profanity


def test_shouting_needs_more_than_one_short_code() -> None:
    assert read("my code is ABC please").frustration == 0
    assert read("WHY IS NOTHING WORKING HERE").frustration > 0.2


@pytest.mark.parametrize("text", ["this is urgent", "es urgente", "今すぐお願いします", "asap!!"])
def test_urgency_is_told(text: str) -> None:
    assert read(text).urgency >= 0.5
    assert read("whenever you have time").urgency == 0


def test_sentiment_follows_vader_for_english_and_is_zero_elsewhere() -> None:
    angry, glad = "This is terrible, I hate it", "This is great, I love it"
    for text in (angry, glad):
        assert read(text, "en-GB").sentiment == analyzer().polarity_scores(text)["compound"]
        assert read(text).sentiment == read(text, "en").sentiment
        assert read(text, "de").sentiment == 0
    assert read("die Rechnung ist da und die Karte ist nicht da").sentiment == 0
    assert read(angry).sentiment < 0 < read(glad).sentiment


_HEARD = (
    "good bad GREAT hate no not never so this without doubt least at very kind of but the shit "
    "bomb yeah right to die for bus stop isn't most :) :( ok no! really???? but"
)


@given(
    st.lists(st.sampled_from([*_HEARD.split(), "?", "a", "\n", "order"])).map(" ".join) | st.text()
)
def test_sentiment_is_what_vader_says_of_any_text(text: str) -> None:
    assert compound(text[:500]) == analyzer().polarity_scores(text[:500])["compound"]


def test_complexity_grows_with_steps_codes_and_questions() -> None:
    simple = read("Where is my order?")
    steps = read(
        "First I restarted the router, then I reset it, after that it showed error E1234. "
        "What does that mean? Is it broken? Can I get a new one?"
    )
    assert simple.questions == 1
    assert steps.questions == 3
    assert simple.complexity < 0.1
    assert steps.complexity > 0.6


HOSTILE = [
    "agent ", "talk to ", "a", "! ", "?!", "my account hacked ", "bad ok ", "a b c d ", "人工",
    "i dont want to talk to an agent ", "talk to an agent not ", "' ", ". . ", "1.", "- ", "é",
    "want want want need like ", "no but great ", "someone is there any ", "\n- ", "E1 ",
    "مع موظف ",
    "я не хочу оператора ", "オペレーター誰か", "상담원이랑", "card someone has my account used ",
]  # fmt: skip


CALLS_MAX = 25
"""For each character that is read; of a longer text no more are read than TEXT_CHARS_MAX."""


def takes_no_more_than_others(text: str) -> None:
    whole = (text * TEXT_CHARS_MAX)[: 4 * TEXT_CHARS_MAX]
    read(text)  # what is read from files is read once
    for length in (TEXT_CHARS_MAX // 4, 4 * TEXT_CHARS_MAX):
        most = min(length, TEXT_CHARS_MAX)
        assert calls(lambda length=length: read(whole[:length])) < CALLS_MAX * most


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_characters_take_no_more_work_than_others(unit: str) -> None:
    takes_no_more_than_others(unit)


@given(st.integers(1, 2000), st.data())
def test_of_many_anchors_few_are_followed_up(count: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, count - 1), unique=True).map(sorted))
    looked_at = sum(end - begin for begin, end in _windows(places, count))
    assert looked_at <= max(WHOLE_TOKENS_MAX, ANCHORS_MAX * (2 * NEAR_TOKENS + 1))


_WORDS = sorted({"i", "to", "a", "not", ",", ".", "my", *list(lexicon().anchors)[::17]})


@given(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=40))
@settings(max_examples=20, deadline=None)
def test_no_mixture_of_the_lexicons_own_words_makes_the_search_long(words: list[str]) -> None:
    takes_no_more_than_others(" ".join(words) + " ")


@given(st.text(max_size=400), st.sampled_from([None, "en", "de", "zh", "xx"]))
@settings(deadline=None)
def test_any_text_gives_signals_within_their_bounds(text: str, language: str | None) -> None:
    signals = read(text, language)
    assert signals == read(text, language)
    assert -1 <= signals.sentiment <= 1
    assert 0 <= signals.urgency <= 1
    assert 0 <= signals.frustration <= 1
    assert 0 <= signals.complexity <= 1
    assert signals.questions >= 0
    assert set(signals.topics) <= set(TOPICS)
    assert list(signals.topics) == sorted(signals.topics)
    assert list(signals.evidence) == sorted(signals.evidence)
    assert len(signals.evidence) <= EVIDENCE_MAX
    assert all(len(words) <= EVIDENCE_CHARS_MAX for _, words in signals.evidence)


@given(st.text(alphabet="humantlkoperws .,!?'A\n", max_size=300))
def test_evidence_is_quoted_from_the_text_and_names_each_signal(text: str) -> None:
    signals = read(text)
    names = {name for name, _ in signals.evidence}
    assert set(signals.topics) <= names
    for name, words in signals.evidence:
        assert words in text or name == "profanity", words
    assert (signals.request is not None) == ("request" in names)


def test_a_very_long_text_is_read_at_both_ends() -> None:
    filler = "the parcel is blue and the box is green. " * 1000
    assert read("I want to talk to a human. " + filler).request
    assert read(filler + " I want to talk to a human.").request


@pytest.mark.long
def test_signals_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from learning.text.signals import read\n"
        "print(read('I was hacked!! quiero un agente, lawyer, refund. tlak to a humna, merde'))"
    )
    seen = set()
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True,
            cwd=Path(__file__).parents[3], text=True,
        )  # fmt: skip
        seen.add(run.stdout)
    assert len(seen) == 1


def test_signals_are_plain_values() -> None:
    assert read("talk to a human") == read("talk to a human")
    assert hash(Signals()) == hash(QUIET)


@pytest.mark.parametrize("mark", [".", "!", "?", "…"])
def test_a_row_of_marks_is_tried_from_its_first_only(mark: str) -> None:
    """Tried from each of them anew, it took a second for ten thousand: nobody was scored then."""
    for pattern in (_END, _TOKEN, _ASCII_TOKEN):
        row = pattern.match(mark * 9 + "x")
        is_passed_whole = row is not None and row.end() == 9
        assert is_passed_whole or pattern.match(mark * 9 + " ", 4) is None

    def work(count: int) -> int:
        rows = mark * count + "x", mark * count, f"a {mark * count}x b"
        return calls(lambda: [(tokens(row), sentences(row)) for row in rows])

    assert work(60_000) < 4.4 * work(15_000)


@pytest.mark.parametrize(
    "language, text",
    [
        ("en", "fourth time now: it leaks"),
        ("en", "it broke again, same problem as last time"),
        ("de", "wieder kaputt, wieder dasselbe Problem"),
        ("de", "jetzt zum vierten Mal: es tropft"),
        ("es", "otra vez el mismo problema"),
        ("pt", "já é a quarta vez: pinga"),
        ("fr", "c'est la quatrième fois : ça fuit"),
        ("it", "di nuovo lo stesso problema"),
        ("nl", "nu al de vierde keer: het lekt"),
        ("pl", "znowu ten sam problem"),
        ("tr", "yine aynı sorun"),
        ("ru", "опять та же проблема"),
        ("ar", "للمرة الرابعة: يسرب"),
        ("hi", "फिर से वही समस्या"),
        ("ja", "これで四回目です。水漏れします"),
        ("ko", "벌써 네 번째예요: 새요"),
        ("zh", "第四次了，还在漏水"),
    ],
)
def test_a_complaint_that_comes_back_shows_exasperation(language: str, text: str) -> None:
    assert "exasperation" in dict(read(text, language).evidence)


def test_every_phrase_of_the_lexicon_can_be_read() -> None:
    book = phrase_matcher.lexicon()
    for phrase in (*book.phrases, *book.unspaced):
        assert phrase_matcher._expression(phrase).search("") is None
        assert len(phrase_matcher._guards(phrase.group)) == 4
