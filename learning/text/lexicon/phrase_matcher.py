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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate
from typing import Any, NamedTuple

from learning.text.lexicon.misspellings import spelling, vocabulary
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
FULL = frozenset(
    ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "tr", "zh"]
)
"""The languages in which every signal is recognised; in the others, requests for a person."""
_OWN_SCRIPT = frozenset({"ar", "ru"})
_UNSPACED_LANGUAGES = frozenset({"zh", "ja", "ko", "th"})
_SAME_LANGUAGE = {"nb": "no", "nn": "no", "fil": "tl", "iw": "he", "in": "id", "ji": "yi"}
_NOT_IN_QUOTES = frozenset({"request", "exasperation"})
"""Signals that are nobody's own words where the whole match stands in quotation marks."""
_QUOTE_MARKS = '"\u201c\u201e\u201d\u00ab\u300c\u300e\u2018'
_QUOTED = re.compile(
    '["\u201c\u201e\u201d]([^"\u201c\u201d\u201e]{3,200})["\u201d\u201c]|\u00ab([^\u00ab\u00bb]{3,200})\u00bb'
    "|\u300c([^\u300c\u300d]{1,200})\u300d|\u300e([^\u300e\u300f]{1,200})\u300f"
    "|\u2018([^\u2018\u2019]{3,200})\u2019|(?<![^\\s(])'([^']{3,200})'(?!\\w)"
)


@dataclass(frozen=True, slots=True)
class PhraseMatch:
    """One phrase found: the signal, and the customer's own words."""

    signal: str
    words: str


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The phrases of one signal in one language share what takes a match back: `guards`."""

    signal: str
    language: str
    table: Mapping[str, Any]
    """Its entry in the language's file."""
    syntax: PhraseSyntax
    home: bool
    """Whether its words are not to be met in other languages: English, or another script."""
    bit: int = 0
    """Its language's bit in a mask."""

    def stands(self, text: str, start: int, stop: int) -> bool:
        """Whether nothing around or inside a match takes it back."""
        guards = _guards(self)
        if guards.before:
            lead = text[max(0, start - BEFORE_CHARS) : start]
            if guards.before.search(lead) and not (guards.despite and guards.despite.search(lead)):
                return False
        if guards.inside and guards.inside.search(text[start:stop]):
            return False
        return not (guards.after and guards.after.match(text, stop))

    def spelt(self, key: str) -> list[str]:
        """The expressions of the phrases that its entry lists under a name."""
        return [self.syntax.expression(phrase) for phrase in self.table.get(key, ())]


class Guards(NamedTuple):
    """What takes a match of a group back, as expressions."""

    before: re.Pattern[str] | None
    inside: re.Pattern[str] | None
    after: re.Pattern[str] | None
    despite: re.Pattern[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class Phrase:
    """One phrase (or several that are sought at once), compiled when it is first tried."""

    group: Group
    sources: tuple[str, ...]
    also: tuple[frozenset[str], ...] = ()
    """Words besides the anchor: of each set the text must hold one."""

    def search(
        self, text: str, begin: int, end: int, quoted: Sequence[tuple[int, int]] = ()
    ) -> tuple[int, int] | None:
        """The first match between two offsets that nothing takes back, outside what is `quoted`."""
        for match in _expression(self).finditer(text, begin, end):
            start, stop = match.span()
            if any(first <= start and stop <= last for first, last in quoted):
                continue
            if self.group.stands(text, start, stop):
                return start, stop
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
    english_words: frozenset[str]
    """Every word of the English file, everyday or not."""
    foreign: frozenset[str]
    common: Mapping[str, frozenset[str]]
    own: Mapping[str, int]
    """Word -> mask of the languages, other than English, that it is known in; no English word."""
    own_stems: Mapping[str, int]
    bits: Mapping[str, int]
    profanity: frozenset[str]
    steps: frozenset[str]


@cache
def _expression(phrase: Phrase) -> re.Pattern[str]:
    group = phrase.group
    lead = "(?<= )" if group.syntax.space else ""
    made = map(group.syntax.expression, phrase.sources)
    return re.compile(lead + union(made) + "(?!" + union(group.spelt("not_after")) + ")")


@cache
def _guards(group: Group) -> Guards:
    lead = "(?<= )" if group.syntax.space else ""
    fillers = union(group.spelt("fillers")) + "{0,5}"
    before = [denial + fillers for denial in group.spelt("before")] + group.spelt("not_before")
    after = [fillers + denial for denial in group.spelt("after")]
    inside, despite = group.spelt("inside"), group.spelt("despite")
    return Guards(
        before=re.compile(lead + union(before) + "$") if before else None,
        inside=re.compile(lead + union(inside)) if inside else None,
        after=re.compile(union(after)) if after else None,
        despite=re.compile(lead + union(despite)) if despite else None,
    )


# -- loading --------------------------------------------------------------------------------------


@cache
def languages() -> tuple[str, ...]:
    """The languages the lexicon has phrases for, as two-letter codes."""
    folder = resources.files("learning.text.lexicon") / "languages"
    return tuple(sorted(f.name[:2] for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def base_language(tag: str | None) -> str:
    """The two-letter code that a language tag ("pt-BR", "zh_Hant", "fil") stands for."""
    code = re.split("[-_]", (tag or "").strip().lower(), maxsplit=1)[0]
    return _SAME_LANGUAGE.get(code, code)


@cache
def covered(tag: str | None, signal: str = "request") -> bool:
    """Whether a signal is recognised in a language, given by its tag."""
    return any(
        phrase.group.language == base_language(tag) and phrase.group.signal == signal
        for phrase in (*lexicon().phrases, *lexicon().unspaced)
    )


@cache
def lexicon() -> Lexicon:
    """The whole lexicon: read on first use (about a tenth of a second) and kept."""
    tables = {language: _read(language) for language in languages()}
    common = {language: _listed(table, "common") for language, table in tables.items()}
    bits = {language: 1 << place for place, language in enumerate(tables)}
    phrases: list[Phrase] = []
    apart: list[Phrase] = []
    anchors: dict[str, list[int]] = {}
    stems: dict[str, list[int]] = {}
    for language, table in tables.items():
        spaced = language not in _UNSPACED_LANGUAGES
        gap_not = table.get("gap_not", "").split()
        notation = PhraseSyntax(table.get("words", {}), spaced=spaced, gap_not=gap_not)
        for signal, entry in table.get("signals", {}).items():
            home = language == "en" or language in _OWN_SCRIPT
            group = Group(signal, language, entry, notation, home, bits[language])
            if not spaced:
                apart.append(Phrase(group, tuple(entry["phrases"])))
                continue
            for phrase in entry["phrases"]:
                first, *others = notation.anchors(phrase, common[language])
                for word in first:
                    place, key = (stems, word[:_STEM]) if word.endswith("*") else (anchors, word)
                    place.setdefault(key.rstrip("*"), []).append(len(phrases))
                also = [frozenset(o) for o in others if not any("*" in w for w in o)]
                phrases.append(Phrase(group, (phrase,), tuple(also)))
    own, own_stems = _own_words(tables, bits)
    return Lexicon(
        phrases=tuple(phrases),
        anchors={word: tuple(numbers) for word, numbers in anchors.items()},
        stems={word: tuple(sorted(set(numbers))) for word, numbers in stems.items()},
        unspaced=tuple(apart),
        spelling=spelling(tables),
        english=common["en"],
        english_words=vocabulary(tables["en"]),
        common=common,
        own=own,
        own_stems=own_stems,
        bits=bits,
        foreign=frozenset().union(*(common[code] for code in FULL if code in common))
        - common["en"],
        profanity=frozenset().union(*(_listed(table, "profanity") for table in tables.values())),
        steps=frozenset().union(*(_listed(table, "steps") for table in tables.values())),
    )


def _read(language: str) -> dict[str, Any]:
    file = resources.files("learning.text.lexicon") / "languages" / f"{language}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _listed(table: Mapping[str, Any], key: str) -> frozenset[str]:
    return frozenset(fold(word) for word in table.get(key, "").split())


def _own_words(
    tables: Mapping[str, Mapping[str, Any]], bits: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Words, and beginnings of words, that tell a language from English."""
    english = vocabulary(tables["en"]) | _listed(tables["en"], "lookalikes")
    own: dict[str, int] = {}
    stems: dict[str, int] = {}
    for language, table in tables.items():
        if language == "en":
            continue
        for word in vocabulary(table) - english:
            if word.endswith("*"):
                key = word[:_STEM].rstrip("*")
                stems[key] = stems.get(key, 0) | bits[language]
            else:
                own[word] = own.get(word, 0) | bits[language]
    return own, stems


# -- search ---------------------------------------------------------------------------------------


def english(words: Iterable[str]) -> tuple[int, int]:
    """How many different words are everyday English, and how many everyday in another language.

    Words are spelt alike across languages ("direct", "sad", "agent do"): in a text that is plainly
    English, a phrase of another language in Latin letters counts for nothing.
    """
    book, here = lexicon(), frozenset(words)
    return len(here & book.english), len(here & book.foreign)


def find(
    text: str, found: Tokens | None = None, language: str | None = None
) -> tuple[PhraseMatch, ...]:
    """The signals that a text shows, at most one match for each signal and language.

    Phrases are sought in every language, as customers mix them; those of the declared `language`
    are believed where words are spelt alike. Pure; the cost of a text without anchors is a few
    microseconds.
    """
    book = lexicon()
    found = found or tokens(text)
    right = book.spelling.get
    words = [right(word, word) for word in found.words]
    hits = _hits(words, book)
    quotes = _quoted_tokens(text, found)
    result = _spaced(found, words, hits, book, base_language(language), quotes) if hits else []
    if unspaced(text):
        joined = compact(found.words)
        starts = [1, *[1 + at for at in accumulate(map(len, found.words))]]
        quoted = [(starts[first], starts[last + 1]) for first, last in quotes]
        for phrase in book.unspaced:
            kept_out = quoted if phrase.group.signal in _NOT_IN_QUOTES else ()
            span = phrase.search(joined, 0, len(joined), kept_out)
            if span:
                result.append(PhraseMatch(phrase.group.signal, joined[slice(*span)].strip(".,")))
    return tuple(result)


def _quoted_tokens(text: str, found: Tokens) -> list[tuple[int, int]]:
    """The first and last token of each part in quotation marks, where words stand around them."""
    if " '" not in text and not any(mark in text for mark in _QUOTE_MARKS):
        return []
    spans = [match.span() for match in _QUOTED.finditer(text)]
    if not spans:
        return []
    places = found.starts()
    ranges = []
    for start, end in spans:
        first, last = bisect_left(places, start), bisect_left(places, end) - 1
        outside = len(found.words) - (last - first + 1)
        if first <= last and outside >= (1 if unspaced(text) else 2):
            ranges.append((first, last))
    return ranges


def _hits(words: list[str], book: Lexicon) -> dict[int, list[int]]:
    """Phrase number -> the tokens at which one of its anchors stands, the outermost of each."""
    places: dict[str, list[int]] = {}
    anchors, stems = book.anchors, book.stems
    for place, word in enumerate(words):
        if word in anchors or word[:_STEM] in stems:
            places.setdefault(word, []).append(place)
    hits: dict[int, list[int]] = {}
    for word, at in places.items():
        few = len(at) <= ANCHORS_MAX
        tried = at if few else at[: ANCHORS_MAX // 2] + at[-ANCHORS_MAX // 2 :]
        for numbers in (anchors.get(word), stems.get(word[:_STEM])):
            for number in numbers or ():
                hits[number] = [*hits[number], *tried] if number in hits else tried
    return hits


def _windows(places: list[int], count: int) -> list[tuple[int, int]]:
    """Token ranges around the anchors, merged, bounded in number."""
    if count <= WHOLE_TOKENS_MAX:
        return [(0, count)]
    places = sorted(places)
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


def _mask(words: Iterable[str], book: Lexicon) -> int:
    """The languages other than English that at least one of the words is known in."""
    mask = 0
    own, stems = book.own.get, book.own_stems.get
    for word in words:
        mask |= own(word, 0)
        if len(word) > _STEM and word not in book.english_words:
            mask |= stems(word[:_STEM], 0)
    return mask


def _speaks(here: frozenset[str], language: str, declared: str, book: Lexicon) -> bool:
    """Whether one word of a language may be believed in a text: the rest is in that language, or
    at least no more in English, or in the language that was declared.
    """
    if language == declared:
        return True

    def score(code: str) -> int:
        known = here & book.common[code]
        bit = 0 if code == "en" else book.bits[code]
        return len(known) + sum(bool(book.own.get(word, 0) & bit) for word in here - known)

    if declared in book.common:
        return score(language) > score(declared)
    return score(language) >= score("en")


def _spaced(
    found: Tokens,
    words: list[str],
    hits: dict[int, list[int]],
    book: Lexicon,
    declared: str,
    quotes: Sequence[tuple[int, int]],
) -> list[PhraseMatch]:
    line = ". " + " ".join(words) + " . "
    starts = [2, *[at + place for place, at in enumerate(accumulate(map(len, words)), 3)]]
    quoted = [(starts[first], starts[last + 1]) for first, last in quotes]
    here = frozenset(words)
    ours, theirs = english(here)
    mask = _mask(here, book)
    if ours >= 3 and not theirs:  # plainly English: words of other Latin languages are look-alikes
        mask &= sum(book.bits[code] for code in _OWN_SCRIPT)
    mask |= book.bits["en"] | book.bits.get(declared, 0)
    phrases = book.phrases
    numbers = [number for number in hits if phrases[number].group.bit & mask]
    numbers.sort(key=lambda number: (phrases[number].group.signal not in _FIRST, number))
    seen: dict[tuple[str, str], PhraseMatch] = {}
    tries_left = TRIES_MAX
    for number in numbers:
        phrase = phrases[number]
        group = phrase.group
        language, key = group.language, (group.signal, group.language)
        if key in seen or any(map(here.isdisjoint, phrase.also)):
            continue
        kept_out = quoted if group.signal in _NOT_IN_QUOTES else ()
        for begin, end in _windows(hits[number], len(words)):
            if not tries_left:
                return list(seen.values())
            tries_left -= 1
            last = len(line) if end == len(words) else starts[end]
            span = phrase.search(line, starts[begin] if begin else 0, last, kept_out)
            if span:
                first, stop = bisect_left(starts, span[0]), bisect_left(starts, span[1]) - 1
                if first < stop or group.home or _speaks(here, language, declared, book):
                    seen[key] = PhraseMatch(group.signal, found.written(first, stop))
                    break
    return list(seen.values())
