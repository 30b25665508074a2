import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import charts
from learning.evaluation import precision_recall, reliability

DRAW = np.random.default_rng(7)
LABELS = (DRAW.random(400) < 0.3).astype(float)
CHANCES = np.clip(0.25 + 0.4 * LABELS + 0.2 * DRAW.normal(size=400), 0.01, 0.99)


def every_figure() -> dict[str, go.Figure]:
    found = precision_recall(CHANCES, LABELS)
    bins = reliability(CHANCES, LABELS)
    counts = np.histogram(CHANCES, 20, (0, 1))[0]
    positions = np.arange(100, 1001, 100)
    return {
        "over": charts.over_positions(
            "Log loss over the ledger",
            "log loss",
            [charts.Line("champion", positions, 1 / positions)],
            lower_is_better=True,
            marks=[charts.Mark(300, "version 2 promoted"), charts.Mark(700, "rolled back")],
            reference=(0.5, "base rate"),
        ),
        "pr": charts.precision_recall(
            [charts.Line("champion", found.recall, found.precision)], base_rate=0.3
        ),
        "roc": charts.roc([charts.Line("champion", [0, 0.5, 1], [0, 0.9, 1])]),
        "honest": charts.reliability(
            [charts.Bins("champion", bins.predicted, bins.observed, bins.mass, counts)]
        ),
    }


def test_every_figure_has_a_title_and_says_what_both_axes_are():
    for name, figure in every_figure().items():
        layout = figure.layout
        assert layout.title.text, name
        bottom = layout.xaxis2 if "xaxis2" in layout and layout.xaxis2.title.text else layout.xaxis
        assert bottom.title.text, name
        assert layout.yaxis.title.text, name


def test_a_measure_says_which_way_is_better():
    line = charts.Line("champion", [1, 2], [0.5, 0.4])
    up = charts.over_positions("AUC", "AUC", [line], lower_is_better=False)
    down = charts.over_positions("Loss", "loss", [line], lower_is_better=True)
    assert "higher is better" in up.layout.yaxis.title.text
    assert "lower is better" in down.layout.yaxis.title.text


def test_every_switch_is_marked_at_its_position_with_its_words():
    figure = every_figure()["over"]
    upright = [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1]
    assert upright == [300, 700]
    said = " ".join(note.text for note in figure.layout.annotations)
    assert "version 2 promoted" in said
    assert "rolled back" in said


def test_lines_differ_in_colour_and_dash_for_those_who_see_colours_otherwise():
    lines = [charts.Line(f"challenger {n}", [0, 1], [n, n]) for n in range(5)]
    looks = {(d.line.color, d.line.dash) for d in charts.roc(lines).data if d.name != "chance"}
    assert len(looks) == 5
    assert len({dash for _, dash in looks}) == 5


def test_a_figure_of_nothing_can_still_be_drawn():
    empty = np.zeros(0)
    assert charts.precision_recall([charts.Line("champion", empty, empty)]).to_json()
    assert charts.reliability([charts.Bins("champion", *[empty] * 4)]).to_json()
    assert charts.over_positions("x", "y", [], lower_is_better=True).to_json()


def test_a_page_needs_no_network_and_holds_plotly_once():
    text = charts.page("Evaluation", "Keep.", every_figure())
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == []
    assert text.count('id="plotly"') == 1
    assert len(text) < 3_000_000


def test_the_same_figures_make_the_same_page():
    pages = {charts.page("Evaluation", "Keep.", every_figure()) for _ in range(2)}
    assert len(pages) == 1


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_no_name_can_break_out_of_the_page(name: str):
    hostile = name + "</script><script>alert(1)</script>$title"
    figure = charts.roc([charts.Line(hostile, [0, 1], [0, 1])])
    text = charts.page(hostile, hostile, {hostile: figure})
    assert "<script>alert" not in text
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    names = [trace["name"] for trace in json.loads(data.group(1))[0]["data"]]
    assert hostile in names


@pytest.mark.parametrize("draw", [charts.roc, charts.precision_recall])
def test_curves_keep_every_point_that_they_are_given(draw):
    x, y = np.linspace(0, 1, 50), np.linspace(1, 0, 50)
    trace = next(t for t in draw([charts.Line("champion", x, y)]).data if t.name == "champion")
    assert np.array_equal(np.asarray(trace.x), x)
    assert np.array_equal(np.asarray(trace.y), y)
