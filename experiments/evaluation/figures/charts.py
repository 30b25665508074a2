"""Plotly charts from plain arrays, in one look for MLflow and the console; the door to plotly.

Each figure explains itself: its title says what is shown, its axes what is better. `page` puts
several into one HTML file that needs no network. MLflow shows such a file in a sandboxed frame,
where nothing beside it can be loaded, so plotly.js is inside, compressed, once a page (2 MB).
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
import plotly.offline
from numpy.typing import ArrayLike
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
"""Okabe and Ito's palette, told apart with any colour vision. Lines differ in dash, too."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
INK, GRID, QUIET = "#24292f", "#e6e8eb", "#8b949e"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class CurveStyle:
    """One line of a figure: a name for the legend and two arrays of equal length."""

    name: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True, slots=True)
class Bins:
    """A calibration plot of one model: per bin the mean prediction, the mean label, the weight.

    `counts` are lessons in equally wide bins of the probability, from 0 to 1.
    """

    name: str
    predicted: ArrayLike
    observed: ArrayLike
    mass: ArrayLike
    counts: ArrayLike


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a ledger position, in two words; `detail` shows on hovering."""

    position: int
    text: str
    detail: str = ""


def over_positions(
    title: str,
    measure: str,
    lines: Sequence[CurveStyle],
    *,
    lower_is_better: bool,
    marks: Sequence[Mark] = (),
    reference: tuple[float, str] | None = None,
) -> Figure:
    """A measure over ledger positions, with switches marked by upright lines.

    `reference` is a level to compare with and its name: the loss of always saying the base rate.
    """
    figure = Figure()
    for line, look in zip(lines, _looks(), strict=False):
        figure.add_scatter(
            x=_floats(line.x),
            y=_floats(line.y),
            name=line.name,
            mode="lines+markers",
            line=look,
            marker={"size": 5},
            hovertemplate=f"position %{{x}}<br>{html.escape(measure)} %{{y:.4f}}<extra></extra>",
        )
    if reference is not None:
        level, name = reference
        figure.add_hline(
            y=level,
            line={"color": QUIET, "width": 1, "dash": "dot"},
            annotation_text=name,
            annotation_position="top left",
        )
    for mark in marks:
        figure.add_vline(
            x=mark.position,
            line={"color": INK, "width": 1, "dash": "dash"},
            annotation_text=html.escape(mark.text),
            annotation_hovertext=html.escape(mark.detail or mark.text),
            annotation_textangle=-90,
            annotation_position="top left",
        )
    better = "lower is better" if lower_is_better else "higher is better"
    figure.update_xaxes(title="ledger position (outcomes in the order they were learned)")
    figure.update_yaxes(title=f"{measure} ({better})")
    return styled(figure, title)


def cost(lines: Sequence[CurveStyle], *, threshold: float | None = None) -> Figure:
    """Mean cost of a conversation (y) had it been escalated from each probability on (x)."""
    figure = Figure()
    for line, look in zip(lines, _looks(), strict=False):
        figure.add_scatter(
            x=_floats(line.x),
            y=_floats(line.y),
            name=line.name,
            mode="lines",
            line=look,
            hovertemplate="escalating from %{x:.1%} on costs %{y:.3f}<extra></extra>",
        )
    if threshold is not None:
        figure.add_vline(
            x=threshold,
            line={"color": INK, "width": 1, "dash": "dash"},
            annotation_text=f"by the policy's costs: {threshold:.1%}",
            annotation_position="top right",
        )
    figure.update_xaxes(title="threshold: escalate from this probability on", tickformat=".0%")
    figure.update_yaxes(title="cost a conversation (lower is better)", rangemode="tozero")
    return styled(figure, "Cost of a conversation, escalating from a threshold or going on")


def precision_recall(lines: Sequence[CurveStyle], *, base_rate: float | None = None) -> Figure:
    """Precision (y) over recall (x) at every threshold; `base_rate` is what chance would reach."""
    figure = Figure()
    for line, look in zip(lines, _looks(), strict=False):
        figure.add_scatter(
            x=_floats(line.x),
            y=_floats(line.y),
            name=line.name,
            mode="lines",
            line=look | {"shape": "vh"},
            hovertemplate="finds %{x:.1%} of those who need a person<br>"
            "right in %{y:.1%} of its alarms<extra></extra>",
        )
    if base_rate is not None:
        figure.add_hline(
            y=base_rate,
            line={"color": QUIET, "width": 1, "dash": "dot"},
            annotation_text=f"chance: {base_rate:.1%} need a person",
            annotation_position="top left",
        )
    figure.update_xaxes(title="recall: found, of those who need a person", tickformat=".0%")
    figure.update_yaxes(title="precision: alarms that are right", tickformat=".0%")
    return _unit(styled(figure, "Precision and recall at every threshold"))


def roc(lines: Sequence[CurveStyle]) -> Figure:
    """True positive rate (y) over false positive rate (x), with the diagonal of chance."""
    figure = _with_diagonal(Figure(), "chance")
    for line, look in zip(lines, _looks(), strict=False):
        figure.add_scatter(
            x=_floats(line.x),
            y=_floats(line.y),
            name=line.name,
            mode="lines",
            line=look,
            hovertemplate="finds %{y:.1%} at %{x:.1%} false alarms<extra></extra>",
        )
    figure.update_xaxes(title="false alarms, of those who need nobody", tickformat=".0%")
    figure.update_yaxes(title="found, of those who need a person", tickformat=".0%")
    return _unit(styled(figure, "Found against false alarms (ROC)"))


def reliability(models: Sequence[Bins]) -> Figure:
    """Predicted against observed in bins, above; how often each probability was said, below."""
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.74, 0.26], vertical_spacing=0.09
    )
    _with_diagonal(figure, "perfectly honest")
    for model, look in zip(models, _looks(), strict=False):
        counts = _floats(model.counts)
        figure.add_scatter(
            x=_floats(model.predicted),
            y=_floats(model.observed),
            name=model.name,
            mode="lines+markers",
            line=look,
            marker={"size": 7},
            customdata=_floats(model.mass),
            hovertemplate="said %{x:.1%}, was %{y:.1%}<br>weight of lessons %{customdata:.4g}"
            "<extra></extra>",
            row=1,
            col=1,
        )
        figure.add_bar(
            x=(np.arange(counts.size) + 0.5) / max(counts.size, 1),
            y=counts,
            name=model.name,
            marker={"color": look["color"]},
            showlegend=False,
            hovertemplate="near %{x:.1%}: %{y} lessons<extra></extra>",
            row=2,
            col=1,
        )
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", showticklabels=True)
    figure.update_xaxes(title="probability that was predicted (mean of the bin)", row=2, col=1)
    figure.update_yaxes(title="share that needed a person", tickformat=".0%", row=1, col=1)
    figure.update_yaxes(range=[-0.02, 1.02], row=1, col=1)
    figure.update_yaxes(title="lessons", rangemode="tozero", row=2, col=1)
    figure.update_layout(barmode="group", bargap=0.1)
    return styled(figure, "Calibration: what was predicted, and what was true", height=540)


def page(title: str, introduction: str, figures: Mapping[str, Figure]) -> str:
    """One HTML file with the figures in order, each under a sentence on how to read it.

    `figures` maps that sentence to its figure. The same input gives the same text.
    """
    sections, data = [], []
    for number, (sentence, figure) in enumerate(figures.items()):
        sections.append(
            f'<section><div id="f{number}"></div><p>{html.escape(sentence)}</p></section>'
        )
        data.append(figure.to_json(engine="json").replace("<", "\\u003c"))
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(title),
        introduction=html.escape(introduction),
        sections="\n".join(sections),
        data="[" + ",\n".join(data) + "]",
        plotly=_plotly_js(),
    )


def script() -> str:
    """plotly.js itself, which draws a figure's JSON in a browser."""
    source: str = plotly.offline.get_plotlyjs()
    return source


@functools.cache
def _plotly_js() -> str:
    packed = gzip.compress(script().encode(), 9, mtime=0)
    return base64.b64encode(packed).decode()


def _floats(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, np.float64)


def _looks() -> list[dict[str, object]]:
    looks = zip(COLOURS, DASHES, strict=True)
    return [{"color": colour, "dash": dash, "width": 2} for colour, dash in looks]


def _with_diagonal(figure: Figure, name: str) -> Figure:
    figure.add_scatter(
        x=[0.0, 1.0],
        y=[0.0, 1.0],
        name=name,
        mode="lines",
        line={"color": QUIET, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    return figure


def _unit(figure: Figure) -> Figure:
    figure.update_xaxes(range=[-0.01, 1.01])
    figure.update_yaxes(range=[-0.01, 1.01])
    return figure


def styled(figure: Figure, title: str, height: int = 420) -> Figure:
    """The one look of all figures."""
    figure.update_layout(
        template="none",
        title={"text": html.escape(title), "x": 0, "xref": "paper", "font": {"size": 17}},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        height=height,
        margin={"l": 70, "r": 24, "t": 56, "b": 104},
        legend={"orientation": "h", "x": 0, "y": -0.25, "yref": "paper", "yanchor": "top"},
        showlegend=True,
        hoverlabel={"font": {"family": FONT}},
    )
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": QUIET, "ticks": "outside"}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis, automargin=True)
    return figure
