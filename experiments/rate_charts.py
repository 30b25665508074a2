"""Rates over time with their intervals: the width says how much is known.

Beside `charts`, in its look.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from plotly.graph_objects import Figure

from experiments.charts import COLOURS, INK, styled

MARGIN_SECONDS = 1800.0
"""Around points that lie closer together than this, so that the axis tells hours."""


def rate_over_time(
    title: str,
    measure: str,
    points: Sequence[Mapping[str, Any]],
    *,
    marks: Sequence[tuple[float, str]] = (),
) -> Figure:
    """A rate (a share, 0 to 1) with its interval as a band, over time.

    `points` have `at` (seconds since the epoch), `rate`, `low` and `high`, each None where it is
    not known, and `among`, how many were judged: as `GET /v1/quality` gives them in
    `missed_over_time`. `marks` are (seconds, words), drawn as upright lines.
    """
    known = [point for point in points if point["low"] is not None and point["high"] is not None]
    times = [_moment(point["at"]) for point in known]
    figure = Figure()
    figure.add_scatter(
        x=[*times, *reversed(times)],
        y=[*(p["high"] for p in known), *(p["low"] for p in reversed(known))],
        fill="toself",
        fillcolor="rgba(0, 114, 178, 0.16)",
        line={"width": 0},
        name="95 % interval, holds at every look",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=times,
        y=[point["rate"] for point in known],
        name=measure,
        mode="lines+markers",
        line={"color": COLOURS[0], "width": 2},
        marker={"size": 5},
        connectgaps=False,
        customdata=[[p["low"], p["high"], p["among"]] for p in known],
        hovertemplate="%{x}<br>%{y:.1%}, between %{customdata[0]:.1%} and %{customdata[1]:.1%}"
        "<br>%{customdata[2]:.0f} judged<extra></extra>",
    )
    for at, words in marks:
        figure.add_vline(
            x=_moment(at),
            line={"color": INK, "width": 1, "dash": "dash"},
        )
        figure.add_annotation(
            x=_moment(at),
            y=1,
            yref="paper",
            text=html.escape(words),
            textangle=-90,
            xanchor="right",
        )
    figure.update_xaxes(title="time (UTC)", type="date")
    if known and known[-1]["at"] - known[0]["at"] < MARGIN_SECONDS:
        ends = known[0]["at"] - MARGIN_SECONDS, known[-1]["at"] + MARGIN_SECONDS
        figure.update_xaxes(range=[_moment(at) for at in ends])
    figure.update_yaxes(title=f"{measure} (lower is better)", tickformat=".0%", rangemode="tozero")
    return styled(figure, title)


def counts_over_time(
    title: str, counted: str, times: Sequence[float], series: Mapping[str, Sequence[int]]
) -> Figure:
    """How many of each kind there were in each span of time, one kind on top of the other.

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
    figure.update_yaxes(title=counted, rangemode="tozero")
    return styled(figure, title)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
