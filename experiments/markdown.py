"""Tables in Markdown, as MLflow's pages show them: without lines or padding of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

PAD = "&nbsp;&nbsp;"
"""Keeps neighbouring cells apart; white space at a cell's end is dropped."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose cells are Markdown themselves: see `plain`. The first row is bold."""
    lines = [_row(head), "|" + ":---|" * len(head)]
    return "\n".join(lines + [_row([str(cell) for cell in row]) for row in rows])


def plain(text: str) -> str:
    """Text that is shown in a cell as it is, on one line."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("[", "\\[")


def sentence(text: str) -> str:
    """A sentence that begins and ends as one."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell + PAD for cell in cells) + " |"
