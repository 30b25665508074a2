"""Resolution cues: whether a text says that all is well, and nothing else: thanks, "works now".

Word for word, in fifteen languages: a word that is not in the lists (`settled_words.toml`) may mean
something else, and then it is not said. No model reads it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from importlib import resources

from learning.text.similarity import parts, words
from learning.text.tokens import fold

WORDS_MAX = 24
"""A longer text says more than that."""
_MARKS = frozenset({"!", "..."})


@lru_cache(maxsize=512)
def says_settled(said: tuple[str, ...]) -> bool:
    """Whether these words (`similarity.words`) say that all is well. Cached by value alone."""
    if not said or len(said) > WORDS_MAX:
        return False
    text = _joined(word for word in said if word not in _MARKS)
    return any(whole.fullmatch(text) and part.search(text) for whole, part in _expressions())


def _joined(said: Iterable[str]) -> str:
    return "".join(f" {fold(part)}" for word in said for part in parts(word))


@cache
def _expressions() -> Sequence[tuple[re.Pattern[str], re.Pattern[str]]]:
    """Of each language: all of a text, and what it has to hold."""
    file = resources.files("learning.text.lexicon") / "settled_words.toml"
    result = []
    for table in tomllib.loads(file.read_text(encoding="utf-8")).values():
        said, beside = (
            sorted({_joined(words(phrase)) for phrase in table[name]}, key=len, reverse=True)
            for name in ("said", "beside")
        )
        part = "|".join(map(re.escape, said))
        any_of = "|".join(map(re.escape, [*said, *beside]))
        result.append((re.compile(f"(?:(?:{any_of})(?= |$))*+"), re.compile(f"(?:{part})(?= |$)")))
    return result
