"""Words of a message, in any script, and how alike two messages are.

A word is a run of letters, marks and digits; scripts that write no spaces (Chinese, Japanese,
Thai, Lao, Burmese, Khmer) give their single characters, so that pairs of neighbouring words are
pairs of characters. Plain numbers keep only their length, since a new one is met every time.
Question and exclamation marks and an ellipsis are words too. No word holds "_" or "=".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from sys import intern

WORDS_MAX = 256
"""Of a longer message the first and the last half as many are kept."""

PART_CHARS = 2048
"""Of a longer text than two of these the first and the last are read: one character can unfold to
eighteen.
"""

LENGTH_MAX = 32
"""A longer run of letters is cut into pieces of this length."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U0001f000-\U0003ffff"
)
_APART = "\\s\x00-\x1f!-/:-@\\[-`{-\u00bf\u00d7\u00f7\u2000-\u206f\u3000-\u303f\uff00-\uffef"
_PLAIN = re.compile(rf"[a-z0-9]{{1,{LENGTH_MAX}}}(?:'[a-z]{{1,3}}\b)?|[?!]|\.\.\.")
_WIDE = re.compile(
    rf"[{_UNSPACED}]|[^{_APART}{_UNSPACED}]{{1,{LENGTH_MAX}}}(?:'[a-z]{{1,3}}\b)?|[?!]|\.\.\."
)
_OTHER_MARKS = "\u060c\u061b\u061f\u06d4\u0964"
_ENDINGS = frozenset({"t", "s", "d", "m", "ll", "re", "ve"})
_SHAPES = ("", "0", "00", "000", "0000")


def words(text: str) -> tuple[str, ...]:
    """The words of a text in order, at most WORDS_MAX of them. Pure; linear in its length.

    Equal words are one string, for thousands of conversations are remembered.
    """
    if len(text) > 2 * PART_CHARS:
        text = text[:PART_CHARS] + "\n" + text[-PART_CHARS:]
    if text.isascii():
        found = _PLAIN.findall(text.lower())
    else:
        folded = unicodedata.normalize("NFKC", text.replace("\u2019", "'")).lower()
        found = _WIDE.findall(folded)
    if len(found) > WORDS_MAX:
        found = found[: WORDS_MAX // 2] + found[-WORDS_MAX // 2 :]
    return tuple([_SHAPES[min(len(w), 4)] if w.isdigit() else intern(w) for w in found])


def parts(word: str) -> tuple[str, ...]:
    """The words on both sides of an apostrophe ("c'est", "l'ai"; "don't" is one), without the
    marks of other scripts that stand at its ends.
    """
    word = word.strip(_OTHER_MARKS)
    head, mark, tail = word.rpartition("'")
    return (head, tail) if mark and head and tail not in _ENDINGS else (word,)


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """How alike two messages are, from 0 to 1: shared over all letters of their distinct words.

    Counting letters instead of words lets long words, which carry the matter, outweigh "the" and
    "to" in any language without a list of them.
    """
    return likeness(one & other, letters(one), letters(other))


def letters(words: Iterable[str]) -> int:
    """How many letters some words have."""
    return sum(map(len, words))


def likeness(shared: frozenset[str], one: int, other: int) -> float:
    """The same of the words that two messages share, and the letters of each message's words."""
    if not shared:
        return 0.0
    common = letters(shared)
    return common / (one + other - common)
