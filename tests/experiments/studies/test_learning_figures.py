"""The page on learning: its tables are what the formulas give, its pictures what the code draws."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments.simulation.world import World
from experiments.studies.figures.audits import budget, unseen, wrong
from experiments.studies.figures.simulated_service import EndedConversation, SimulatedService
from experiments.studies.figures.svg import BLUE, Panel, Scale, picture
from experiments.studies.figures.thresholds import costs
from learning.estimation.audit_sampling import uniform_variate

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "explanation" / "learning.md").read_text(encoding="utf-8")
SAID = json.loads((ROOT / "docs" / "figures" / "numbers.json").read_text(encoding="utf-8"))
made = importlib.import_module("experiments.studies.004_learning_figures")
BYTES_MAX = 80_000


@pytest.fixture(scope="module")
def ended() -> list[EndedConversation]:
    return list(SimulatedService(World(made.SEED, made.WORLD)).play(made.BEGINNING))


def test_the_pages_thresholds_are_those_of_its_costs() -> None:
    told = {
        f"{row[0]}:1": [float(cell) / 100 for cell in row[1:]]
        for row in re.findall(r"^\| (\d+) : 1[^|]*\|" + r" (\d+) % \|" * 3, PAGE, re.MULTILINE)
    }
    assert told == made.thresholds() | {
        name: [round(bar, 2) for bar in bars] for name, bars in made.thresholds().items()
    }


def test_the_pages_examples_are_those_of_the_formulas() -> None:
    for name, audits in made.enough().items():
        assert re.search(rf"\b{audits} (audits )?at (a rate of )?{name[:-1]} %", PAGE), name
    for rate, low, high in made.complaints().values():
        assert 0.05 <= rate <= 0.052
        assert f"{low:.1%} to {high:.1%}".replace("%", " %").replace(" % to", " to") in PAGE
    plain, ask, escalate = made.example()["thresholds"]
    assert f"offers a person from {ask:.0%}".replace("%", " %") in PAGE
    assert f"escalates from {escalate:.0%}".replace("%", " %") in PAGE
    assert ask < plain < escalate


def test_the_pages_numbers_are_of_the_run_that_drew_its_pictures() -> None:
    seen, ever, proven = SAID["unseen"], SAID["looks"], SAID["proof"]["better"]
    for told in (
        f"{seen['kept']} were kept and {seen['missed']} of those missed",
        f"Of {seen['missed']} missed conversations {seen['caught']} were complained of",
        f"(Wald) had been wrong at some look in {ever['wald']['ever_wrong']} of the 400",
        f"(Wilson) in {ever['wilson']['ever_wrong']}, Baton's in {ever['baton']['ever_wrong']}",
        f"after {proven['median_at']:.0f} conversations in the median",
        f"in {proven['learning_proven']} (after {proven['learning_median_at']:.0f})",
        f"at a true rate of {SAID['budget']['truth'] * 100:.1f} %",
        f"{SAID['costs']['ece']:.4f} here over".removeprefix("0"),
        *(f"{one['handed_over'] * 100:.1f} % | " for one in SAID["told"].values()),
        *(f"| {one['cost']:.3f} |" for one in SAID["told"].values()),
    ):
        assert told in PAGE


def test_the_pages_run_begins_as_it_would_today(ended: list[EndedConversation]) -> None:
    again = (
        "the model is another: run experiments.studies.004_learning_figures,"
        " mend docs/explanation/learning.md"
    )
    assert unseen(ended)[1] == SAID["beginning"], again


def test_every_picture_of_the_page_is_there_small_and_well_formed() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(\.\./(figures/\w+\.svg)\)", PAGE)
    there = {f"figures/{path.name}" for path in (ROOT / "docs" / "figures").glob("*.svg")}
    assert len(shown) >= 3
    assert set(shown) == there
    for name in shown:
        drawn = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert len(drawn.encode()) < BYTES_MAX
        assert ElementTree.fromstring(drawn).tag.endswith("svg")


def test_a_service_is_told_of_handoffs_complaints_and_what_is_drawn(
    ended: list[EndedConversation],
) -> None:
    kept = [one for one in ended if not one.handed_over]
    assert 0 < len(kept) < len(ended) == 900
    assert all(one.needed and not one.handed_over for one in ended if one.caught)
    assert all((one.audit is None) == one.handed_over for one in ended)
    for one in kept:
        assert one.audit is not None
        assert one.audit.uniform == (uniform_variate("7", "uniform", one.id) < 0.03)
    assert [one.scored for one in SimulatedService(World(7, made.WORLD)).play(20)] == [
        one.scored for one in ended[:20]
    ]


def test_pictures_are_drawn_of_what_happened(ended: list[EndedConversation]) -> None:
    drawn, said = unseen(ended)
    assert said["kept"] + said["handed_over"] == len(ended)
    assert said["estimate"][1] <= said["estimate"][0] <= said["estimate"][2]
    assert str(said["missed"]) in "".join(ElementTree.fromstring(drawn).itertext())
    for draw in (costs, budget):
        assert ElementTree.fromstring(draw(ended)[0]).tag.endswith("svg")


def test_an_interval_for_one_look_is_wrong_where_its_ends_leave_the_truth_out() -> None:
    s, n = np.array([0.0, 1.0, 5.0]), np.array([30.0, 50.0, 100.0])
    truth = np.array([0.02, 0.02, 0.2])
    assert wrong("wald", s, n, truth).tolist() == [True, False, True]
    assert wrong("wilson", s, n, truth).tolist() == [False, False, True]
    assert wrong("baton", s, n, truth).tolist() == [False, False, True]


def test_a_picture_holds_lines_within_its_axes_and_escapes_words() -> None:
    across = Scale(1, 100, [(1, "1"), (100, "100")], "x", log=True)
    panel = Panel(10, 20, 200, 100, across, Scale(0, 1, [(0, "0")], ""))
    assert panel.at(10, 0.5) == (110, 70)
    assert panel.at(1e9, -3) == (210, 120)
    panel.line([1, 10, 100], [0, 0, 1], BLUE)
    panel.words(1, 1, "a < b & c")
    drawn = picture("one", "told", 300, 200, [panel])
    assert "a < b & c" in "".join(ElementTree.fromstring(drawn).itertext())
    assert "M10.0 120.0L110.0 120.0L210.0 20.0" in drawn
