"""Strong anger in a text: somebody is furious, insults the bot or the company, or was left waiting
by everybody.

A reading for rules beside `Signals.frustration`, which counts every sign of impatience. The phrases
are data (`upset_words.toml`), in fifteen languages, and no model reads them: a policy that does not
watch for it decides as it did before. Pure, and linear in the text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from learning.text.lexicon.phrase_matcher import lexicon
from learning.text.lexicon.phrase_syntax import PhraseSyntax, union
from learning.text.similarity import parts
from learning.text.tokens import compact, fold, unspaced

BEFORE_CHARS = 96
"""How much text before a match is read for what takes it back."""
_BEFORE_WORDS = 2
"""So many words may stand between that and the match."""
_STEM = 4
_UNSPACED_LANGUAGES = frozenset({"zh", "ja", "ko"})
_MARKS = frozenset({"?", "!", "..."})


@dataclass(frozen=True, slots=True, eq=False)
class _Phrase:
    """One phrase, or all of a language that writes no spaces; compiled when it is first tried."""

    source: str
    before: str
    """What takes it back where it stands before a match."""
    also: tuple[frozenset[str], ...] = ()
    """Of each set a text must hold a word, besides the anchor."""

    def search(self, line: str) -> tuple[int, int] | None:
        """The first match that nothing before it takes back."""
        for match in _compiled(self.source).finditer(line):
            lead = line[max(0, match.start() - BEFORE_CHARS) : match.start()]
            if not _compiled(self.before).search(lead):
                return match.span()
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Book:
    """The phrases of every language, and the words and beginnings of words to find them by."""

    anchors: Mapping[str, Sequence[_Phrase]]
    stems: Mapping[str, Sequence[_Phrase]]
    unspaced: Sequence[_Phrase]


_compiled = cache(re.compile)


@lru_cache(maxsize=512)
def upset_words(words: tuple[str, ...]) -> str | None:
    """The words of a text (`similarity.words`) that show strong anger; None where none do.

    Cached by value alone.
    """
    folded, places = _folded(words)
    phrases = _tried(folded)
    if phrases:
        line = ". " + " ".join(folded) + " . "
        for phrase in phrases:
            if span := phrase.search(line):
                first, last = (line.count(" ", 0, end) for end in span)
                return " ".join(words[places[first - 1] : places[last - 2] + 1])
    joined = compact(tuple(folded))
    if unspaced(joined):
        for phrase in _book().unspaced:
            if span := phrase.search(joined):
                return joined[slice(*span)].strip(".")
    return None


def _folded(words: Sequence[str]) -> tuple[list[str], Sequence[int]]:
    """The words as phrases write them, and where each of them stands."""
    apart = [(place, part) for place, word in enumerate(words) for part in parts(word)]
    return ["." if part in _MARKS else fold(part) for _, part in apart], [at for at, _ in apart]


def _tried(folded: Sequence[str]) -> list[_Phrase]:
    """The phrases whose words all stand in a text, in the order of their anchors."""
    book, here = _book(), frozenset(folded)
    found: dict[_Phrase, None] = {}
    for word in folded:
        for phrases in (book.anchors.get(word), book.stems.get(word[:_STEM])):
            for phrase in phrases or ():
                if not any(map(here.isdisjoint, phrase.also)):
                    found[phrase] = None
    return list(found)


@cache
def _book() -> _Book:
    """Every phrase: read on first use and kept."""
    file = resources.files("learning.text.lexicon") / "upset_words.toml"
    anchors: dict[str, list[_Phrase]] = {}
    stems: dict[str, list[_Phrase]] = {}
    apart: list[_Phrase] = []
    for language, table in tomllib.loads(file.read_text(encoding="utf-8")).items():
        gap_not = table.get("gap_not", "").split()
        spaced = language not in _UNSPACED_LANGUAGES
        syntax = PhraseSyntax(table.get("words", {}), spaced=spaced, gap_not=gap_not)
        before, after = _guards(table, syntax, spaced)
        if not spaced:
            every = union(map(syntax.expression, table["phrases"]))
            apart.append(_Phrase(f"{every}(?!{after})", before))
            continue
        for phrase in table["phrases"]:
            first, *others = syntax.anchors(phrase, lexicon().common[language])
            made = _Phrase(
                f"(?<= ){syntax.expression(phrase)}(?!{after})",
                before,
                tuple(frozenset(o) for o in others if not any("*" in word for word in o)),
            )
            for word, is_stem in _keys(first):
                (stems if is_stem else anchors).setdefault(word, []).append(made)
    return _Book(anchors, stems, apart)


def _guards(table: Mapping[str, Any], syntax: PhraseSyntax, spaced: bool) -> tuple[str, str]:
    """What takes a match back: before it, with few words between, and directly after it."""
    before = union(map(syntax.expression, table.get("not_before", ())))
    after = union(map(syntax.expression, table.get("not_after", ())))
    if spaced:
        before = f"(?<= ){before}(?:{syntax.any}){{0,{_BEFORE_WORDS}}}"
    return f"{before}$", after


def _keys(words: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Anchors, and whether each is the begin of a word."""
    for word in words:
        is_stem = word.endswith("*")
        yield (word[:_STEM].rstrip("*") if is_stem else word), is_stem
