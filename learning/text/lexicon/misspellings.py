"""Wrong spellings of the words that matter most, made from the lexicon's own lists.

Each language's file names words whose letters slip (`slips`) and lists further misspellings
(`[spelling]`). A word that is right in any language's file is never taken for a slip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from learning.text.tokens import fold


def slips(word: str) -> Iterator[str]:
    """Slips of the finger: two letters swapped, one doubled, and in long words one left out."""
    for i in range(1, len(word) - 1):
        yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    for i in range(len(word)):
        yield word[: i + 1] + word[i:]
    if len(word) >= 7:
        for i in range(1, len(word) - 1):
            yield word[:i] + word[i + 1 :]


def spelling(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Wrong -> right, folded, over the tables of all languages."""
    known = {language: vocabulary(table) for language, table in tables.items()}
    right_of: dict[str, str] = {}
    for language, table in tables.items():
        elsewhere = frozenset().union(*(known[other] for other in tables if other != language))
        for right, wrong in table.get("spelling", {}).items():
            pairs = {fold(word): fold(right) for word in wrong.split()}
            right_of |= {word: to for word, to in pairs.items() if word not in elsewhere}
        for word in map(fold, table.get("slips", "").split()):
            for slip in slips(word):
                if slip not in known[language] and slip not in elsewhere:
                    right_of.setdefault(slip, word)
    return right_of


def vocabulary(table: Mapping[str, Any]) -> frozenset[str]:
    """Every word that one language's file holds."""
    rows = [table.get("common", ""), table.get("real_words", "")]
    rows += [entry for entries in table.get("words", {}).values() for entry in entries]
    for signal in table.get("signals", {}).values():
        rows += [phrase for phrases in signal.values() for phrase in phrases]
    found = frozenset(re.split(r"[ +|?]+", " ".join(rows)))
    return frozenset(
        fold(word) + "*" * word.endswith("*") for word in found if word[:1] not in "<~"
    )
