"""Phrases as data: read from `learning/lexicon/<language>.toml`, found in linear time.

Each file holds named lists of words (`[words]`) and, for each signal, the phrases that show it (how
they are written: `notation`) and what takes a match back: `before` (with `fillers` between, unless
`despite` stands there: "why don't you"), `inside`, `after`, and `not_before`, `not_after` (directly
beside it: "travel agent", "human resources").

Cost. A phrase is only tried in a text that holds its *anchor*: the rarest of its obligatory
elements, found by one look-up a word. Repetition is bounded everywhere, and so is the number of
anchors followed up (`ANCHORS_MAX`) and of tries in one text (`TRIES_MAX`, the protected signals
first): no text makes the search slow. A phrase in the middle of a very long text that repeats its
anchor more often than that goes unseen.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate
from typing import Any

from learning.text.lexicon.misspellings import spelling
from learning.text.lexicon.phrase_syntax import PhraseSyntax, union
from learning.text.tokens import Tokens, compact, fold, tokens, unspaced

ANCHORS_MAX = 16
"""Places at which one phrase is tried in one text, half from its begin and half from its end."""
TRIES_MAX = 512
"""Tries of all phrases in one text: some forty times what a text of this length usually takes."""
_FIRST = frozenset({"request", "identity", "security", "safety"})
"""Signals whose phrases are tried first."""
NEAR_TOKENS = 16
"""How far from its anchor a phrase may begin or end."""
WHOLE_TOKENS_MAX = 64
"""Texts up to this length are searched whole."""
BEFORE_CHARS = 96
"""How much text before a match is read for a denial."""
_STEM = 4
_OWN_SCRIPT = frozenset({"ar", "ru"})
_UNSPACED_LANGUAGES = frozenset({"zh", "ja", "ko"})


@dataclass(frozen=True, slots=True)
class PhraseMatch:
    """One phrase found: the signal, and the customer's own words."""

    signal: str
    words: str


@dataclass(frozen=True, slots=True)
class Group:
    """The phrases of one signal in one language share what takes a match back (expressions)."""

    signal: str
    language: str
    before: str
    inside: str
    after: str
    despite: str
    home: bool
    """Whether its words are not to be met in other languages: English, or another script."""

    def stands(self, text: str, start: int, stop: int) -> bool:
        """Whether nothing around or inside a match takes it back."""
        if self.before:
            lead = text[max(0, start - BEFORE_CHARS) : start]
            if _pattern(self.before).search(lead) and not (
                self.despite and _pattern(self.despite).search(lead)
            ):
                return False
        if self.inside and _pattern(self.inside).search(text[start:stop]):
            return False
        return not (self.after and _pattern(self.after).match(text, stop))


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase as an expression, compiled when it is first tried."""

    group: Group
    expression: str
    also: tuple[frozenset[str], ...] = ()
    """Words besides the anchor: of each set the text must hold one."""

    def search(self, text: str, begin: int, end: int) -> tuple[int, int] | None:
        """The first match between two offsets that nothing takes back."""
        for match in _pattern(self.expression).finditer(text, begin, end):
            if self.group.stands(text, match.start(), match.end()):
                return match.span()
        return None


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Every phrase of every language, and where to begin looking."""

    phrases: tuple[Phrase, ...]
    anchors: Mapping[str, tuple[int, ...]]
    stems: Mapping[str, tuple[int, ...]]
    unspaced: tuple[Phrase, ...]
    spelling: Mapping[str, str]
    english: frozenset[str]
    foreign: frozenset[str]
    profanity: frozenset[str]
    steps: frozenset[str]


@cache
def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression)


# -- loading --------------------------------------------------------------------------------------


def languages() -> tuple[str, ...]:
    """The languages the lexicon has phrases for, as two-letter codes."""
    folder = resources.files("learning.text.lexicon") / "languages"
    return tuple(sorted(f.name[:2] for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def lexicon() -> Lexicon:
    """The whole lexicon: read on first use (about a tenth of a second) and kept."""
    tables = {language: _read(language) for language in languages()}
    common = {language: _listed(table, "common") for language, table in tables.items()}
    phrases: list[Phrase] = []
    apart: list[Phrase] = []
    anchors: dict[str, list[int]] = {}
    stems: dict[str, list[int]] = {}
    for language, table in tables.items():
        spaced = language not in _UNSPACED_LANGUAGES
        gap_not = table.get("gap_not", "").split()
        notation = PhraseSyntax(table.get("words", {}), spaced=spaced, gap_not=gap_not)
        for signal, entry in table.get("signals", {}).items():
            group = _group(signal, language, entry, notation)
            made = [notation.expression(phrase) for phrase in entry["phrases"]]
            tail = "(?!" + union(map(notation.expression, entry.get("not_after", ()))) + ")"
            if not spaced:
                apart.append(Phrase(group, union(made) + tail))
                continue
            for phrase, expression in zip(entry["phrases"], made, strict=True):
                first, *others = notation.anchors(phrase, common[language])
                for word in first:
                    place, key = (stems, word[:_STEM]) if word.endswith("*") else (anchors, word)
                    place.setdefault(key.rstrip("*"), []).append(len(phrases))
                also = [frozenset(o) for o in others if not any("*" in w for w in o)]
                phrases.append(Phrase(group, "(?<= )" + expression + tail, tuple(also)))
    return Lexicon(
        phrases=tuple(phrases),
        anchors={word: tuple(numbers) for word, numbers in anchors.items()},
        stems={word: tuple(sorted(set(numbers))) for word, numbers in stems.items()},
        unspaced=tuple(apart),
        spelling=spelling(tables),
        english=common["en"],
        foreign=frozenset().union(*common.values()) - common["en"],
        profanity=frozenset().union(*(_listed(table, "profanity") for table in tables.values())),
        steps=frozenset().union(*(_listed(table, "steps") for table in tables.values())),
    )


def _read(language: str) -> dict[str, Any]:
    file = resources.files("learning.text.lexicon") / "languages" / f"{language}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _listed(table: Mapping[str, Any], key: str) -> frozenset[str]:
    return frozenset(fold(word) for word in table.get(key, "").split())


def _group(signal: str, language: str, table: Mapping[str, Any], notation: PhraseSyntax) -> Group:
    lead = "(?<= )" if notation.space else ""

    def spelt(key: str) -> list[str]:
        return [notation.expression(phrase) for phrase in table.get(key, ())]

    fillers = union(spelt("fillers")) + "{0,5}"
    before = [denial + fillers for denial in spelt("before")] + spelt("not_before")
    after = [fillers + denial for denial in spelt("after")]
    inside, despite = spelt("inside"), spelt("despite")
    return Group(
        signal,
        language,
        before=lead + union(before) + "$" if before else "",
        inside=lead + union(inside) if inside else "",
        after=union(after) if after else "",
        despite=lead + union(despite) if despite else "",
        home=language == "en" or language in _OWN_SCRIPT,
    )


# -- search ---------------------------------------------------------------------------------------


def english(words: Iterable[str]) -> tuple[int, int]:
    """How many different words are everyday English, and how many everyday in another language.

    Words are spelt alike across languages ("direct", "sad", "agent do"): in a text that is plainly
    English, a phrase of another language in Latin letters counts for nothing.
    """
    book, here = lexicon(), frozenset(words)
    return len(here & book.english), len(here & book.foreign)


def find(text: str, found: Tokens | None = None) -> tuple[PhraseMatch, ...]:
    """The signals that a text shows, at most one match for each signal and language.

    Pure; the cost of a text without anchors is a few microseconds.
    """
    book = lexicon()
    found = found or tokens(text)
    right = book.spelling.get
    words = [right(word, word) for word in found.words]
    hits = _hits(words, book)
    result = _spaced(found, words, hits, book) if hits else []
    if unspaced(text):
        joined = compact(found.words)
        for phrase in book.unspaced:
            span = phrase.search(joined, 0, len(joined))
            if span:
                result.append(PhraseMatch(phrase.group.signal, joined[slice(*span)].strip(".,")))
    return tuple(result)


def _hits(words: list[str], book: Lexicon) -> dict[int, list[int]]:
    """Phrase number -> the tokens at which one of its anchors stands."""
    hits: dict[int, list[int]] = {}
    anchors, stems = book.anchors.get, book.stems.get
    for place, word in enumerate(words):
        for numbers in (anchors(word), stems(word[:_STEM])):
            if numbers:
                for number in numbers:
                    hits.setdefault(number, []).append(place)
    return hits


def _windows(places: list[int], count: int) -> list[tuple[int, int]]:
    """Token ranges around the anchors, merged, bounded in number."""
    if count <= WHOLE_TOKENS_MAX:
        return [(0, count)]
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


def _spaced(
    found: Tokens, words: list[str], hits: dict[int, list[int]], book: Lexicon
) -> list[PhraseMatch]:
    line = ". " + " ".join(words) + " . "
    starts = [2, *[at + place for place, at in enumerate(accumulate(map(len, words)), 3)]]
    here = frozenset(words)
    ours, theirs = english(here)
    seen: dict[tuple[str, str], PhraseMatch] = {}
    tries_left = TRIES_MAX
    for number in sorted(hits, key=lambda n: (book.phrases[n].group.signal not in _FIRST, n)):
        phrase = book.phrases[number]
        if any(map(here.isdisjoint, phrase.also)):
            continue
        group = phrase.group
        home, key = group.home, (group.signal, group.language)
        if key in seen or (not home and ours >= 3 and not theirs):
            continue
        for begin, end in _windows(hits[number], len(words)):
            if not tries_left:
                return list(seen.values())
            tries_left -= 1
            last = len(line) if end == len(words) else starts[end]
            span = phrase.search(line, starts[begin] if begin else 0, last)
            if span:
                first, stop = bisect_left(starts, span[0]), bisect_left(starts, span[1]) - 1
                if first < stop or home or ours <= theirs:
                    seen[key] = PhraseMatch(group.signal, found.written(first, stop))
                    break
    return list(seen.values())
