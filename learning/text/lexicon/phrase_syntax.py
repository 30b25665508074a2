"""The notation in which phrases are written as data, and its translation to regular expressions.

A phrase is a row of elements separated by spaces:

    talk            this word
    konsult*        any word that begins so
    to|with         either
    get+through     words that stand together, inside an alternative
    <person>        any entry of the list `person` of `[words]` (entries may hold several words)
    <polite>?3      up to three of them; a bare `?` is `?1`; commas may stand around these
    ~3              up to three words of any kind within the clause, but no denial (`gap_not`)
    , .             the end of a clause, of a sentence
    ^  $            where a clause begins or ends;  ^^  $$  a sentence

In scripts that do not set words apart (`spaced=False`) elements follow each other directly and `~3`
is up to three characters. Every repetition is bounded, so every search takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from learning.text.tokens import fold

RARE = 0.004
"""How often a word outside the everyday list is met, to one everyday word (a rough guess)."""

_ELEMENT = re.compile(r"(?P<body>[^?~^]+)(?:\?(?P<times>\d?))?$")
_GAP = re.compile(r"~\d$")
_POLITE = frozenset({"<polite>", "<urge>"})
"""Around words of these lists a clause mark says nothing: "agent, please" is "agent please"."""
_EDGES = {"^": "(?<=[.,]{})", "^^": "(?<=[.]{})", "$": "(?=[.,])", "$$": "(?=[.])"}


def union(expressions: Iterable[str]) -> str:
    """Any of some expressions; of none, one that never matches."""
    return "(?:" + ("|".join(expressions) or "(?!)") + ")"


class PhraseSyntax:
    """Translates the phrases of one language.

    The text searched is a row of folded words and marks, each followed by a space (see `phrases`).
    Raises ValueError for a phrase that it cannot read, KeyError for a list that is not there.
    """

    def __init__(
        self, words: Mapping[str, Sequence[str]], *, spaced: bool, gap_not: Sequence[str]
    ) -> None:
        self.words = words
        self.space = " " if spaced else ""
        denial = union(sorted(map(self._word, gap_not)))
        self._elements: dict[str, str] = {}
        self._ranked: dict[str, tuple[float, list[str]] | None] = {}
        self.any = f"(?!{denial})" + (r"[^ .,]+ " if spaced else r"[^.,]")

    def expression(self, phrase: str) -> str:
        """A phrase as a regular expression."""
        return "".join(map(self._known_element, phrase.split()))

    def anchors(self, phrase: str, common: frozenset[str]) -> list[list[str]]:
        """The words of each obligatory element, likely rarest element first; stems keep a star."""
        ranked = []
        for element in phrase.split():
            if element[0] in "^$~" or "?" in element:
                continue
            if element not in self._ranked:
                self._ranked[element] = self._rank(element, common)
            if rank := self._ranked[element]:
                ranked.append(rank)
        if not ranked:
            raise ValueError(f"phrase {phrase!r} has no obligatory word")
        return [words for _, words in sorted(ranked, key=lambda pair: pair[0])]

    def _rank(self, element: str, common: frozenset[str]) -> tuple[float, list[str]] | None:
        entries = self._alternatives(element)
        if "$" in entries:
            return None
        words = sorted({_rarest(entry, common) for entry in entries})
        return sum(1.0 if word in common or word in ".," else RARE for word in words), words

    def _known_element(self, element: str) -> str:
        if element not in self._elements:
            self._elements[element] = self._element(element)
        return self._elements[element]

    def _element(self, element: str) -> str:
        if element in _EDGES:
            return _EDGES[element].format(self.space)
        if _GAP.match(element):
            return f"(?:{self.any}){{0,{element[1:]}}}?"
        match = _ELEMENT.match(element)
        if match is None:
            raise ValueError(f"cannot read the element {element!r}")
        entries = sorted({self._word(entry) for entry in self._alternatives(match["body"])})
        entries.sort(key=len, reverse=True)
        times = match["times"]
        if times is None:
            return union(entries)
        if match["body"] in _POLITE:
            comma = f"(?:,{self.space})?"
            return f"(?:{comma}{union(entries)}{comma}){{0,{times or 1}}}"
        return union(entries) + f"{{0,{times or 1}}}"

    def _alternatives(self, body: str) -> list[str]:
        found: list[str] = []
        for item in body.split("|"):
            found += self.words[item[1:-1]] if item.startswith("<") else [item]
        return found

    def _word(self, entry: str) -> str:
        if entry == "$":
            return _EDGES["$"]
        parts = []
        for word in entry.replace("+", " ").split():
            ending = "[^ .,]*" if word.endswith("*") and self.space else ""
            folded = word if word in ".," else fold(word.rstrip("*"))
            parts.append(re.escape(folded) + ending + self.space)
        return "".join(parts)


def _rarest(entry: str, common: frozenset[str]) -> str:
    """The word of an entry by which to look for it; a stem keeps its star."""
    words = [
        word if word in ".," else fold(word.rstrip("*")) + "*" * word.endswith("*")
        for word in entry.replace("+", " ").split()
    ]
    return max(words, key=lambda word: (word not in common, len(word)))
