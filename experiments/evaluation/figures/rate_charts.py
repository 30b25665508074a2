"""Charts of rates over time with their intervals.

Beside `charts`, in its look.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from experiments.evaluation.figures.charts import COLOURS, styled

MARGIN_SECONDS = 1800.0
"""Margin around points closer together than this, so that the axis shows hours."""


PANELS = {
    "automation_rate": ("kept by the bot", "Kept by the bot, of the conversations that are over"),
    "missed": ("missed", "Missed, of those kept (lower is better)"),
    "false_escalation_rate": ("not needed", "Not needed, of the handoffs (lower is better)"),
}
"""Of each rate the axis and the title of its panel: one is never shown without the others."""

_PANEL_PIXELS, _FRAME_PIXELS = 170, 180


def rates_over_time(
    title: str, points: Sequence[Mapping[str, Any]], *, joined: bool = False
) -> Figure:
    """Automation, missed and false escalation rates (shares, 0 to 1) over time, one upon another.

    `points` have `at` (seconds since the epoch) and under each name of PANELS `{rate, low, high,
    among}` or None, as `GET /v1/quality` gives them in `over_time`; a rate that is not known is not
    drawn. Intervals are whiskers, or a band where points are `joined`: looks at one running rate.
    """
    figure = make_subplots(
        rows=len(PANELS),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.11,
        subplot_titles=[heading for _, heading in PANELS.values()],
    )
    for number, (name, (axis, _)) in enumerate(PANELS.items(), 1):
        known_points = [
            {"at": point["at"]} | point[name]
            for point in points
            if point[name] and point[name]["rate"] is not None
        ]
        for trace in _rate(axis, known_points, COLOURS[number - 1], joined=joined):
            figure.add_trace(trace, row=number, col=1)
        figure.update_yaxes(title=axis, tickformat=".0%", rangemode="tozero", row=number, col=1)
        if not known_points:
            figure.update_yaxes(range=[0, 1], row=number, col=1)
    styled(figure, title, height=_FRAME_PIXELS + _PANEL_PIXELS * len(PANELS))
    figure.update_layout(showlegend=False, margin={"t": 84, "b": 64})
    figure.update_annotations(font={"size": 13}, x=0, xanchor="left")
    figure.update_xaxes(type="date")
    figure.update_xaxes(title="time (UTC)", row=len(PANELS), col=1)
    times = [point["at"] for point in points]
    if times and max(times) - min(times) < MARGIN_SECONDS:
        ends = min(times) - MARGIN_SECONDS, max(times) + MARGIN_SECONDS
        figure.update_xaxes(range=[_moment(at) for at in ends])
    return figure


def _rate(
    measure: str, points: Sequence[Mapping[str, Any]], colour: str, *, joined: bool
) -> Iterator[Scatter]:
    times = [_moment(point["at"]) for point in points]
    if joined:
        yield Scatter(
            x=[*times, *reversed(times)],
            y=[*(p["high"] for p in points), *(p["low"] for p in reversed(points))],
            fill="toself",
            fillcolor=_faint(colour),
            line={"width": 0},
            hoverinfo="skip",
        )
    yield Scatter(
        x=times,
        y=[point["rate"] for point in points],
        name=measure,
        mode="lines+markers",
        line={"color": colour, "width": 2 if joined else 1, "dash": "solid" if joined else "dot"},
        marker={"size": 6},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [p["high"] - p["rate"] for p in points],
            "arrayminus": [p["rate"] - p["low"] for p in points],
            "visible": not joined,
        },
        customdata=[[p["low"], p["high"], p["among"]] for p in points],
        hovertemplate="%{x}<br>%{y:.1%}, between %{customdata[0]:.1%} and %{customdata[1]:.1%}"
        "<br>of %{customdata[2]:.0f}<extra></extra>",
    )


def _faint(colour: str) -> str:
    """A colour such as #0072B2 with little of it."""
    red, green, blue = bytes.fromhex(colour[1:])
    return f"rgba({red}, {green}, {blue}, 0.16)"


def counts_over_time(
    title: str, axis_title: str, times: Sequence[float], series: Mapping[str, Sequence[int]]
) -> Figure:
    """Stacked bars: counts of each kind in each span of time.

    `times` are when the spans begin, in seconds since the epoch; `counted` is what is counted.
    """
    figure = Figure()
    at = [_moment(time) for time in times]
    for (name, counts), colour in zip(series.items(), COLOURS, strict=False):
        figure.add_bar(
            x=at,
            y=list(counts),
            name=name,
            marker={"color": colour},
            hovertemplate=f"%{{x}}<br>{html.escape(name)}: %{{y}}<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.15)
    figure.update_xaxes(title="time (UTC)", type="date")
    figure.update_yaxes(title=axis_title, rangemode="tozero")
    return styled(figure, title)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
