"""Deterministic SVG charts for documents: lines, bands and bars.

plotly's figures need a browser and two megabytes; a document needs a picture that any page shows
and any reader of the repository sees. White paper, so that it is read in dark surroundings, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#007A5A", "#8b949e"
"""Okabe and Ito's, told apart with any colour vision; green darkened to be read as text."""
INK, GRID, PALE = "#24292f", "#e6e8eb", "#d0d7de"
SIZE = 13
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Scale:
    """From a value to a place: `first` lies where the axis begins. `ticks` are (value, words)."""

    first: float
    last: float
    ticks: Sequence[tuple[float, str]]
    title: str
    log: bool = False

    def share(self, value: float) -> float:
        """Position of a value along the axis, 0 to 1, clipped."""
        a, b, x = self.first, self.last, min(max(value, self.first), self.last)
        if self.log:
            a, b, x = math.log(a), math.log(b), math.log(x)
        return (x - a) / (b - a)


def percents(last: float, step: float, title: str) -> Scale:
    """An axis from 0 in per cent."""
    ticks = [(n * step, f"{n * step:.0%}") for n in range(round(last / step) + 1)]
    return Scale(0.0, last, ticks, title)


def counts(first: float, last: float, ticks: list[int], title: str, log: bool = False) -> Scale:
    """An axis of counts, thousands set apart."""
    return Scale(first, last, [(n, f"{n:,}".replace(",", " ")) for n in ticks], title, log)


@dataclass(slots=True)
class Panel:
    """One pair of axes at a place of the picture, and what was drawn in it."""

    left: float
    top: float
    width: float
    height: float
    x: Scale
    y: Scale
    title: str = ""
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = self.left + self.width * self.x.share(x)
        return across, self.top + self.height * (1 - self.y.share(y))

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        colour: str,
        *,
        dash: str = "",
        wide: float = 2.0,
        faint: float = 1.0,
    ) -> None:
        """Through points in order; a run of equal heights is one stroke."""
        self.parts.append(
            f'<path d="M{self._through(xs, ys)}" fill="none" stroke="{colour}" '
            f'stroke-width="{wide:g}" stroke-opacity="{faint:g}" stroke-dasharray="{dash}" '
            'stroke-linejoin="round"/>'
        )

    def band(
        self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: str
    ) -> None:
        """Everything between two lines."""
        upper = self._through(xs, highs)
        lower = self._through(list(reversed(xs)), list(reversed(lows)))
        self.parts.append(f'<path d="M{upper}L{lower}Z" fill="{colour}" fill-opacity="0.18"/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        across, down = self.at(x, y)
        self.parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="5" fill="{colour}"/>')

    def words(
        self, x: float, y: float, label: str, colour: str = INK, anchor: str = "start"
    ) -> None:
        """Words beside a point, in the axes' own values."""
        across, down = self.at(x, y)
        self.parts.append(text(across, down, label, colour, anchor))

    def bar(self, y: float, start: float, stop: float, colour: str, high: float = 34.0) -> None:
        """A lying bar, centred on a height."""
        (left, middle), (right, _) = self.at(start, y), self.at(stop, y)
        self.parts.append(
            f'<rect x="{left:.1f}" y="{middle - high / 2:.1f}" width="{right - left:.1f}" '
            f'height="{high:g}" fill="{colour}"/>'
        )

    def _through(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        points = [self.at(x, y) for x, y in zip(xs, ys, strict=True)]
        corners = [
            point
            for n, point in enumerate(points)
            if n in (0, len(points) - 1)
            or abs(points[n - 1][1] - point[1]) > 0.05
            or abs(points[n + 1][1] - point[1]) > 0.05
        ]
        return "L".join(f"{across:.1f} {down:.1f}" for across, down in corners)

    def drawn(self) -> str:
        """The axes, then what is in them."""
        marks, bottom = [], self.top + self.height
        if self.title:
            marks.append(text(self.left, self.top - 12, self.title, INK, weight="600"))
        for value, words in self.x.ticks:
            across = self.left + self.width * self.x.share(value)
            marks.append(_stroke(across, bottom, across, bottom + 5, GREY))
            marks.append(text(across, bottom + 20, words, INK, "middle"))
        for value, words in self.y.ticks:
            down = self.top + self.height * (1 - self.y.share(value))
            marks.append(_stroke(self.left, down, self.left + self.width, down, GRID))
            marks.append(text(self.left - 8, down + 4, words, INK, "end"))
        if self.x.ticks:
            marks.append(_stroke(self.left, bottom, self.left + self.width, bottom, GREY))
        middle = self.left + self.width / 2
        marks.append(text(middle, bottom + 42, self.x.title, INK, "middle"))
        if self.y.title:
            marks.append(text(self.left, self.top - (30 if self.title else 12), self.y.title, INK))
        return "\n".join([*marks, *self.parts])


def text(
    x: float, y: float, label: str, colour: str, anchor: str = "start", weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(label)}</text>'
    )


def _stroke(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" '
        'stroke-width="1"/>'
    )


def picture(title: str, caption: str, width: int, height: int, panels: Sequence[Panel]) -> str:
    """One SVG file. `caption` describes it in words for those who do not see it."""
    body = "\n".join(panel.drawn() for panel in panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="{escape(_FONT)}" font-size="{SIZE}">\n'
        f"<title>{escape(title)}</title>\n<desc>{escape(caption)}</desc>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="white" stroke="{PALE}"/>\n'
        f"{body}\n</svg>\n"
    )
