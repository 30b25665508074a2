"""Evaluations in MLflow: whole runs, once, with figures over the ledger."""

import os
from pathlib import Path

from learning.models.recipes import DEFAULT

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import pytest
from mlflow.data import get_source

from experiments.registry import runs
from experiments.registry.mlflow_client import RegistryUnavailable
from experiments.registry.registered_versions import Registry
from experiments.registry.run_record import NestedRun, RunDataset
from tests.registered import AT, CutOff, log, publish


def test_an_evaluation_is_a_run_with_metrics_over_the_ledger_and_its_figures(registry, client):
    run_id = log(registry, "evaluated")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["baton.verdict"] == "keep"
    assert run.data.params == {"recipe": DEFAULT}
    curve = client.get_metric_history(run_id, "champion/rolling_log_loss")
    assert [(m.step, m.value) for m in curve] == [(100 * n, 1 / n) for n in range(1, 9)]
    assert client.get_metric_history(run_id, "champion/auc")[0].step == 800
    assert {f.path for f in client.list_artifacts(run_id)} == {"figures.html", "report.json"}


def test_an_evaluation_links_to_the_versions_it_measured(registry, client):
    number = publish(registry, "linked")
    run_id = log(registry, "linked", numbers=[number, "77"])
    source = client.get_model_version("baton-linked", number).source
    linked = [model.model_id for model in client.get_run(run_id).inputs.model_inputs]
    assert [f"models:/{model_id}" for model_id in linked] == [source]


def test_an_evaluation_has_a_nested_run_for_each_line_and_its_data_as_a_dataset(registry, client):
    lines = [
        NestedRun(
            "champion", {"auc": 0.8}, {"log_loss": [(100, 0.5), (200, 0.4)]}, {"recipe": "b"}
        ),
        NestedRun("rules only", {"cost": 0.3}),
    ]
    data = RunDataset(
        "lessons 7 to 8", ("position", "label", "champion"), [(7, 1, 0.25), (8, 0, None)]
    )
    run_id = log(registry, "nested", nested=lines, data=data)
    assert log(registry, "nested", nested=lines, data=data) == run_id
    experiment = client.get_experiment_by_name("baton/nested").experiment_id
    within = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert {run.info.run_name: run.info.status for run in within} == {
        "champion": "FINISHED",
        "rules only": "FINISHED",
    }
    champion = next(run for run in within if run.info.run_name == "champion")
    assert champion.data.params == {"recipe": "b"}
    curve = client.get_metric_history(champion.info.run_id, "log_loss")
    assert [(m.step, m.value) for m in curve] == [(100, 0.5), (200, 0.4)]
    assert client.get_metric_history(champion.info.run_id, "auc")[0].step == 800
    (given,) = client.get_run(run_id).inputs.dataset_inputs
    assert given.tags[0].value == "evaluation"
    assert given.dataset.name == "lessons 7 to 8"
    file = Path(get_source(given.dataset).load())
    assert file.read_text() == "position,label,champion\n7,1,0.25\n8,0,\n"

    registry.remove_run(run_id)
    registry.remove_run(run_id)
    assert client.search_runs([experiment]) == []


def test_an_evaluation_is_logged_once(registry, client):
    first = log(registry, "once")
    assert log(registry, "once") == first
    assert log(registry, "once", "e-2") != first
    experiment = client.get_experiment_by_name("baton/once").experiment_id
    assert len(client.search_runs([experiment])) == 2


@pytest.mark.parametrize("step", ["create_run", "log_batch", "log_text", "set_terminated"])
@pytest.mark.parametrize("after", [False, True])
def test_an_evaluation_cut_off_at_any_step_becomes_one_whole_run(mlflow_url, client, step, after):
    workspace = f"torn-{step.replace('_', '-')}-{after}".lower()
    registry = Registry(mlflow_url)
    registry._client = CutOff(mlflow_url, step, after)
    with pytest.raises(RegistryUnavailable):
        log(registry, workspace)
    run_id = log(Registry(mlflow_url), workspace)
    experiment = client.get_experiment_by_name(f"baton/{workspace}").experiment_id
    assert [run.info.run_id for run in client.search_runs([experiment])] == [run_id]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(run_id, "champion/rolling_log_loss")) == 8
    assert len(client.list_artifacts(run_id)) == 2


def test_only_the_newest_pages_of_figures_and_those_that_mattered_are_kept(
    registry, client, monkeypatch
):
    monkeypatch.setattr(runs, "PAGES_KEPT", 2)
    mattered = log(registry, "thinned", "e-0", lasting=True)
    later = [log(registry, "thinned", f"e-{n}", at=AT + n) for n in range(1, 5)]
    assert [size(client, run) == size(client, mattered) for run in later] == [
        False, False, True, True,
    ]  # fmt: skip
    assert size(client, mattered) == len("<html></html>")
    assert log(registry, "thinned", "e-1") == later[0]


def size(client, run_id: str) -> int:
    return next(f.file_size for f in client.list_artifacts(run_id) if f.path == "figures.html")


def test_a_long_curve_goes_in_several_requests(registry, client):
    run_id = registry.evaluation_run(
        "long",
        "e-1",
        name="long",
        description="",
        position=2500,
        at=AT,
        metrics={},
        curves={"loss": [(n, 1.0 / (n + 1)) for n in range(2500)]},
    )
    assert len(client.get_metric_history(run_id, "loss")) == 2500
