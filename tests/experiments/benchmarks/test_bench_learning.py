"""The benches of learning and of guarantees, in small: what they measure is what Baton does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.benchmarks.__main__ import app as benchmarks
from experiments.benchmarks.guarantees import guarantee_table
from experiments.benchmarks.inputs import feedback_regimes
from experiments.benchmarks.inputs.feature_rows import (
    SIMULATED,
    FeatureRows,
    ModelLine,
    in_order,
    simulated_talks,
)
from experiments.benchmarks.model_quality import calibration_error, handoff_points, target_table
from experiments.benchmarks.model_quality.benchmark import LearningPlan, choose_data, run
from experiments.evaluation.metric_intervals import noise_floor
from experiments.replay.play import bare
from experiments.simulation.world import episodes
from learning.measures.scores import measures
from service.cli import app

SEED, COUNT = 77, 60


@pytest.fixture(scope="module")
def talks() -> tuple[FeatureRows, ...]:
    return simulated_talks(SEED, COUNT)


def test_a_line_on_rows_says_to_the_bit_what_the_ledger_s_loop_says(
    talks: tuple[FeatureRows, ...],
) -> None:
    """So the bench measures the product, not a likeness of it."""
    played = bare(episodes(SEED, COUNT))
    assert (
        feedback_regimes.play(talks, feedback_regimes.FULL, 0).probability
        == played.tally.probabilities
    )


def test_a_learner_that_is_told_nothing_stays_as_it_began(talks: tuple[FeatureRows, ...]) -> None:
    nothing = feedback_regimes.FeedbackRegime("nothing", "random", share=0.0)
    played = feedback_regimes.play(talks, nothing, 0)
    fresh = ModelLine()
    assert played.labels == 0
    assert played.probability == [fresh.score(row) for talk in talks for row in talk.rows]


def test_more_help_means_more_labels(talks: tuple[FeatureRows, ...]) -> None:
    alone = feedback_regimes.FeedbackRegime("alone")
    audited = feedback_regimes.FeedbackRegime("many audits", audited=0.5, caught=1.0)
    few, many = (feedback_regimes.play(talks, regime, 0) for regime in (alone, audited))
    assert few.labels < many.labels <= sum(len(talk.labels) for talk in talks)
    assert few.asked == 0 < many.asked


def test_silence_teaches_of_what_nobody_told_that_nobody_was_needed(
    talks: tuple[FeatureRows, ...],
) -> None:
    alone, silent = (
        feedback_regimes.FeedbackRegime("alone"),
        feedback_regimes.FeedbackRegime("silent", silence=0.5),
    )
    heard, unheard = (feedback_regimes.play(talks, regime, 0) for regime in (alone, silent))
    assert np.mean(unheard.probability) < np.mean(heard.probability)
    told, beside = (
        feedback_regimes.FeedbackRegime("all", "all", silence=weight) for weight in (0.0, 0.5)
    )
    one, other = (feedback_regimes.play(talks, regime, 0) for regime in (told, beside))
    assert one.probability == other.probability


def test_a_catch_tells_only_of_what_was_missed() -> None:
    """A kept conversation that needed nobody cannot be caught."""
    needless = [talk for talk in simulated_talks(SEED, COUNT) if max(talk.labels) <= 0.5]
    caught = feedback_regimes.FeedbackRegime("caught", caught=1.0)
    alone = feedback_regimes.FeedbackRegime("alone")
    one, other = (feedback_regimes.play(needless, regime, 0) for regime in (caught, alone))
    assert one.probability == other.probability


def test_an_honest_model_shows_what_chance_shows() -> None:
    random = np.random.default_rng(1)
    p = random.random(4000)
    seen = measures(p, random.random(4000) < p)["ece"]
    assert seen == pytest.approx(noise_floor(p), abs=0.01)


def test_only_the_order_differs_between_seeds(talks: tuple[FeatureRows, ...]) -> None:
    assert in_order(talks, 0) == list(talks)
    assert in_order(talks, 1) != list(talks)
    assert sorted(t.id for t in in_order(talks, 1)) == sorted(t.id for t in talks)


def test_perfect_points_of_handoff_score_one_and_the_blind_rule_less() -> None:
    talks = simulated_talks(SEED, COUNT)
    perfect = handoff_points.figures(
        [(t, list(t.labels), [y > 0.5 for y in t.labels]) for t in talks]
    )
    assert perfect["f1"] == perfect["auc"] == perfect["gt_1"] == 1.0
    assert handoff_points.blind(talks)["gt_1"] < 1.0


def test_after_a_jump_only_the_labels_after_it_count() -> None:
    found = calibration_error.jump(0, 400)
    assert len(found["label"]) == len(found["raw"]) == len(found["calibrated"]) > 200
    assert np.mean(found["label"]) > calibration_error.RARE


@pytest.mark.long
def test_every_line_of_the_targets_is_judged_by_its_worst_data_set() -> None:
    rows = run(LearningPlan("", (SIMULATED,), 1, 1, 40, 60, 80, 120, 40, 1), lambda *_: None)
    lines = target_table.targets(rows)
    assert {"AUC of full labels'", "VowpalWabbit", "ECE", "drift"} <= {x["row"] for x in lines}
    for line in lines:
        worst = min if line["goal"].startswith(">=") else max
        assert line["measured"] == worst(line["parts"].values()), line
        assert line["holds"] is None or isinstance(line["holds"], bool)


def test_an_unknown_data_set_is_named() -> None:
    with pytest.raises(ValueError, match="moon is no data set"):
        choose_data(["moon"])


@pytest.mark.long
def test_the_guarantees_are_told_as_promised_and_seen() -> None:
    told = CliRunner().invoke(benchmarks, ["guarantees", "--streams", "4", "--json"])
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)
    assert {"name", "promised", "seen", "holds"} <= set.intersection(*map(set, rows))
    assert len(rows) >= 5


def test_a_stream_of_the_guarantees_can_be_played_again() -> None:
    for stream, _ in guarantee_table.CHECKS.values():
        assert stream(3) == stream(3)


@pytest.mark.long
@pytest.mark.slow
def test_the_command_writes_a_figure_a_question(tmp_path: Path) -> None:
    command = ["bench", "learning", "--quick", "--set", SIMULATED, "--workers", "1", "--json"]
    told = CliRunner().invoke(app, [*command, "--figures", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert any(row["question"] == "targets" for row in json.loads(told.stdout))
    assert {path.name for path in tmp_path.iterdir()} >= {"curves.html", "labels.html"}
