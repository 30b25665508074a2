"""Sentiment of English text, by VADER (Hutto and Gilbert 2014), built once and kept.

VADER knows English alone; elsewhere its words mislead (German "die" reads as death), so the caller
asks only for English. Its cost grows with the square of a text's length, so it reads the first and
last `PART_CHARS` characters: how a message opens and how it ends. A text in which no word of its
lexicon stands scores exactly 0.0 and is answered without running it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from string import punctuation

from vaderSentiment.vaderSentiment import (
    BOOSTER_DICT,
    C_INCR,
    NEGATE,
    SPECIAL_CASES,
    SentimentIntensityAnalyzer,
    SentiText,
    allcap_differential,
    normalize,
)

PART_CHARS = 500

_BEFORE, _AFTER = 3, 2
"""So many words before and after a word of the lexicon can change what it says."""

_LONGEST = {max(phrase.split(), key=len) for phrase in (*SPECIAL_CASES, *BOOSTER_DICT)}
_CHANGING = frozenset({*NEGATE, *_LONGEST, "no", "so", "this", "least"})
"""With none of these near, and nothing in "n't", a word says what the lexicon says of it."""


@cache
def analyzer() -> SentimentIntensityAnalyzer:
    """The one analyzer; reading its lexicon takes some 20 ms."""
    return SentimentIntensityAnalyzer()


def compound(text: str) -> float:
    """VADER's compound score, -1 (hostile) to 1 (delighted), of both ends of an English text."""
    if len(text) > 2 * PART_CHARS:
        text = text[:PART_CHARS] + " " + text[-PART_CHARS:]
    if text.isascii():
        return _plain(text)
    return float(analyzer().polarity_scores(text)["compound"])


def _plain(text: str) -> float:
    """What `polarity_scores` says of ASCII text, for a fifth of the time: such a text holds no
    emoji to look for, and only words of the lexicon have a valence to work out.
    """
    vader = analyzer()
    lexicon, words = vader.lexicon, _words(text)
    lower = [word.lower() for word in words]
    if lexicon.keys().isdisjoint(lower):
        return 0.0
    differ = allcap_differential(words)
    valences: list[float] = [0.0] * len(words)
    for place, word in enumerate(lower):
        kind_of = word == "kind" and lower[place + 1 : place + 2] == ["of"]
        if word in lexicon and word not in BOOSTER_DICT and not kind_of:
            valences[place] = _valence(words, lower, place, differ)
    if "but" in lower:
        valences = vader._but_check(lower, valences)
    total = sum(valences)
    if total:
        emphasis = vader._punctuation_emphasis(text)
        total += emphasis if total > 0.0 else -emphasis
    return float(round(normalize(total), 4))


def _words(text: str) -> list[str]:
    """The words as VADER cuts them: of what would be left of an emoticon, nothing is taken."""
    return [bare if len(bare := word.strip(punctuation)) > 2 else word for word in text.split()]


def _valence(words: Sequence[str], lower: Sequence[str], place: int, differ: bool) -> float:
    """What a word of the lexicon says where it stands; `differ` if only some words are shouted."""
    vader, begin, end = analyzer(), max(0, place - _BEFORE), place + _AFTER + 1
    near = lower[begin:end]
    if _CHANGING.isdisjoint(near) and "n't" not in " ".join(near):
        valence = float(vader.lexicon[lower[place]])
        if differ and words[place].isupper():
            valence += C_INCR if valence > 0.0 else -C_INCR
        return valence
    said = SentiText("")
    said.words_and_emoticons, said.is_cap_diff = words[begin:end], differ
    here = place - begin
    return float(vader.sentiment_valence(0, said, words[place], here, [])[0])
