"""What one text shows by itself: a request for a person, sentiment, urgency, frustration, topics.

The phrases are data (`learning/lexicon/*.toml`, notation in `phrases`); here is only how much each
counts. `request`, "identity" and "security" escalate by rule whatever the model says, so their
phrases are held to high precision; the other topics are hints for the model, the policy's own rules
and the agent who reads the handoff.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from learning.text.lexicon.phrase_matcher import PhraseMatch, english, find, lexicon
from learning.text.own_words import OwnWords, own_words
from learning.text.sentiment import compound
from learning.text.tokens import Tokens, tokens
from learning.text.topic_classifier import score

TEXT_CHARS_MAX = 20_000
"""Of a longer text the first and the last half of this are read."""
EVIDENCE_MAX = 16
EVIDENCE_CHARS_MAX = 120
TOPICS = (
    "cancellation", "complaint", "identity", "identity_mention", "legal", "legal_mention", "refund",
    "safety", "security", "technical",
)  # fmt: skip
"""Every topic that `Signals.topics` may name."""
MENTIONS = {"identity": "identity_mention", "legal": "legal_mention"}
"""What is told where a phrase of a topic stands in a text that asks for nothing of it."""

_DIGIT = re.compile(r"\d")
_QUESTIONS = re.compile(r"[?？؟]+")
_EMPHASIS = re.compile(r"[!?！？؟]{2,}")
_CODE = re.compile(
    r"\b(?:0x[0-9A-Fa-f]{2,8}|[A-Z]{1,6}[-_]?\d{2,6}|(?i:error|code)\s{1,3}#?\d{1,6})\b"
)
_ITEM = re.compile(r"(?:^|\n)[ \t]{0,4}(?:[-*\u2022]|\d{1,2}[.)])[ \t]")
_MASKED = re.compile(
    r"\b[A-Za-z]{1,2}\*{2,6}[A-Za-z]{0,4}"
    "|[\U0001f621\U0001f92c\U0001f624\U0001f47f\U0001f4a2\U0001f595]"
)
_LATIN_WORD = re.compile(r"[A-Z]{2,}")


@dataclass(frozen=True, slots=True)
class Signals:
    """The signals of one text; `evidence` holds the customer's own words for each."""

    request: str | None = None
    sentiment: float = 0.0
    urgency: float = 0.0
    frustration: float = 0.0
    profanity: bool = False
    topics: tuple[str, ...] = ()
    questions: int = 0
    complexity: float = 0.0
    evidence: tuple[tuple[str, str], ...] = ()


QUIET = Signals()
"""The signals of an empty text."""


def read(text: str, language: str | None = None, format: str | None = None) -> Signals:
    """The signals of a text of any length, in any language: of the customer's own words in it.

    `language` ("en", "pt-BR") is believed before words that are spelt alike in others, and decides
    whether sentiment is computed: English, or unknown and looking like English; phrases are sought
    in every language, as customers mix them. Pure and linear in the text; nothing here depends on
    order or seed.
    """
    return read_own(own_words(shorten(text), format), language)


def shorten(text: str) -> str:
    """A text of a length that can be read: of a longer one both ends."""
    if len(text) <= TEXT_CHARS_MAX:
        return text
    return text[: TEXT_CHARS_MAX // 2] + "\n" + text[-TEXT_CHARS_MAX // 2 :]


def read_own(own: OwnWords, language: str | None = None) -> Signals:
    """The signals of a customer's own words."""
    text = own.text
    if not text or text.isspace():
        return QUIET
    split = tokens(text, own)
    found = _judged(_strongest(find(text, split, language)), split)
    profane = _profane(text, split)
    capitals = _capitals(text, split)
    bursts = _EMPHASIS.findall(text)
    questions = len(_QUESTIONS.findall(text))
    evidence = [(name, match.words) for name, match in found.items()]
    if profane:
        evidence.append(("profanity", profane))
    if bursts:
        evidence.append(("punctuation", bursts[0]))
    return Signals(
        request=found["request"].words[:EVIDENCE_CHARS_MAX] if "request" in found else None,
        sentiment=compound(text) if _english(split, language) else 0.0,
        urgency=_level(0.6 * ("urgent" in found), 0.2 * min(len(bursts), 2), 0.2 * capitals),
        frustration=_level(
            0.45 * ("exasperation" in found),
            0.35 * bool(profane),
            0.15 * min(len(bursts), 3),
            0.35 * capitals,
        ),
        profanity=bool(profane),
        topics=tuple(topic for topic in TOPICS if topic in found),
        questions=questions,
        complexity=_complexity(text, split, questions),
        evidence=tuple(
            sorted({(name, words[:EVIDENCE_CHARS_MAX]) for name, words in evidence})[:EVIDENCE_MAX]
        ),
    )


def _strongest(matches: Sequence[PhraseMatch]) -> dict[str, PhraseMatch]:
    """The longest match of each signal, the first of equals."""
    best: dict[str, PhraseMatch] = {}
    for match in matches:
        if match.signal not in best or len(match.words) > len(best[match.signal].words):
            best[match.signal] = match
    return best


def _judged(found: dict[str, PhraseMatch], split: Tokens) -> dict[str, PhraseMatch]:
    """Topics that the classifier judges: it finds what no phrase does, and takes back a phrase that
    stands among harmless words of its own sentence.
    """
    scored = score([word for word in split.words if word not in ".,"])
    for topic, points, phrase_worth in scored.readings():
        match = found.pop(topic, None) if found else None
        if points >= 0 or (match and _holds(match, split, points, phrase_worth)):
            if match is None and scored.words:
                places = [place for place, word in enumerate(split.words) if word not in ".,"]
                first, last = scored.evidence(topic)
                match = PhraseMatch(topic, split.written(places[first], places[last]))
            if match:
                found[topic] = match
        elif match and topic in MENTIONS:
            found[MENTIONS[topic]] = PhraseMatch(MENTIONS[topic], match.words)
    return found


def _holds(match: PhraseMatch, split: Tokens, points: int, phrase_worth: int) -> bool:
    """Whether a phrase is meant as it stands: in its whole text, or in its own sentence."""
    if points + phrase_worth >= 0:
        return True
    return score(_sentence_of(match, split)).scores[match.signal] + phrase_worth >= 0


def _sentence_of(match: PhraseMatch, split: Tokens) -> list[str]:
    """The words of the sentence in which a phrase was found."""
    phrase = [word for word in tokens(match.words).words if word not in ".,"]
    for end, sentence in groupby(split.words, ".".__eq__):
        words = [word for word in sentence if word != ","]
        if not end and any(
            words[start : start + len(phrase)] == phrase for start in range(len(words))
        ):
            return words
    return phrase


def _profane(text: str, split: Tokens) -> str:
    """A profane word, listed or masked (`f***ing`), or a furious face."""
    listed = lexicon().profanity
    word = next((word for word in split.words if word in listed), "")
    if not word and ("*" in text or not text.isascii()):
        masked = _MASKED.search(text)
        word = masked.group() if masked else ""
    return word


def _capitals(text: str, split: Tokens) -> float:
    """The share of words of three letters and more that shout; 0 below two such words, and for
    short codes and names among quiet words.
    """
    if text.islower():
        return 0.0
    loud = sum(len(run) > 2 for run in _LATIN_WORD.findall(text))
    words = sum(len(word) > 2 for word in split.words)
    return min(1.0, loud / words) if loud >= 2 and words else 0.0


def _english(split: Tokens, language: str | None) -> bool:
    if language:
        return language[:2].lower() == "en"
    ours, theirs = english(split.words)
    return ours >= theirs and any(word.isascii() and word.isalpha() for word in split.words)


def _complexity(text: str, split: Tokens, questions: int) -> float:
    """Steps told one after another, codes, several questions, lists, and length."""
    steps = sum(map(lexicon().steps.__contains__, split.words))
    return _level(
        0.15 * min(steps, 4),
        0.2 * min(len(_CODE.findall(text)) if _DIGIT.search(text) else 0, 2),
        0.15 * min(max(questions - 1, 0), 3),
        0.1 * min(len(_ITEM.findall(text)), 4),
        0.05 * min(max(split.words.count(",") - 2, 0), 4),
        min(len(split.words) / 200, 0.3),
    )


def _level(*parts: float) -> float:
    return min(1.0, sum(parts))
