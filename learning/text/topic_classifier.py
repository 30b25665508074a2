"""Text classifier, logistic regression on n-grams of characters and words: danger and requests.

People in danger, and those who want a person, write what no list of phrases foresees, and lists of
nouns fire on idioms, games and shop words. So beside the phrases stands one weight for each n-gram,
learned from text that the project wrote (`experiments.studies.007_danger_classifier` has the text,
the training, the figures).

Weights are small integers, in a file whose digest is checked; sums of integers are the same on
every machine. The n-grams of a word are summed once and remembered by the word, so a text costs two
or three look-ups a word. Pure; linear in the text.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import chain, pairwise, starmap
from typing import Any
from zipfile import BadZipFile

import numpy as np

from learning.text.tokens import unspaced

WINDOW_WORDS = 32
"""A text counts as its most telling stretch of so many words; a longer one adds up to anything."""
EVIDENCE_WORDS = 8
LANES_MAX = 8
_LANE_BITS = 24
_OFFSET = 128
"""Added to each stored weight, so that none is negative."""


@dataclass(frozen=True, slots=True)
class TopicWeights:
    """What was learned: by topic its offset, its threshold, what a phrase is worth, and weights."""

    topics: tuple[str, ...]
    bias: tuple[int, ...]
    phrase_worth: tuple[int, ...]
    size: int
    """How many buckets n-grams are hashed into."""
    rows: bytes
    """By bucket the weights of all topics side by side, `width` bytes each."""
    width: int
    offset: int
    base: int
    """The offsets of all topics in one integer."""

    def row(self, ngram: str) -> int:
        """The weights of an n-gram for all topics, in one integer (see `pack`)."""
        start = zlib.crc32(ngram.encode()) % self.size * self.width
        return int.from_bytes(self.rows[start : start + self.width], "little") - self.offset


def pack(values: Iterable[int]) -> int:
    """One integer of several: adding such integers adds each of them, at the price of one."""
    return sum(value << (_LANE_BITS * lane) for lane, value in enumerate(values))


def unpack(packed: int, count: int) -> list[int]:
    shifted = packed + _HALVES
    return [((shifted >> (_LANE_BITS * lane)) & _MASK) - _HALF for lane in range(count)]


_HALF = 1 << (_LANE_BITS - 1)
_MASK = 2 * _HALF - 1
_HALVES = pack([_HALF] * LANES_MAX)


@cache
def weights() -> TopicWeights:
    """The packaged weights, read once. Raises ValueError where the file is not what was learned."""
    return parse((resources.files("learning.text") / "topic_weights.npz").read_bytes())


def dump(topics: Mapping[str, tuple[int, int]], columns: Sequence[np.ndarray[Any, Any]]) -> bytes:
    """The file of some weights: by topic its offset and what a phrase is worth, and its column."""
    arrays = {
        "topics": np.array(list(topics)),
        "bias": np.array([bias for bias, _ in topics.values()], dtype=np.int32),
        "phrase_worth": np.array([worth for _, worth in topics.values()], dtype=np.int32),
        "weights": np.array(columns, dtype=np.int8),
    }
    written = io.BytesIO()
    np.savez_compressed(written, allow_pickle=False, digest=np.array(_digest(arrays)), **arrays)
    return written.getvalue()


def parse(data: bytes) -> TopicWeights:
    """The weights in a file as `dump` makes it."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        intact = str(arrays.pop("digest")) == _digest(arrays)
    except (ValueError, KeyError, OSError, zlib.error, BadZipFile) as failure:
        raise ValueError(_DAMAGED) from failure
    if not intact:
        raise ValueError(_DAMAGED)
    columns = arrays["weights"]
    count, size = columns.shape
    lane = _LANE_BITS // 8
    rows = np.zeros((size, count * lane), dtype=np.uint8)
    rows[:, ::lane] = (columns.T.astype(np.int16) + _OFFSET).astype(np.uint8)
    return TopicWeights(
        topics=tuple(map(str, arrays["topics"])),
        bias=tuple(map(int, arrays["bias"])),
        phrase_worth=tuple(map(int, arrays["phrase_worth"])),
        size=size,
        rows=rows.tobytes(),
        width=count * lane,
        offset=pack([_OFFSET] * count),
        base=pack(map(int, arrays["bias"])),
    )


_DAMAGED = "topic_weights.npz is damaged: its digest differs; install Baton anew"


def _digest(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(
            name.encode() + str(arrays[name].tolist() if name != "weights" else "").encode()
        )
    digest.update(arrays["weights"].tobytes())
    return digest.hexdigest()


_ONE_SOUND = str.maketrans("cqjwzmз", "kkgvsnс")
_VOWELS = dict.fromkeys(
    map(
        ord,
        "aeiouyh" + "аеиоуыэюяйёьъіїє" + "αεηιουω"
        "\u093e\u093f\u0940\u0941\u0942\u0947\u0948\u094b\u094c"
        "\u09be\u09bf\u09c0\u09c1\u09c2\u09c7\u09c8\u09cb\u09cc"
        "\u0bbe\u0bbf\u0bc0\u0bc1\u0bc2\u0bc6\u0bc7\u0bc8\u0bca\u0bcb\u0bcc",
    )
)
_SKELETON = _VOWELS | _ONE_SOUND
_REPEATED = re.compile(r"(.)\1+")


@lru_cache(maxsize=16384)
def skeleton(word: str) -> str:
    """The consonants of a word, each once in a row, letters of like sound as one: of "persohn" and
    "person", "саедините" and "соедините" the same. Empty for a short one.
    """
    kept = word.translate(_SKELETON)
    once = _REPEATED.sub(r"\1", kept)
    return once if len(once) > 1 else ""


def word_ngrams(word: str) -> Iterator[str]:
    """The word, its n-grams of 3 to 5 characters and its consonants; of 1 to 4 characters in
    scripts without spaces.
    """
    if unspaced(word):
        for size in (1, 2, 3, 4):
            for start in range(len(word) - size + 1):
                yield word[start : start + size]
        return
    yield word
    if consonants := skeleton(word):
        yield f"~{consonants}"
    edged = f"<{word}>"
    for size in (3, 4, 5):
        for start in range(len(edged) - size + 1):
            yield edged[start : start + size]


def pair_ngrams(first: str, second: str) -> Iterator[str]:
    """Two neighbours, as they are written and by their consonants."""
    yield f"{first} {second}"
    before, after = skeleton(first), skeleton(second)
    if before and after:
        yield f"~{before} {after}"


def ngrams(words: Sequence[str]) -> Iterator[str]:
    """Every n-gram of a text: of each word, of neighbours, of words with one between; each word and
    each pair once, however often it is said.
    """
    plain = [word for word in words if word not in ".,"]
    for word in dict.fromkeys(plain):
        yield from word_ngrams(word)
    for first, second in dict.fromkeys(pairwise(plain)):
        yield from pair_ngrams(first, second)
    for first, second in dict.fromkeys(zip(plain, plain[2:], strict=False)):
        yield f"{first} . {second}"


def bucket(ngram: str, size: int) -> int:
    return zlib.crc32(ngram.encode()) % size


@lru_cache(maxsize=16384)
def _of_word(word: str) -> int:
    return sum(map(weights().row, word_ngrams(word)))


@lru_cache(maxsize=65536)
def _of_pair(first: str, second: str) -> int:
    return sum(map(weights().row, pair_ngrams(first, second)))


@lru_cache(maxsize=65536)
def _of_pair_apart(first: str, second: str) -> int:
    return weights().row(f"{first} . {second}")


@dataclass(frozen=True, slots=True)
class TopicScores:
    """The log-odds of each topic in a text, in hundredths: it fires from 0 on."""

    words: Sequence[str]
    """The tokens of the text that are no marks."""
    scores: Mapping[str, int]
    windows: tuple[int, ...]
    """By topic the word with which its most telling stretch begins."""

    def readings(self) -> Iterator[tuple[str, int, int]]:
        """Each topic, its log-odds, and what a phrase of it adds."""
        return zip(self.scores, self.scores.values(), weights().phrase_worth, strict=True)

    def evidence(self, topic: str) -> tuple[int, int]:
        """The first and last word of the few in a row that weighed most."""
        topics = weights().topics
        lane = topics.index(topic)
        begin = self.windows[lane]
        stretch = _parts(self.words)[begin : begin + WINDOW_WORDS]
        values = [unpack(part, lane + 1)[lane] for part in stretch]
        peak = max(range(len(values)), key=values.__getitem__)
        start = max(0, peak - EVIDENCE_WORDS // 2 + 1)
        return begin + start, begin + min(start + EVIDENCE_WORDS, len(values)) - 1


def _parts(words: Sequence[str]) -> list[int]:
    """What each word adds, with the pairs that end in it."""
    beside = chain((0,), map(_of_pair, words, words[1:]))
    apart = chain((0, 0), map(_of_pair_apart, words, words[2:]))
    return list(map(sum, zip(map(_of_word, words), beside, apart, strict=False)))


def _sum(words: Sequence[str]) -> int:
    """The packed log-odds of a stretch: each word and each pair counts once."""
    beside, apart = (
        set(pairwise(words)),
        set(zip(words, words[2:], strict=False)),
    )
    packed = sum(map(_of_word, set(words)), weights().base)
    return sum(starmap(_of_pair_apart, apart), sum(starmap(_of_pair, beside), packed))


def score(words: Sequence[str]) -> TopicScores:
    """The scores of a text given as its words: tokens (`learning.text.tokens`) without marks."""
    topics = weights().topics
    count = len(topics)
    if len(words) <= WINDOW_WORDS:
        points = unpack(_sum(words), count)
        return TopicScores(words, dict(zip(topics, points, strict=True)), (0,) * count)
    best, windows = [-(1 << 30)] * count, [0] * count
    step = WINDOW_WORDS // 2
    for start in range(0, len(words) - step, step):
        packed = _sum(words[start : start + WINDOW_WORDS])
        for lane, points_here in enumerate(unpack(packed, count)):
            if points_here > best[lane]:
                best[lane], windows[lane] = points_here, start
    return TopicScores(words, dict(zip(topics, best, strict=True)), tuple(windows))


def total(words: Sequence[str], book: TopicWeights) -> tuple[int, ...]:
    """The scores of a short text by other weights than the packaged ones (studies compare them)."""
    packed = sum(map(book.row, ngrams(words)), book.base)
    return tuple(unpack(packed, len(book.topics)))
