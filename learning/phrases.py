"""Phrases as data: a small notation, compiled once, searched in time linear in the text.

`learning/lexicon/<language>.toml` holds named lists of words (`[words]`) and, for each signal, the
phrases that show it. A phrase is a row of elements separated by spaces:

    talk            this word
    konsult*        any word that begins so
    to|with         either
    get+through     words that stand together, inside an alternative
    <person>        any entry of the list `person` of `[words]` (entries may hold several words)
    <polite>?3      up to three of them; a bare `?` is `?1`
    ~3              up to three words of any kind within the clause, but no denial (`gap_not`)
    ^  $            the begin, the end of a clause;  ^^  $$  of a sentence

A signal may name what takes a match back: `before` (with `fillers` between, unless `despite` stands
there: "why don't you"), `inside`, `after`, and `not_before`, `not_after` (directly beside it:
"travel agent", "human resources").

Cost. A phrase is only tried near an *anchor*: the rarest of its obligatory elements, found by one
look-up a word. Repetition is bounded everywhere, so is the number of anchors followed up
(`ANCHORS_MAX`, the first and the last ones): no text makes the search slow.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from learning.tokens import Tokens, compact, fold, tokens, unspaced

ANCHORS_MAX = 48
"""Anchors followed up in one text and group, half from its begin and half from its end."""
NEAR_TOKENS = 16
"""How far from its anchor a phrase may begin or end."""
SPACED_WORDS_WHOLE = 64
"""Texts up to this many tokens are searched whole."""
_STEM = 4
_ELEMENT = re.compile(r"(?P<body>[^?~^]+)(?:\?(?P<times>\d?))?$")
_GAP = re.compile(r"~\d$")
_OWN_SCRIPT = frozenset({"ar", "ru"})
_UNSPACED_LANGUAGES = frozenset({"zh", "ja", "ko"})


@dataclass(frozen=True, slots=True)
class Found:
    """One phrase found: the signal, and the customer's own words."""

    signal: str
    words: str


@dataclass(frozen=True, slots=True)
class Group:
    """All phrases of one signal in one language, as one expression."""

    signal: str
    language: str
    phrases: re.Pattern[str]
    before: re.Pattern[str] | None
    inside: re.Pattern[str] | None
    after: re.Pattern[str] | None
    despite: re.Pattern[str] | None

    def search(self, text: str, begin: int, end: int) -> tuple[int, int] | None:
        """The first match between two offsets that nothing takes back."""
        for match in self.phrases.finditer(text, begin, end):
            start, stop = match.span()
            lead = text[max(0, start - 96) : start]
            denied = self.before is not None and self.before.search(lead)
            if denied and not (self.despite and self.despite.search(lead)):
                continue
            if self.inside and self.inside.search(text[start:stop]):
                continue
            if self.after and self.after.match(text, stop - 1):
                continue
            return start, stop
        return None


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Every group of every language, and where to begin looking."""

    groups: tuple[Group, ...]
    anchors: Mapping[str, tuple[int, ...]]
    stems: Mapping[str, tuple[int, ...]]
    spelling: Mapping[str, str]
    unspaced: tuple[Group, ...]
    english: frozenset[str]
    foreign: frozenset[str]
    profanity: frozenset[str]
    steps: frozenset[str]


# -- notation -------------------------------------------------------------------------------------


class _Notation:
    """Compiles the phrases of one language."""

    def __init__(self, words: Mapping[str, list[str]], spaced: bool, gap_not: list[str]) -> None:
        self.words = words
        self.space = " " if spaced else ""
        denial = "|".join(sorted(map(self._word, gap_not))) or "(?!)"
        self.any = f"(?!{denial})" + (r"[^ .,]+ " if spaced else r"[^.,]")

    def _word(self, word: str) -> str:
        if word == "$":
            return "(?=[.,])"
        parts = []
        for part in word.replace("+", " ").split():
            stem = part.endswith("*")
            folded = fold(part.rstrip("*"))
            parts.append(
                re.escape(folded) + ("[^ .,]*" if stem and self.space else "") + self.space
            )
        return "".join(parts)

    def _alternatives(self, body: str) -> list[str]:
        found: list[str] = []
        for item in body.split("|"):
            if item == "$":
                found.append(item)
            elif item.startswith("<"):
                found.extend(self.words[item.strip("<>")])
            else:
                found.append(item)
        return found

    def expression(self, phrase: str) -> str:
        """A phrase as a regular expression over tokens that each end in a space."""
        parts = []
        for element in phrase.split():
            if element in ("^", "^^"):
                marks = "[.,]" if element == "^" else "[.]"
                parts.append(f"(?<={marks}{self.space})")
            elif element in ("$", "$$"):
                parts.append("(?=[.,])" if element == "$" else "(?=[.])")
            elif _GAP.match(element):
                parts.append(f"(?:{self.any}){{0,{element[1:]}}}?")
            else:
                match = _ELEMENT.match(element)
                if match is None:
                    raise ValueError(f"phrase {phrase!r}: cannot read {element!r}")
                entries = sorted({self._word(e) for e in self._alternatives(match["body"])})
                entries.sort(key=len, reverse=True)
                body = "(?:" + "|".join(entries) + ")"
                if match["times"] is not None:
                    body += f"{{0,{match['times'] or 1}}}"
                parts.append(body)
        return "".join(parts)

    def anchor(self, phrase: str, common: frozenset[str]) -> list[str]:
        """The words of the obligatory element that is likely to be rarest."""
        best: tuple[float, list[str]] = (-1.0, [])
        for element in phrase.split():
            if element[0] in "^$~" or "?" in element:
                continue
            words = [self._rare(entry, common) for entry in self._alternatives(element)]
            plain = [w for w in words if w.rstrip("*") in common]
            rarity = 100.0 - len(words) - 100.0 * bool(plain) + min(len(w) for w in words)
            if rarity > best[0] or not best[1]:
                best = (rarity, words)
        if not best[1]:
            raise ValueError(f"phrase {phrase!r} has no obligatory word")
        return best[1]

    @staticmethod
    def _rare(entry: str, common: frozenset[str]) -> str:
        parts = [
            fold(p.rstrip("*")) + ("*" if p.endswith("*") else "")
            for p in entry.replace("+", " ").split()
        ]
        return max(parts, key=lambda p: (p.rstrip("*") not in common, len(p)))


def _union(expressions: Iterable[str], lead: str) -> str:
    return lead + "(?:" + "|".join(expressions) + ")"


def _group(signal: str, language: str, table: Mapping[str, Any], notation: _Notation) -> Group:
    space = notation.space
    lead = "(?<= )" if space else ""
    spell = notation.expression

    def optional(key: str) -> list[str]:
        return [spell(phrase) for phrase in table.get(key, ())]

    tail = optional("not_after")
    phrases = _union((spell(phrase) for phrase in table["phrases"]), lead)
    if tail:
        phrases += "(?!" + "|".join(tail) + ")"
    fillers = "(?:" + "|".join([*optional("fillers"), "(?!)"]) + "){0,5}"
    before = [e + fillers for e in optional("before")] + optional("not_before")
    after = [fillers + e for e in optional("after")]
    return Group(
        signal,
        language,
        re.compile(phrases),
        re.compile(_union(before, lead) + "$") if before else None,
        re.compile(_union(optional("inside"), lead)) if table.get("inside") else None,
        re.compile(_union(after, space)) if after else None,
        re.compile(_union(optional("despite"), lead)) if table.get("despite") else None,
    )


# -- loading --------------------------------------------------------------------------------------


def _misspelt(word: str) -> Iterator[str]:
    """Slips of the finger: two letters swapped, one doubled, and in long words one left out."""
    for i in range(1, len(word) - 1):
        yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    for i in range(len(word)):
        yield word[: i + 1] + word[i:]
    if len(word) >= 7:
        for i in range(1, len(word) - 1):
            yield word[:i] + word[i + 1 :]


def _vocabulary(table: Mapping[str, Any]) -> frozenset[str]:
    """Every word that one language's file holds."""
    rows = [table.get("common", ""), table.get("real_words", "")]
    rows += [entry for entries in table.get("words", {}).values() for entry in entries]
    for signal in table.get("signals", {}).values():
        rows += [phrase for phrases in signal.values() for phrase in phrases]
    return frozenset(fold(word) for word in re.split(r"[ +|?]+", " ".join(rows)))


def _spelling(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Wrong -> right. What is right in another language stays as it is."""
    known = {language: _vocabulary(table) for language, table in tables.items()}
    spelling: dict[str, str] = {}
    for language, table in tables.items():
        elsewhere = frozenset().union(*(known[other] for other in tables if other != language))
        for right, wrong in table.get("spelling", {}).items():
            pairs = {fold(word): fold(right) for word in wrong.split()}
            spelling |= {word: to for word, to in pairs.items() if word not in elsewhere}
        for word in map(fold, table.get("slips", "").split()):
            for slip in _misspelt(word):
                if slip not in known[language] and slip not in elsewhere:
                    spelling.setdefault(slip, word)
    return spelling


def _read(language: str) -> dict[str, Any]:
    file = resources.files("learning") / "lexicon" / f"{language}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def languages() -> tuple[str, ...]:
    """The languages the lexicon has phrases for, as two-letter codes."""
    folder = resources.files("learning") / "lexicon"
    return tuple(sorted(f.name[:2] for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def lexicon() -> Lexicon:
    """The whole lexicon, compiled on first use and kept (about a third of a second)."""
    groups: list[Group] = []
    apart: list[Group] = []
    anchors: dict[str, list[int]] = {}
    stems: dict[str, list[int]] = {}
    common: dict[str, frozenset[str]] = {}
    profanity: list[str] = []
    steps: list[str] = []
    tables = {language: _read(language) for language in languages()}
    for language, table in tables.items():
        common[language] = frozenset(fold(w) for w in table.get("common", "").split())
    everyday = frozenset().union(*common.values())
    for language, table in tables.items():
        spaced = language not in _UNSPACED_LANGUAGES
        notation = _Notation(table.get("words", {}), spaced, table.get("gap_not", "").split())
        profanity += [fold(word) for word in table.get("profanity", "").split()]
        steps += [fold(word) for word in table.get("steps", "").split()]
        for signal, entry in table.get("signals", {}).items():
            group = _group(signal, language, entry, notation)
            if not notation.space:
                apart.append(group)
                continue
            for phrase in entry["phrases"]:
                for word in notation.anchor(phrase, common[language]):
                    place, key = (stems, word[:_STEM]) if word.endswith("*") else (anchors, word)
                    numbers = place.setdefault(key.rstrip("*"), [])
                    if len(groups) not in numbers:
                        numbers.append(len(groups))
            groups.append(group)
    return Lexicon(
        tuple(groups),
        {word: tuple(numbers) for word, numbers in anchors.items()},
        {word: tuple(numbers) for word, numbers in stems.items()},
        _spelling(tables),
        tuple(apart),
        common["en"],
        everyday - common["en"],
        frozenset(profanity),
        frozenset(steps),
    )


def english(words: Iterable[str], book: Lexicon) -> tuple[int, int]:
    """How many different words are everyday English, and how many everyday in another language.

    Words are spelt alike across languages ("direct", "sad", "agent do"): in a text that is plainly
    English, a phrase of another language in Latin letters counts for nothing.
    """
    here = frozenset(words)
    return len(here & book.english), len(here & book.foreign)


# -- search ---------------------------------------------------------------------------------------


def _unspelt(found: Tokens, spelling: Mapping[str, str]) -> list[str]:
    return [spelling.get(word, word) for word in found.words]


def _hits(words: list[str], book: Lexicon) -> dict[int, list[int]]:
    """Group number -> the tokens at which one of its anchors stands."""
    hits: dict[int, list[int]] = {}
    anchors, stems = book.anchors, book.stems
    for place, word in enumerate(words):
        for number in anchors.get(word, ()):
            hits.setdefault(number, []).append(place)
        for number in stems.get(word[:_STEM], ()):
            hits.setdefault(number, []).append(place)
    return hits


def _windows(places: list[int], count: int) -> list[tuple[int, int]]:
    """Token ranges around the anchors, merged, bounded in number."""
    if len(places) > ANCHORS_MAX:
        places = places[: ANCHORS_MAX // 2] + places[-ANCHORS_MAX // 2 :]
    windows: list[tuple[int, int]] = []
    for place in places:
        begin, end = max(0, place - NEAR_TOKENS), min(count, place + NEAR_TOKENS + 1)
        if windows and begin <= windows[-1][1]:
            windows[-1] = (windows[-1][0], end)
        else:
            windows.append((begin, end))
    return windows


def find(text: str, found: Tokens | None = None) -> tuple[Found, ...]:
    """The signals that a text shows, at most one match for each signal and language.

    Pure; the cost of a text without anchors is a few microseconds.
    """
    book = lexicon()
    found = found or tokens(text)
    words = _unspelt(found, book.spelling)
    result: list[Found] = []
    hits = _hits(words, book)
    if hits:
        result = _spaced(found, words, hits, book)
    if unspaced(text):
        joined = compact(found.words)
        for group in book.unspaced:
            span = group.search(joined, 0, len(joined))
            if span:
                result.append(Found(group.signal, joined[slice(*span)].strip(".,")))
    return tuple(result)


def _spaced(
    found: Tokens, words: list[str], hits: dict[int, list[int]], book: Lexicon
) -> list[Found]:
    line = ". " + " ".join(words) + " . "
    starts = [2]
    for word in words:
        starts.append(starts[-1] + len(word) + 1)
    place_of = {start: place for place, start in enumerate(starts)}
    spans: list[tuple[int, int]] = []
    result = []
    ours, theirs = english(words, book)
    for number in sorted(hits):
        group = book.groups[number]
        home = group.language == "en" or group.language in _OWN_SCRIPT
        if not home and ours >= 3 and not theirs:
            continue
        if len(words) <= SPACED_WORDS_WHOLE:
            windows = [(0, len(words))]
        else:
            windows = _windows(hits[number], len(words))
        for begin, end in windows:
            last = len(line) if end == len(words) else starts[end]
            span = group.search(line, starts[begin] if begin else 0, last)
            if span:
                first, stop = place_of[span[0]], place_of[span[1]] - 1
                if first == stop and not home and ours > theirs:
                    break
                spans = spans or found.spans()
                result.append(Found(group.signal, found.text[spans[first][0] : spans[stop][1]]))
                break
    return result
