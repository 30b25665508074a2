import csv
import html
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.evaluation.decision_costs import (
    ALWAYS_CONTINUE,
    MISSED,
    RULES_ONLY,
    TOP,
    JudgedOutcome,
)
from experiments.evaluation.evaluation_report import (
    LENGTH,
    Report,
    Switch,
    Verdict,
    append_trail,
    evaluate,
)
from experiments.evaluation.figures.figures_page import figures, figures_page
from experiments.evaluation.figures.segment_charts import figure, files
from experiments.evaluation.line_measures import EvaluatedLine
from experiments.evaluation.metric_intervals import band
from experiments.evaluation.mlflow_run import description, publish
from learning.estimation.decision_loss import DecisionLoss
from learning.measures.scores import Scores, log_losses, measures
from learning.models.recipes import DEFAULT
from tests.mlflow_server import running_mlflow

TERMS = DecisionLoss(escalate=0.2, unneeded=1.0, missed=4.0)
BACK = Verdict("roll back", "Its loss rose.", {"champion": 12}, acted=True)
AT = 1_790_000_000.0


def scored(n: int, skill: float, seed: int = 1, bad_from: int | None = None) -> Scores:
    """n lessons of n conversations, a fifth of which need a person; wrong from a position on."""
    world, own = np.random.default_rng(99), np.random.default_rng(seed)
    label = (world.random(n) < 0.2).astype(np.float64)
    position = np.arange(1, n + 1, dtype=np.int64)
    p = 1 / (1 + np.exp(-(skill * (2 * label - 1) - 1.4 + 0.7 * own.normal(size=n))))
    if bad_from is not None:
        p = np.where(position > bad_from, 1 - p, p)
    return Scores(position, p, label, np.ones(n), position.copy())


NOTHING = scored(0, 1.0)
SWITCHES = (Switch(1, 1, "first version"), Switch(500, 12, "promoted by an engineer"))


def report(champion: Scores, previous: Scores | None = None, switches=SWITCHES, **more) -> Report:
    lines = [EvaluatedLine("champion", 12, DEFAULT, champion)]
    if previous is not None:
        lines.append(EvaluatedLine("previous", 9, "bayes-4", previous))
    return evaluate("e-1", 1000, AT, *lines, terms=TERMS, switches=switches, **more)


def known(scores: Scores, **changed) -> list[JudgedOutcome]:
    """Every outcome judged, none by a rule."""
    given = {
        "propensity": 1.0,
        "ruled": False,
        "handed_over": False,
        "by_rule": False,
        "uniform": 0.0,
        "caught": False,
        "decided_at": AT,
        "segments": ("team support",),
    } | changed
    return [
        JudgedOutcome(int(at), f"c{at}", AT, bool(label > 0.5), **given)
        for at, label in zip(scores.position, scores.label, strict=True)
    ]


def test_what_was_found_stands_in_the_report_with_its_evidence():
    found = report(scored(1000, 1.5), verdict=BACK)
    assert (found.verdict, found.acted, found.evidence) == ("roll back", True, {"champion": 12})
    assert report(scored(1000, 1.5)).verdict == "keep"


def test_lines_and_yardsticks_stand_side_by_side_over_the_same_conversations():
    good, other = scored(900, 1.5), scored(900, 0.2, seed=2)
    found = report(good, other, outcomes=known(good)).beside["recent"]
    assert set(found) == {"champion", "previous", RULES_ONLY, ALWAYS_CONTINUE}
    assert {one["conversations"] for one in found.values()} == {500}
    needed = good.label[-500:].mean()
    assert found[ALWAYS_CONTINUE]["cost_per_conversation"][0] == pytest.approx(4.0 * needed)
    assert found[ALWAYS_CONTINUE] == found[RULES_ONLY]
    more, low, high = found["previous"]["more_than_champion"]
    assert 0 < low < more < high
    assert found["champion"]["more_than_champion"] is None


def test_rules_hand_over_whatever_a_line_says():
    good = scored(900, 1.5)
    found = report(good, outcomes=known(good, ruled=True)).beside["recent"]
    assert found[RULES_ONLY]["escalated"][0] == found["champion"]["escalated"][0] == 1.0
    assert found[ALWAYS_CONTINUE]["escalated"][0] == 0.0


def test_an_audited_conversation_speaks_for_those_that_were_not_drawn():
    """Half of those with an even position are left out, and the cost is the same in the mean."""
    good = scored(4000, 1.5)
    every = known(good)
    some = [f for f in every if f.position % 2] + [
        fact for fact in known(good, propensity=0.5) if fact.position % 4 == 0
    ]
    whole, part = (
        report(good, outcomes=f, switches=()).beside["since_switch"] for f in (every, some)
    )
    exact = whole["champion"]["cost_per_conversation"][0]
    _, low, high = part["champion"]["cost_per_conversation"]
    assert low < exact < high


def test_what_is_no_sample_is_not_counted():
    good = scored(900, 1.5)
    assert report(good, outcomes=known(good, propensity=0.0)).segments == {}


def test_each_segment_has_its_own_figures():
    good = scored(900, 1.5)
    some = [*known(good)[:600], *known(good, segments=("channel app", "language de"))[600:]]
    found = report(good, outcomes=some).segments
    assert {name: one["conversations"] for name, one in found.items()} == {
        "team support": 600,
        "channel app": 300,
        "language de": 300,
    }
    assert found["channel app"] == found["language de"]
    assert found["team support"]["log_loss"][0] != found["channel app"]["log_loss"][0]


def test_each_segment_tells_what_was_really_found_and_the_yardsticks_beside_it():
    good = scored(900, 1.5)
    judged = known(good, handed_over=True, segments=("rule legal",))
    sampled = known(good, uniform=0.5, segments=("channel app",))
    lost = [fact for fact in known(good, caught=True, segments=("channel app",)) if fact.needed]
    found = report(good, outcomes=[*judged, *sampled, *lost]).segments
    rate, app = found["rule legal"]["made"]["false_escalation_rate"], found["channel app"]["made"]
    needed = int(good.label.sum())
    assert (rate["count"], rate["among"]) == (900 - needed, 900)
    assert found["rule legal"]["made"]["missed_of_audited"]["rate"] is None
    assert app["missed_of_audited"]["rate"] == pytest.approx(needed / 900)
    assert (app["audited"], app["caught"]) == (900, needed)
    costs = found["rule legal"]["yardsticks"]
    assert costs[ALWAYS_CONTINUE][0] == pytest.approx(4.0 * needed / 900)
    assert set(costs) == {ALWAYS_CONTINUE, RULES_ONLY}


def test_the_table_of_segments_has_every_part_and_says_what_is_not_known():
    good = scored(900, 1.5)
    names = {'channel =app, "x"': 600, "language de": 300}
    facts = [
        *known(good, segments=('channel =app, "x"',))[:600],
        *known(good, segments=("language de",))[600:],
    ]
    body = report(good, outcomes=facts).body()
    (text,) = files(body).values()
    written = list(csv.DictReader(io.StringIO(text)))
    assert {row["part"]: int(row["conversations"]) for row in written} == names
    for row in written:
        assert float(row["cost low"]) < float(row["cost"]) < float(row["cost high"])
        assert row["false_escalation_rate"] == "", "no handoff was judged"
    drawn = figure(body).data[0]
    assert [list(cells) for cells in drawn.cells.values][-1] == ["not known"] * 2
    assert list(drawn.cells.values[0]) == [
        html.escape(name) for name in ("language de", 'channel =app, "x"')
    ]
    assert files(report(NOTHING).body()) == {}


def test_an_interval_lies_around_its_measure_and_is_the_same_each_time():
    found = report(scored(900, 1.2)).lines[0]
    for window in ("recent", "since_switch"):
        for name in ("auc", "log_loss", "brier"):
            low, high = found["intervals"][window][name]
            assert low < found["measures"][window][name] < high
    assert report(scored(900, 1.2)).lines[0]["intervals"] == found["intervals"]
    assert report(scored(15, 1.2)).lines[0]["intervals"]["recent"] == {}


def test_the_measures_are_those_of_the_scores():
    scores = scored(900, 1.2)
    line = report(scores).lines[0]
    found = line["measures"]
    arrays = scores.probability, scores.label, scores.weight
    assert found["kept"] == measures(*arrays)
    assert found["recent"] == measures(*(a[-500:] for a in arrays))
    assert found["since_switch"] == measures(*(a[scores.position > 500] for a in arrays))
    assert math.isclose(found["kept"]["log_loss"], log_losses(*arrays[:2]).mean())


def test_the_decisions_are_counted_by_conversation_at_the_policys_threshold():
    p = np.array([0.1, 0.9, 0.3, 0.1, 0.15])
    y = np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    conversation = np.array([7, 7, 8, 9, 10])
    scores = Scores(np.arange(1, 6), p, y, np.ones(5), conversation)
    found = report(scores, switches=()).lines[0]["decisions"]
    assert (found["conversations"], found["escalated"], found["needed"]) == (4, 2, 2)
    assert found["false_escalation_rate"] == 0.5
    assert found["missed_rate"] == 0.5
    assert found["cost_per_conversation"] == (1.0 + 4.0) / 4


def test_the_curve_ends_where_the_lessons_end_and_has_a_bounded_number_of_points():
    for n in (1, 30, 199, 200, 4096):
        points = report(scored(n, 1.0)).lines[0]["curve"]
        assert points[-1][0] == n
        assert len(points) <= 90


def test_a_short_history_has_a_curve_too():
    assert report(scored(200, 1.2)).span == 50
    assert len(report(scored(200, 1.2)).lines[0]["curve"]) >= 6
    assert report(scored(4096, 1.2)).span == 200


def test_the_roc_goes_from_nothing_to_everything_and_its_area_is_the_auc():
    scores = scored(900, 1.2)
    line = report(scores).lines[0]
    false, found = line["roc"]
    assert (false[0], found[0], false[-1], found[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert abs(np.trapezoid(found, false) - line["measures"]["kept"]["auc"]) < 0.005


def test_the_cost_of_escalating_everyone_or_nobody_is_what_the_policy_says():
    scores = scored(900, 1.2)
    threshold, cost = report(scores).lines[0]["cost"]
    rate = float(scores.label.mean())
    assert (threshold[0], threshold[-1]) == (0.0, 1.0)
    assert math.isclose(cost[0], 1.0 * (1 - rate), abs_tol=1e-6)
    assert math.isclose(cost[-1], 4.0 * rate, abs_tol=1e-6)
    assert min(cost) < cost[0]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 5)),
        max_size=30,
    )
)
def test_every_report_is_plain_json_that_reads_back_the_same_and_can_be_drawn(rows):
    p = np.array([row[0] for row in rows], float)
    y = np.array([row[1] for row in rows], float)
    conversation = np.array([row[2] for row in rows], np.int64)
    scores = Scores(np.arange(1, len(rows) + 1), p, y, np.ones(len(rows)), conversation)
    found = report(scores, scores, outcomes=known(scores))
    text = json.dumps(found.body(), allow_nan=False)
    assert Report.of(json.loads(text)).body() == json.loads(text)
    assert len(figures(json.loads(text))) >= 6


def test_a_report_of_another_format_is_not_misread():
    with pytest.raises(ValueError, match="format 99"):
        Report.of(report(NOTHING).body() | {"format": 99})


def test_a_workspace_without_any_outcome_has_a_report_and_a_page():
    found = report(NOTHING, NOTHING, switches=())
    assert found.verdict == "keep"
    assert "<h1>Evaluation at ledger position 1000: keep</h1>" in figures_page(found.body())


def test_switches_before_the_kept_lessons_are_not_drawn():
    scores = scored(1000, 1.2)
    late = Scores(*(getattr(scores, n)[600:] for n in scores.__dataclass_fields__))
    drawn = next(iter(figures(report(late).body()).values()))
    upright = [shape.x0 for shape in drawn.layout.shapes if shape.x0 == shape.x1]
    assert upright == []


def test_no_conversation_can_be_told_from_a_report():
    scores = scored(300, 1.2)
    marked = Scores(
        scores.position, scores.probability, scores.label, scores.weight,
        scores.conversation + 77_000_000_000_000,
    )  # fmt: skip
    assert "77000000000" not in json.dumps(report(marked).body())


def test_a_mistake_is_told_by_its_conversation_alone_and_links_to_its_transcript():
    """Only what it got most wrong is named, so that somebody can read it in Baton."""
    scores = scored(300, 1.2)
    facts = known(scores, handed_over=False)
    found = report(scores, outcomes=facts).body()
    worst = found["mistakes"]
    assert 0 < len(worst) <= TOP
    assert [one["regret"] for one in worst] == sorted((x["regret"] for x in worst), reverse=True)
    assert {one["what"] for one in worst} == {MISSED}
    by_name = {fact.conversation: fact for fact in facts}
    assert all(by_name[one["conversation"]].needed for one in worst)
    told = description(found, "http://baton/console/transcript?id=")
    name = worst[0]["conversation"]
    assert f"[{name}](http://baton/console/transcript?id={name})" in told
    assert "](" not in description(found)


def test_the_data_of_a_window_has_what_each_line_said_of_the_same_lessons():
    scores, other = scored(700, 1.2), scored(700, 0.4, seed=3)
    later = Scores(*(getattr(other, n)[300:] for n in other.__dataclass_fields__))
    found = report(scores, later).body()["data"]
    assert found["columns"][:4] == ["position", "lesson", "label", "weight"]
    assert found["columns"][4:] == ["champion", "previous"]
    assert len(found["rows"]) == 500
    for at, _, label, _, champion, previous in found["rows"]:
        place = scores.position.tolist().index(at)
        assert (label, champion) == (scores.label[place], round(scores.probability[place], 6))
        expected = None if place < 300 else round(float(other.probability[place]), 6)
        assert previous == expected


def test_a_trail_grows_with_each_evaluation_and_stays_short():
    trail: list = []
    for number in range(1000):
        rates = {"recent": {"missed_rate": {"rate": number / 1000, "low": 0.0, "high": 1.0}}}
        trail = append_trail(trail, number, float(number), rates, None)
        assert len(trail) <= LENGTH
        assert trail[-1]["position"] == number
        assert [point["position"] for point in trail] == sorted(p["position"] for p in trail)
    assert trail[0]["position"] == 0
    assert trail[-1]["missed_rate"]["rate"] == 0.999
    assert trail[-1]["evidence"] is None


@pytest.mark.parametrize("measure", ["log_loss", "auc"])
def test_the_band_of_a_point_covers_what_more_of_the_same_would_have_shown(measure):
    """At 95 %, seen over many histories: not far below, and not far above."""

    def history(seed: int, conversations: int) -> Scores:
        """Three lessons a conversation, of the same label and alike."""
        draw = np.random.default_rng(seed)
        label = np.repeat((draw.random(conversations) < 0.3).astype(float), 3)
        own = np.repeat(draw.normal(size=conversations), 3) + 0.3 * draw.normal(size=label.size)
        p = 1 / (1 + np.exp(-(1.2 * (2 * label - 1) - 0.8 + own)))
        names = np.repeat(np.arange(conversations), 3)
        return Scores(names + 1, p, label, np.full(label.size, 1 / 3), names)

    whole = history(12345, 40_000)
    truth = measures(whole.probability, whole.label, whole.weight)[measure]
    bounds = [band(history(seed, 150))[measure] for seed in range(200)]
    assert 180 <= sum(low <= truth <= high for low, high in bounds) <= 200
    assert max(high - low for low, high in bounds) < 0.4


def test_measuring_does_not_import_mlflow(tmp_path):
    repository = Path(__file__).resolve().parents[3]
    code = "import sys, experiments.evaluation.evaluation_report; sys.exit('mlflow' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.long
def test_a_report_kept_while_mlflow_was_away_is_published_later_once(tmp_path):
    from experiments.registry.mlflow_client import RegistryUnavailable
    from experiments.registry.registered_versions import Registry
    from tests.mlflow_server import free_port

    good = scored(1000, 1.5)
    found = report(good, scored(1000, 1.5, seed=2), verdict=BACK, outcomes=known(good))
    kept = json.dumps(found.body())
    port = free_port()
    registry = Registry(f"http://127.0.0.1:{port}")
    with pytest.raises(RegistryUnavailable):
        publish(Report.of(json.loads(kept)), registry, "default")
    with running_mlflow(tmp_path / "mlflow", port) as url:
        runs = {publish(Report.of(json.loads(kept)), registry, "default") for _ in range(3)}
        assert len(runs) == 1
        assert_the_run_tells_the_story(url, runs.pop())


def assert_the_run_tells_the_story(url: str, run_id: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(url, url)
    run = client.get_run(run_id)
    assert run.info.run_name == "roll back at 1000"
    assert run.data.tags["baton.verdict"] == "roll back"
    assert BACK.sentence in run.data.tags["mlflow.note.content"]
    steps = [point.step for point in client.get_metric_history(run_id, "champion/log_loss")]
    assert steps == sorted(steps)
    assert steps[-1] == 1000
    assert run.data.metrics["champion - all kept lessons/n"] == 1000
    files = {f.path for f in client.list_artifacts(run_id)}
    assert files == {"figures.html", "lessons.csv", "report.json", "segments.csv"}
    within = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    names = {line.info.run_name: line for line in within}
    assert {"champion", "previous"} <= set(names)
    previous = client.get_metric_history(names["previous"].info.run_id, "log_loss")
    assert [point.step for point in previous] == steps
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "lessons at positions 501 to 1000"
