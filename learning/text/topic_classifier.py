"""Text classifier, logistic regression on character and word n-grams: danger and its neighbours.

People in danger write what no list of phrases foresees, and lists of nouns fire on idioms, games
and shop words. So beside the phrases stands one weight for each n-gram, learned from text that the
project wrote (`experiments.studies.007_danger_classifier` has the text, the training, the figures).

Weights are small integers, in a file whose digest is checked; sums of integers are the same on
every machine. The n-grams of a word are summed once and remembered by the word, so a text costs two
or three look-ups a word. Pure; linear in the text.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from base64 import b85decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

from learning.text.tokens import unspaced

WINDOW_WORDS = 32
"""A text counts as its most telling stretch of so many words; a longer one adds up to anything."""
EVIDENCE_WORDS = 8
_RUN_CHARS = 32


@dataclass(frozen=True, slots=True)
class TopicWeights:
    """What was learned: by topic its offset, its threshold, what a phrase is worth, and weights."""

    topics: tuple[str, ...]
    bias: tuple[int, ...]
    phrase_worth: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]
    """By hash of an n-gram, its weight for each topic."""


@cache
def weights() -> TopicWeights:
    """The packaged weights, read once. Raises ValueError where the file is not what was learned."""
    text = (resources.files("learning.text") / "topic_weights.json").read_text("utf-8")
    return parse(json.loads(text))


def parse(document: Mapping[str, object]) -> TopicWeights:
    """The weights of a document as study 7 writes it."""
    packed = str(document["weights"])
    topics: dict[str, list[int]] = document["topics"]  # type: ignore[assignment]
    digest = hashlib.sha256((packed + json.dumps(topics, sort_keys=True)).encode()).hexdigest()
    if digest != document["sha256"]:
        raise ValueError("topic_weights.json is damaged: its digest differs; install Baton anew")
    data = zlib.decompress(b85decode(packed))
    size = len(data) // len(topics)
    columns = [memoryview(data)[i * size : (i + 1) * size].cast("b") for i in range(len(topics))]
    return TopicWeights(
        topics=tuple(topics),
        bias=tuple(values[0] for values in topics.values()),
        phrase_worth=tuple(values[1] for values in topics.values()),
        rows=tuple(zip(*columns, strict=True)),
    )


def word_ngrams(word: str) -> Iterator[str]:
    """The word and its n-grams of 3 to 5 characters; of 1 to 4 in scripts without spaces."""
    if unspaced(word):
        for size in (1, 2, 3, 4):
            for start in range(len(word) - size + 1):
                yield word[start : start + size]
        return
    yield word
    edged = f"<{word}>"
    for size in (3, 4, 5):
        for start in range(len(edged) - size + 1):
            yield edged[start : start + size]


def ngrams(words: Sequence[str]) -> Iterator[str]:
    """Every n-gram of a text: of each word, of neighbours, of words with one between."""
    one = two = ""
    for word in words:
        if word in ".,":
            continue
        yield from word_ngrams(word)
        if one:
            yield f"{one} {word}"
        if two:
            yield f"{two} . {word}"
        one, two = word, one


def bucket(ngram: str, size: int) -> int:
    return zlib.crc32(ngram.encode()) % size


@lru_cache(maxsize=16384)
def _of_word(word: str) -> tuple[int, ...]:
    rows = weights().rows
    found = [rows[bucket(ngram, len(rows))] for ngram in word_ngrams(word)]
    return tuple(map(sum, zip(*found, strict=True)))


@lru_cache(maxsize=32768)
def _of_pair(first: str, second: str) -> tuple[int, ...]:
    rows = weights().rows
    return rows[bucket(f"{first} {second}", len(rows))]


def _contributions(words: Sequence[str]) -> list[tuple[int, tuple[int, ...]]]:
    """By token that is a word its place, and what it and its bonds to words before it weigh."""
    result = []
    one = two = ""
    for place, word in enumerate(words):
        if word in ".,":
            continue
        parts = [_of_word(word)]
        if one:
            parts.append(_of_pair(one, word))
        if two:
            parts.append(_of_pair(two + " .", word))
        result.append((place, tuple(map(sum, zip(*parts, strict=True)))))
        one, two = word, one
    return result


@dataclass(frozen=True, slots=True)
class TopicScores:
    """The log-odds of each topic in a text, in hundredths, and what each word added."""

    scores: Mapping[str, int]
    contributions: tuple[tuple[int, tuple[int, ...]], ...]

    def readings(self) -> Iterator[tuple[str, int, int]]:
        """Each topic, its log-odds (fires from 0 on), and what a phrase of it adds."""
        return zip(self.scores, self.scores.values(), weights().phrase_worth, strict=True)

    def evidence(self, topic: str) -> tuple[int, int]:
        """The first and last token of the short stretch that weighed most."""
        head = weights().topics.index(topic)
        values = [row[head] for _, row in self.contributions]
        spans = (
            (sum(values[start:stop]), start - stop, start)
            for start in range(len(values))
            for stop in range(start + 1, min(start + EVIDENCE_WORDS, len(values)) + 1)
        )
        _, length, start = max(spans)
        return self.contributions[start][0], self.contributions[start - length - 1][0]


def score(words: Sequence[str]) -> TopicScores:
    """The scores of a text given as tokens (`learning.text.tokens`)."""
    book = weights()
    parts = _contributions(words)
    best = list(book.bias)
    for start in range(0, max(1, len(parts) - WINDOW_WORDS // 2), WINDOW_WORDS // 2):
        window = [row for _, row in parts[start : start + WINDOW_WORDS]]
        if window:
            sums = [sum(column) for column in zip(*window, strict=True)]
            totals = [total + bias for total, bias in zip(sums, book.bias, strict=True)]
            best = totals if start == 0 else list(map(max, best, totals))
    return TopicScores(dict(zip(book.topics, best, strict=True)), tuple(parts))
