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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import accumulate, chain

from learning.text.tokens import unspaced

WINDOW_WORDS = 32
"""A text counts as its most telling stretch of so many words; a longer one adds up to anything."""
EVIDENCE_WORDS = 8
_LANE_BITS = 24


@dataclass(frozen=True, slots=True)
class TopicWeights:
    """What was learned: by topic its offset, its threshold, what a phrase is worth, and weights."""

    topics: tuple[str, ...]
    bias: tuple[int, ...]
    phrase_worth: tuple[int, ...]
    rows: tuple[int, ...]
    """By hash of an n-gram, its weights for all topics side by side in one integer."""


def pack(values: Iterable[int]) -> int:
    """One integer of several: adding such integers adds each of them, at the price of one."""
    return sum(value << (_LANE_BITS * lane) for lane, value in enumerate(values))


def unpack(packed: int, count: int) -> list[int]:
    half = 1 << (_LANE_BITS - 1)
    values = []
    for _ in range(count):
        low = ((packed + half) & (2 * half - 1)) - half
        values.append(low)
        packed = (packed - low) >> _LANE_BITS
    return values


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
        rows=tuple(map(pack, zip(*columns, strict=True))),
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
def _of_word(word: str) -> int:
    rows = weights().rows
    return sum(rows[bucket(ngram, len(rows))] for ngram in word_ngrams(word))


@lru_cache(maxsize=32768)
def _of_pair(first: str, second: str) -> int:
    rows = weights().rows
    return rows[bucket(f"{first} {second}", len(rows))]


@lru_cache(maxsize=32768)
def _of_pair_apart(first: str, second: str) -> int:
    rows = weights().rows
    return rows[bucket(f"{first} . {second}", len(rows))]


@dataclass(frozen=True, slots=True)
class TopicScores:
    """The log-odds of each topic in a text, in hundredths, and what each word added."""

    scores: Mapping[str, int]
    windows: tuple[int, ...]
    """By topic the word with which its most telling stretch begins."""
    places: tuple[int, ...]
    parts: tuple[int, ...]

    def readings(self) -> Iterator[tuple[str, int, int]]:
        """Each topic, its log-odds (fires from 0 on), and what a phrase of it adds."""
        return zip(self.scores, self.scores.values(), weights().phrase_worth, strict=True)

    def evidence(self, topic: str) -> tuple[int, int]:
        """The first and last token of the few words in a row that weighed most."""
        topics = weights().topics
        lane = topics.index(topic)
        begin = self.windows[lane]
        stretch = self.parts[begin : begin + WINDOW_WORDS]
        values = [unpack(part, len(topics))[lane] for part in stretch]
        peak = max(range(len(values)), key=values.__getitem__)
        start = max(0, peak - EVIDENCE_WORDS // 2 + 1)
        length = -min(EVIDENCE_WORDS, len(values) - start)
        first = begin + start
        return self.places[first], self.places[first - length - 1]


def score(words: Sequence[str]) -> TopicScores:
    """The scores of a text given as tokens (`learning.text.tokens`)."""
    book = weights()
    places = [place for place, word in enumerate(words) if word not in ".,"]
    plain = [words[place] for place in places]
    alone = map(_of_word, plain)
    beside = chain((0,), map(_of_pair, plain, plain[1:]))
    apart = chain((0, 0), map(_of_pair_apart, plain, plain[2:]))
    parts = list(map(sum, zip(alone, beside, apart, strict=False)))
    best, windows = list(book.bias), [0] * len(book.topics)
    sums = [0, *accumulate(parts)]
    step = WINDOW_WORDS // 2
    for start in range(0, max(1, len(parts) - step), step):
        packed = sums[min(start + WINDOW_WORDS, len(parts))] - sums[start]
        for lane, points in enumerate(unpack(packed, len(book.topics))):
            if start == 0 or points + book.bias[lane] > best[lane]:
                best[lane], windows[lane] = points + book.bias[lane], start
    scores = dict(zip(book.topics, best, strict=True))
    return TopicScores(scores, tuple(windows), tuple(places), tuple(parts))


def total(words: Sequence[str], book: TopicWeights) -> tuple[int, ...]:
    """The scores of a short text by other weights than the packaged ones (studies compare them)."""
    packed = sum(book.rows[bucket(ngram, len(book.rows))] for ngram in ngrams(words))
    summed = unpack(packed, len(book.topics))
    return tuple(points + bias for points, bias in zip(summed, book.bias, strict=True))
