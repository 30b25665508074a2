"""Sentiment of English text, by VADER (Hutto and Gilbert 2014), built once and kept.

VADER knows English alone; elsewhere its words mislead (German "die" reads as death), so the caller
asks only for English. Its cost grows with the square of a text's length, so it reads the first and
last `PART_CHARS` characters: how a message opens and how it ends. A text in which no word of its
lexicon stands scores exactly 0.0 and is answered without running it.
"""

from __future__ import annotations

import string
from functools import cache

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

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
        lexicon = analyzer().lexicon
        for word in text.lower().split():
            if word in lexicon or word.strip(string.punctuation) in lexicon:
                break
        else:
            return 0.0
    return float(analyzer().polarity_scores(text)["compound"])
