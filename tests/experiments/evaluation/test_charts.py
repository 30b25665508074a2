import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright
from plotly.graph_objects import Figure

from experiments.evaluation.figures import charts
from experiments.evaluation.figures.rate_charts import PANELS, rates_over_time
from learning.measures.scores import precision_recall, reliability
from tests.waiting import LIMIT_MS

DRAW = np.random.default_rng(7)
LABELS = (DRAW.random(400) < 0.3).astype(float)
CHANCES = np.clip(0.25 + 0.4 * LABELS + 0.2 * DRAW.normal(size=400), 0.01, 0.99)
RATES = [
    {
        "at": 1.7e9 + 3600 * n,
        "automation_rate": {"rate": 0.7, "low": 0.6, "high": 0.8, "among": 40},
        "missed": {"rate": rate, "low": low, "high": high, "among": 10 * n},
        "false_escalation_rate": None,
    }
    for n, (rate, low, high) in enumerate(
        [(None, None, None), (None, 0.0, 1.0), (0.1, 0.01, 0.4), (0.08, 0.02, 0.2)]
    )
]


def every_figure() -> dict[str, Figure]:
    found = precision_recall(CHANCES, LABELS)
    bins = reliability(CHANCES, LABELS)
    counts = np.histogram(CHANCES, 20, (0, 1))[0]
    positions = np.arange(100, 1001, 100)
    return {
        "over": charts.over_positions(
            "Log loss over the ledger",
            "log loss",
            [charts.CurveStyle("champion", positions, 1 / positions)],
            lower_is_better=True,
            marks=[charts.Mark(300, "version 2 promoted"), charts.Mark(700, "rolled back")],
            reference=(0.5, "base rate"),
        ),
        "pr": charts.precision_recall(
            [charts.CurveStyle("champion", found.recall, found.precision)], base_rate=0.3
        ),
        "roc": charts.roc([charts.CurveStyle("champion", [0, 0.5, 1], [0, 0.9, 1])]),
        "rates": rates_over_time("Rates", RATES),
        "joined": rates_over_time("Rates", RATES, joined=True),
        "honest": charts.reliability(
            [charts.Bins("champion", bins.predicted, bins.observed, bins.mass, counts)]
        ),
    }


def test_every_figure_has_a_title_and_says_what_both_axes_are():
    for name, figure in every_figure().items():
        layout = figure.layout
        assert layout.title.text, name
        bottoms = [axis for axis in layout if re.fullmatch(r"xaxis\d*", axis)]
        assert any(layout[axis].title.text for axis in bottoms), name
        assert layout.yaxis.title.text, name


def test_a_measure_says_which_way_is_better():
    line = charts.CurveStyle("champion", [1, 2], [0.5, 0.4])
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


@pytest.mark.parametrize("joined", [False, True])
def test_rates_stand_one_upon_another_and_what_is_not_known_is_not_drawn(joined):
    figure = rates_over_time("Rates", RATES, joined=joined)
    drawn = {trace.name: list(trace.y) for trace in figure.data if trace.name}
    assert list(drawn) == [axis for axis, _ in PANELS.values()]
    assert drawn == {"kept by the bot": [0.7] * 4, "missed": [0.1, 0.08], "not needed": []}
    missed = next(trace for trace in figure.data if trace.name == "missed")
    assert [list(one) for one in missed.customdata] == [[0.01, 0.4, 20], [0.02, 0.2, 30]]
    assert missed.error_y.visible is not joined
    assert figure.layout.yaxis3.range == (0, 1), "an empty panel is still of shares"
    assert list(missed.error_y.arrayminus) == pytest.approx([0.09, 0.06])


def test_lines_differ_in_colour_and_dash_for_those_who_see_colours_otherwise():
    lines = [charts.CurveStyle(f"challenger {n}", [0, 1], [n, n]) for n in range(5)]
    looks = {(d.line.color, d.line.dash) for d in charts.roc(lines).data if d.name != "chance"}
    assert len(looks) == 5
    assert len({dash for _, dash in looks}) == 5


def test_a_figure_of_nothing_can_still_be_drawn():
    empty = np.zeros(0)
    assert charts.precision_recall([charts.CurveStyle("champion", empty, empty)]).to_json()
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


FRAMED = """
html => {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.src = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  document.body.append(frame);
}
"""


def test_a_page_draws_every_figure_in_a_sandboxed_frame_without_a_network():
    """As MLflow shows an HTML artifact: from a blob, scripts allowed and nothing else."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Debian's chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(offline=True)
        context.set_default_timeout(LIMIT_MS)
        tab = context.new_page()
        wrong = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("requestfailed", lambda request: wrong.append(request.url))
        tab.evaluate(FRAMED, charts.page("Evaluation", "Keep.", every_figure()))
        frame = tab.frame_locator("iframe")
        frame.locator("#f3 .main-svg").first.wait_for()
        assert frame.locator(".main-svg").count() >= len(every_figure())
        frame.locator("#state").wait_for(state="detached")
        assert "Log loss over the ledger" in frame.locator("#f0").inner_text()
        assert wrong == []
        browser.close()


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_no_name_can_break_out_of_the_page(name: str):
    hostile = name + "</script><script>alert(1)</script>$title"
    figure = charts.roc([charts.CurveStyle(hostile, [0, 1], [0, 1])])
    text = charts.page(hostile, hostile, {hostile: figure})
    assert "<script>alert" not in text
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    names = [trace["name"] for trace in json.loads(data.group(1))[0]["data"]]
    assert hostile in names


@pytest.mark.parametrize("draw", [charts.roc, charts.precision_recall])
def test_curves_keep_every_point_that_they_are_given(draw):
    x, y = np.linspace(0, 1, 50), np.linspace(1, 0, 50)
    trace = next(
        t for t in draw([charts.CurveStyle("champion", x, y)]).data if t.name == "champion"
    )
    assert np.array_equal(np.asarray(trace.x), x)
    assert np.array_equal(np.asarray(trace.y), y)
