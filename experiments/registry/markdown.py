"""Markdown tables and escaping for MLflow's pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

PAD = "&nbsp;&nbsp;"
"""Keeps neighbouring cells apart; white space at a cell's end is dropped."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose cells are Markdown themselves: see `plain`. The first row is bold."""
    lines = [_row(head), "|" + ":---|" * len(head)]
    return "\n".join(lines + [_row([str(cell) for cell in row]) for row in rows])


_LINKS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
"""Where a space of no width makes an address no link: Markdown links those that stand bare."""

_MARKS = re.compile(r"([\\`*_~\[\]|])")


def plain(text: str) -> str:
    """Text that is shown as it is, on one line, in a cell or in a sentence: what people name keys
    and give as reasons is neither a link nor a picture nor a tag.
    """
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _LINKS.sub("&#8203;", _MARKS.sub(r"\\\1", escaped))


def sentence(text: str) -> str:
    """A sentence that begins and ends as one."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell + PAD for cell in cells) + " |"
