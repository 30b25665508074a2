"""Where the sentences of a text begin and end, in any script.

A sentence ends at its mark (followed by space, except in scripts that write none) or at the end of
a line; one without an end is cut between words, so that what is quoted fits on a page.
"""

from __future__ import annotations

import re

SENTENCE_CHARS_MAX = 240
# Marks are tried from the first of a row only; from each anew, a row would take its square.
_END = re.compile(
    r"(?<![.!?…\u0964\u061f])[.!?…\u0964\u061f]++[\"'”»)\]]{0,2}(?=\s)|[。！？｡]+[」』”]?|[\r\n]+"
)


def sentences(text: str) -> list[tuple[int, int]]:
    """The spans of a text's sentences, without the space around them. Pure; linear."""
    found: list[tuple[int, int]] = []
    begin = 0
    for stop in [*(match.end() for match in _END.finditer(text)), len(text)]:
        while begin < stop:
            cut = _cut(text, begin, stop)
            start = cut - len(text[begin:cut].lstrip())
            end = begin + len(text[begin:cut].rstrip())
            if start < end:
                found.append((start, end))
            begin = cut
    return found


def _cut(text: str, begin: int, stop: int) -> int:
    """Where a piece of at most SENTENCE_CHARS_MAX ends: at a space in its second half if any."""
    most = begin + SENTENCE_CHARS_MAX
    if stop <= most:
        return stop
    space = text.rfind(" ", begin + SENTENCE_CHARS_MAX // 2, most)
    return space + 1 if space >= 0 else most
