"""Language identification: the declared language of a message, or one that its script or its
everyday words show.

It is meant for saying what is covered, not for choosing what is looked for: phrases are sought in
every language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from learning.text.lexicon.phrase_matcher import FULL, languages, lexicon
from learning.text.tokens import fold

LETTERS_MAX, WORDS_MAX = 400, 80
"""So much of a text is looked at."""

WORDS_MIN = 2
"""Fewer everyday words show no language."""

Coverage = Literal["all", "requests", "none"]

_SAME = {"nb": "no", "nn": "no", "fil": "tl", "iw": "he", "in": "id"}
_SCRIPTS: Mapping[str, re.Pattern[str]] = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\uac00-\ud7af\u1100-\u11ff]"),
    "zh": re.compile("[\u3400-\u9fff]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "el": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": re.compile("[\u0590-\u05ff]"),
    "hi": re.compile("[\u0900-\u097f]"),
    "bn": re.compile("[\u0980-\u09ff]"),
    "ta": re.compile("[\u0b80-\u0bff]"),
    "ur": re.compile("[\u0679\u0688\u0691\u06ba\u06d2]"),
    "fa": re.compile("[\u067e\u0686\u0698\u06af]"),
    "ar": re.compile("[\u0600-\u06ff]"),
    "uk": re.compile("[\u0456\u0457\u0454\u0491]", re.IGNORECASE),
    "ru": re.compile("[\u0400-\u04ff]"),
}
"""What shows a language by its letters alone; the first that is met counts."""
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+")
_LETTER = re.compile(r"[^\W\d_]")


@lru_cache(maxsize=1024)
def base_of(tag: str | None) -> str | None:
    """The code of a language tag ("pt-BR", "fil"); None where there is none."""
    code = re.split("[-_]", (tag or "").strip().lower(), maxsplit=1)[0]
    return _SAME.get(code, code) or None


def language_of(text: str) -> str | None:
    """The language that a text is written in, as far as its script or everyday words show it."""
    text = text[:LETTERS_MAX]
    if not text.isascii():
        for code, letters in _SCRIPTS.items():
            if letters.search(text):
                return code
    words = _LATIN.findall(text.lower())[:WORDS_MAX]
    if not words:
        return "und" if _LETTER.search(text) else None
    known = _everyday()
    folded = (word if word.isascii() else fold(word) for word in words)
    counts = Counter(code for word in folded for code in known.get(word, ()))
    (best, most), (_, next_most) = [*counts.most_common(2), ("", 0), ("", 0)][:2]
    return best if most >= WORDS_MIN and most > next_most else None


@lru_cache(maxsize=1)
def _everyday() -> Mapping[str, tuple[str, ...]]:
    """The languages, but those with a script of their own, in which each everyday word is one."""
    known: dict[str, list[str]] = {}
    for code in languages():
        if code not in _SCRIPTS:
            for word in lexicon().common[code]:
                known.setdefault(word, []).append(code)
    return {word: tuple(codes) for word, codes in known.items()}


def language_json(tag: str | None, text: str, before: str | None = None) -> dict[str, Any]:
    """The language of a message, declared, recognised, or that of the messages `before`, and what
    is recognised in it; all null where it is not known.
    """
    code = base_of(tag) or language_of(text) or before
    signals = None if code is None else coverage(code)
    return {
        "code": code,
        "covered": None if signals is None else signals != "none",
        "signals": signals,
    }


def coverage(code: str) -> Coverage:
    """What is recognised in a language, given by its code: everything, requests for a person, or
    nothing.
    """
    if code in FULL:
        return "all"
    return "requests" if code in languages() else "none"
