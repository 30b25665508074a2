"""Result tables of benchmarks: terminal, Markdown, rounding, medians."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

Row = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called with what is measured now, and how many of how many turns are done."""


def median(values: Iterable[float]) -> float:
    """The median; 0 of nothing, so that a row of a failed run can still be shown."""
    known_values = list(values)
    return statistics.median(known_values) if known_values else 0.0


def rounded(value: float) -> float:
    """Three figures, as many as such measurements bear."""
    return float(f"{value:.3g}")


def load_average() -> float:
    """Load average of the last minute."""
    return round(os.getloadavg()[0], 1)


def table(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Table:
    """Rows as a table: `columns` are the keys to show and their headings."""
    rendered = Table(title=title, title_justify="left")
    for heading in columns.values():
        rendered.add_column(heading, justify="right")
    for row in rows:
        rendered.add_row(*(format_figure(row.get(name)) for name in columns))
    return rendered


def markdown(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Rows as a Markdown table."""
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(format_figure(row.get(name)) for name in columns) + " |" for row in rows
    ]
    return "\n".join(lines)


def format_figure(value: object) -> str:
    """A figure as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "reached" if value else "missed"
    if isinstance(value, float):
        if abs(value) >= 1000:
            return f"{value:,.0f}".replace(",", " ")
        return f"{value:.3g}"
    return str(value)
