"""Charts of feature influence, costliest mistakes, drift evidence and costs by line."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from experiments.evaluation.figures.charts import COLOURS, GRID, QUIET, styled

BAND = "rgba(0, 114, 178, 0.14)"
ROW_PIXELS, FRAME_PIXELS = 24, 150


def with_band(figure: Figure, x: ArrayLike, low: ArrayLike, high: ArrayLike, name: str) -> Figure:
    """Add an interval behind a figure's lines, where it is known."""
    at, below, above = (np.asarray(values, np.float64) for values in (x, low, high))
    is_known = np.isfinite(below) & np.isfinite(above)
    figure.add_scatter(
        x=np.concatenate((at[is_known], at[is_known][::-1])),
        y=np.concatenate((above[is_known], below[is_known][::-1])),
        fill="toself",
        fillcolor=BAND,
        line={"width": 0, "color": BAND},
        name=name,
        hoverinfo="skip",
    )
    figure.data = (figure.data[-1], *figure.data[:-1])
    return figure


def influence_bars(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Names by how far each moves the log odds, with two standard deviations; a panel a group.

    `groups` maps a panel's title to rows of `experiments.evaluation.attribution.FeatureInfluence`
    as JSON, the strongest first.
    """
    panels = {title: rows for title, rows in groups.items() if rows}
    figure = make_subplots(
        rows=1,
        cols=max(1, len(panels)),
        subplot_titles=[html.escape(title) for title in panels],
        horizontal_spacing=0.24,
    )
    for column, rows in enumerate(panels.values(), 1):
        upwards = list(reversed(rows))
        effects = [row["effect"] for row in upwards]
        figure.add_bar(
            x=effects,
            y=[html.escape(row["name"]) for row in upwards],
            orientation="h",
            marker={"color": [COLOURS[1] if effect > 0 else COLOURS[0] for effect in effects]},
            error_x={
                "type": "data",
                "array": [2.0 * row["spread"] for row in upwards],
                "color": QUIET,
                "thickness": 1,
                "width": 3,
            },
            customdata=[
                [row["spread"], row["value"], row["share"], row["conversations"]] for row in upwards
            ],
            hovertemplate="%{y}: %{x:+.3f} ± %{customdata[0]:.3f}<br>at its typical value "
            "%{customdata[1]:.3g}<br>in %{customdata[2]:.1%} of messages, %{customdata[3]} "
            "conversations<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
        figure.update_yaxes(type="category", dtick=1, row=1, col=column)
        figure.update_xaxes(title="rise of the log odds", row=1, col=column)
    longest = max((len(rows) for rows in panels.values()), default=0)
    height = max(420, FRAME_PIXELS + ROW_PIXELS * longest)
    styled(figure, "What the champion goes by", height=height)
    figure.update_xaxes(zeroline=True, zerolinecolor=QUIET)
    figure.update_yaxes(title="" if panels else "name")
    figure.update_layout(showlegend=False, margin={"l": 140, "b": 80, "t": 84})
    return figure


def mistakes(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The most expensive mistakes as a table, the worst first; no text of any conversation."""
    columns = {
        "conversation": [row["conversation"] for row in rows],
        "what": [row["what"] for row in rows],
        "the model said": [f"{row['probability']:.1%}" for row in rows],
        "cost": [f"{row['cost']:g}" for row in rows],
        "outcome at position": [row["position"] for row in rows],
    }
    return table("The most expensive mistakes", columns, [34, 34, 12, 8, 16])


def table(
    title: str, columns: Mapping[str, Sequence[object]], widths: Sequence[int], lines: int = 1
) -> Figure:
    """A table of texts and numbers under the names of its columns; a row has so many `lines`."""
    figure = Figure()
    figure.add_table(
        columnwidth=list(widths),
        header={
            "values": [f"<b>{html.escape(name)}</b>" for name in columns],
            "align": "left",
            "fill": {"color": GRID},
            "line": {"width": 0},
        },
        cells={
            "values": [[_shown(cell) for cell in cells] for cells in columns.values()],
            "align": "left",
            "fill": {"color": "white"},
            "line": {"color": GRID},
            "height": ROW_PIXELS,
        },
    )
    rows = max(map(len, columns.values()), default=0)
    styled(figure, title, height=FRAME_PIXELS + ROW_PIXELS * (lines * rows + 2))
    figure.update_layout(margin={"l": 10, "r": 10, "b": 20})
    return figure


def _shown(cell: object) -> str:
    """Escaped, but for its breaks of line."""
    return "<br>".join(html.escape(part) for part in str(cell).split("<br>"))


def evidence(points: Sequence[tuple[int, float]], alarm_at: float) -> Figure:
    """The evidence that the champion's loss has risen, over ledger positions; alarm at a level."""
    figure = Figure()
    figure.add_scatter(
        x=[at for at, _ in points],
        y=[max(value, 1e-3) for _, value in points],
        name="evidence",
        mode="lines+markers",
        line={"color": COLOURS[0], "width": 2},
        marker={"size": 5},
        hovertemplate="position %{x}<br>evidence %{y:.3g}<extra></extra>",
    )
    figure.add_hline(y=alarm_at, line={"color": COLOURS[1], "width": 1, "dash": "dash"})
    figure.add_annotation(
        text=f"alarm, at most once in {alarm_at:g} calm outcomes",
        x=0,
        xref="paper",
        xanchor="left",
        y=math.log10(alarm_at),  # on such an axis an annotation's place is a logarithm
        yanchor="top",
        showarrow=False,
    )
    figure.update_xaxes(title="ledger position (outcomes in the order they were learned)")
    figure.update_yaxes(title="evidence of a higher loss", type="log", dtick=1)
    return styled(figure, "Drift: has the champion's loss risen?")


def side_by_side(costs: Mapping[str, Sequence[float]]) -> Figure:
    """Mean costs of a conversation by name, each with the low and high end of its interval."""
    names = list(costs)[::-1]
    middle = [costs[name][0] for name in names]
    figure = Figure()
    figure.add_scatter(
        x=middle,
        y=[html.escape(name) for name in names],
        mode="markers",
        marker={"size": 10, "color": COLOURS[0]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [costs[name][2] - costs[name][0] for name in names],
            "arrayminus": [costs[name][0] - costs[name][1] for name in names],
            "color": QUIET,
        },
        customdata=[costs[name][1:] for name in names],
        hovertemplate="%{y}: %{x:.3f}, between %{customdata[0]:.3f} and %{customdata[1]:.3f}"
        "<extra></extra>",
    )
    figure.update_xaxes(title="cost of a conversation (lower is better)", rangemode="tozero")
    figure.update_yaxes(type="category")
    styled(figure, "What each line would have cost", height=FRAME_PIXELS + 44 * len(names))
    figure.update_layout(showlegend=False, margin={"l": 140, "b": 80})
    return figure


def shifts(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Covariate shifts, as multiples of the value before, the clearest first.

    `rows` are `learning.monitoring.covariate_shift.ShiftFinding` as JSON. Scales differ from name
    to name, so each is drawn relative to what it was before.
    """
    names = [html.escape(str(row["name"])) for row in reversed(rows)]
    ratio = [row["now"] / row["before"] if row["before"] else None for row in reversed(rows)]
    figure = Figure()
    figure.add_bar(
        x=ratio,
        y=names,
        orientation="h",
        marker={"color": COLOURS[0]},
        customdata=[[row["before"], row["now"], row["p"], row["kind"]] for row in reversed(rows)],
        hovertemplate="%{customdata[3]} %{y}: %{customdata[0]:.3g} before, %{customdata[1]:.3g} "
        "now (p %{customdata[2]:.1e})<extra></extra>",
    )
    figure.add_vline(x=1.0, line={"color": QUIET, "width": 1, "dash": "dot"})
    figure.update_xaxes(title="now, as a multiple of before (1: unchanged)", rangemode="tozero")
    figure.update_yaxes(type="category")
    styled(figure, "Drift: what customers bring", height=FRAME_PIXELS + ROW_PIXELS * len(rows))
    figure.update_layout(showlegend=False, margin={"l": 140, "b": 80})
    return figure
