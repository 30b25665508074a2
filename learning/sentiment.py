"""Sentiment of English text, by VADER (Hutto and Gilbert 2014), built once and kept.

VADER knows English alone; elsewhere its words mislead (German "die" reads as death), so the caller
asks only for English. Its cost grows with the square of a text's length, so it reads the first and
last `PART_CHARS` characters: how a message opens and how it ends. A text in which no word of its
lexicon stands scores exactly 0.0 and is answered without running it.
"""

from __future__ import annotations

from functools import cache

from vaderSentiment.vaderSentiment import BOOSTER_DICT, SentimentIntensityAnalyzer, SentiText

PART_CHARS = 500


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
    """What `polarity_scores` says of ASCII text, for a third of the time: such a text holds no
    emoji to look for, and only words of the lexicon have a valence to work out.
    """
    vader = analyzer()
    lexicon, said = vader.lexicon, SentiText(text.strip())
    words = [word.lower() for word in said.words_and_emoticons]
    if lexicon.keys().isdisjoint(words):
        return 0.0
    valences: list[float] = []
    for place, word in enumerate(words):
        kind_of = word == "kind" and words[place + 1 : place + 2] == ["of"]
        if word not in lexicon or word in BOOSTER_DICT or kind_of:
            valences.append(0)
        else:
            item = said.words_and_emoticons[place]
            valences = vader.sentiment_valence(0, said, item, place, valences)
    return float(vader.score_valence(vader._but_check(words, valences), said.text)["compound"])
