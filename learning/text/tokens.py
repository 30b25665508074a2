"""Words as the lexicon sees them: folded, with clause marks, in any script.

A message becomes a list of tokens. A token is a folded word (lower case, no accents, no long runs
of one letter, `A G E N T` joined), or "." for the end of a sentence, or "," for that of a clause.
Scripts written without spaces give one token a run; there phrases are sought in `compact` text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from learning.text.own_words import OwnWords

_CYRILLIC = "аАсСеЕоОрРхХуУіІјЈѕЅԁһвВнНкКмМтТӏԛԝп"
_CYRILLIC_LATIN = "aAcCeEoOpPxXyYiIjJsSdhbBhHkKmMtTlqwn"
_GREEK = "αΑΒεΕΗιΙκΚΜνΝοΟρΡτΤυΥχΧΖγω"
_GREEK_LATIN = "aABeEHiIkKMvNoOpPtTuYxXZyw"
_SMALL = "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɑɡıƖ"
_SMALL_LATIN = "abcdefghijklmnoprstuvwyzagil"
TO_LATIN = str.maketrans(_CYRILLIC + _GREEK, _CYRILLIC_LATIN + _GREEK_LATIN)
TO_CYRILLIC = str.maketrans("aAcCeEoOpPxXyYBHkKMT", "аАсСеЕоОрРхХуУВНкКМТ")
_STYLED = re.compile(
    "[" + re.escape(_SMALL) + "\u24b6-\u24e9\U0001f110-\U0001f189\U0001f1e6-\U0001f1ff]"
)
_OTHER = re.compile("[\u0370-\u03ff\u0400-\u052f]")
_LATIN = re.compile("[A-Za-z]")
_WORD = re.compile(r"[^\W\d_]+")
_SMALL_LETTERS = str.maketrans(_SMALL, _SMALL_LATIN)


def plain_letters(text: str) -> str:
    """A text with its look-alike and styled letters as plain ones, character by character."""
    if _STYLED.search(text):
        text = _STYLED.sub(lambda match: _base(match.group()), text)
    if _OTHER.search(text) and _LATIN.search(text):
        text = _WORD.sub(lambda match: _one_script(match.group()), text)
    return text


def _base(letter: str) -> str:
    small = letter.translate(_SMALL_LETTERS)
    name = unicodedata.name(letter, "") if small == letter else ""
    last = name.rsplit(" ", 1)[-1]
    return last.lower() if len(last) == 1 else small


def _one_script(word: str) -> str:
    if not (_OTHER.search(word) and _LATIN.search(word)):
        return word
    latin = word.translate(TO_LATIN)
    if not _OTHER.search(latin):
        return latin
    cyrillic = word.translate(TO_CYRILLIC)
    return word if _LATIN.search(cyrillic) else cyrillic


WORD_CHARS_MAX = 32
"""Longer words are cut: no word of the lexicon is longer, and the cut bounds every search."""

_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0963\u0981-\u0983\u09bc-\u09cd\u09d7"
    "\u09e2\u09e3\u0b82\u0bbe-\u0bcd\u0bd7\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u00ad\u200b-\u200d\u2060"
)
_TOKEN = re.compile(
    r"(?P<word>(?:[^\W\d_](?P<between>[ .*-])[^\W\d_](?:(?P=between)[^\W\d_]){2,}(?![^\W_]))"
    rf"|[^\W_](?:[^\W_]|[{_MARKS}])*(?:['\u2019](?i:t|s|d|m|ll|re|ve)(?![^\W_]))?)"
    r"|(?P<hard>[!?\u2026\u061f\u0964\u3002\uff01\uff1f\n\r]+|(?<!\.)\.++(?=\s|$))"
    r"|(?P<soft>[,;:()\[\]\u2014\u060c\u061b\u3001\uff0c\uff1b\uff1a]+|\s[-\u2013]+\s)"
)
_ASCII_TOKEN = re.compile(
    r"(?P<word>[a-z](?P<between>[ .*-])[a-z](?:(?P=between)[a-z]){2,}(?![a-z0-9])"
    r"|[a-z0-9]+(?:'(?:t|s|d|m|ll|re|ve)(?![a-z0-9]))?)"
    r"|(?P<hard>[!?\n\r]+|(?<!\.)\.++(?=\s|$))|(?P<soft>[,;:()\[\]]+|\s-+\s)"
)
_SPREAD = re.compile(r"(?<!\S)[^\W\d_](?: [^\W\d_]){2,}[ ]{2,}\S")
_SPREAD_TOKEN = re.compile(
    r"(?:(?<=\s\s)|(?<![^\n]))[^\W\d_](?: [^\W\d_])*(?=\s{2,}|\s*$)|" + _TOKEN.pattern
)
"""Letters set apart by one space, words by more."""
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_STRIPPED = re.compile("[\u00ad\u0300-\u036f\u0640\u064b-\u065f\u0670\u200b-\u200d\u2060'\u2019]")
_INNER = re.compile(r"[ .*'\-]")
_LETTERS = str.maketrans("łøđıėىةکی", "lodieيهكي")
_UNSPACED = re.compile("[\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def unspaced(text: str) -> bool:
    """Whether the text holds writing of a script without spaces, or with loose ones (Korean)."""
    return not text.isascii() and _UNSPACED.search(text) is not None


@lru_cache(maxsize=32_768)
def fold(word: str) -> str:
    """One word as the lexicon writes it: `Más` -> `mas`, `don’t` -> `dont`, `humaaan` -> `human`,
    full-width letters as plain ones. Cached by value alone, so it stays a pure function.
    """
    word = word[:WORD_CHARS_MAX].casefold()
    if word.isascii():
        word = _INNER.sub("", word)
    else:
        word = _STRIPPED.sub("", unicodedata.normalize("NFKD", word)).translate(_LETTERS)
        word = unicodedata.normalize("NFC", _INNER.sub("", word))
    return _RUN.sub(r"\1", word)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text. `words[i]` is folded; `written` gives it as it stood."""

    text: str
    words: tuple[str, ...]
    own: OwnWords | None = None

    def written(self, first: int, last: int) -> str:
        """The text from one token to another, as it stands in the original."""
        spans = _spans(self.text)
        start, stop = spans[first][0], spans[last][1]
        return self.own.quote(start, stop) if self.own else self.text[start:stop]

    def starts(self) -> list[int]:
        """The offset in the text at which each token begins."""
        return [start for start, _ in _spans(self.text)]


@lru_cache(maxsize=8)
def _spans(text: str) -> list[tuple[int, int]]:
    """Where each token begins and ends: looked for again, as only evidence needs it."""
    if "  " in text and _SPREAD.search(text):
        matches = _SPREAD_TOKEN.finditer(plain_letters(text))
    elif text.isascii():
        matches = _ASCII_TOKEN.finditer(text.lower())
    else:
        matches = _TOKEN.finditer(plain_letters(text))
    return [match.span() for match in matches]


def _folded(text: str) -> Iterator[str]:
    for word, _, hard, _ in _TOKEN.findall(plain_letters(text)):
        yield fold(word) if word else "." if hard else ","


def _spread(text: str) -> Iterator[str]:
    for match in _SPREAD_TOKEN.finditer(plain_letters(text)):
        letters = match["word"] is None and match["hard"] is None and match["soft"] is None
        word = match.group() if letters else match["word"]
        yield fold(word) if word else "." if match["hard"] else ","


def tokens(text: str, own: OwnWords | None = None) -> Tokens:
    """Fold a text of any length in one pass; linear in its length. With `own`, evidence is quoted
    as it was stored.
    """
    if "  " in text and _SPREAD.search(text):
        words = list(_spread(text))
    elif text.isascii():
        found = _ASCII_TOKEN.findall(text.lower())
        words = [
            (w if "'" not in w and len(w) < 3 else fold(w)) if w else "." if hard else ","
            for w, _, hard, _ in found
        ]
    else:
        words = list(_folded(text))
    return Tokens(text, tuple(words), own)


def compact(words: tuple[str, ...]) -> str:
    """The tokens with nothing between them, for scripts that do not set words apart."""
    return "." + "".join(words) + "."
