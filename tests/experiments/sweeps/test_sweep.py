"""A sweep tries what was asked, once, wherever it runs, and says what would have been."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from mlflow import MlflowClient

from experiments.datasets import ledger_export
from experiments.datasets.streams import episode_line, read
from experiments.replay import play
from experiments.simulation.world import episodes
from experiments.sweeps import backends, grid, trials
from experiments.sweeps.backends import BackendUnavailable, LocalBackend
from experiments.sweeps.grid import SweepError
from experiments.sweeps.search import Sweep
from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions
from learning.models.recipes import UnknownRecipe
from service.operations.sweep_source import LedgerSource, resume_or_begin
from service.store.database.transactions import Store
from service.versions.challengers.challenger_requests import build_pending
from service.versions.model_lines import rebuild
from tests.fork_server import command
from tests.ledgers import CONVERSATIONS, bodies, learned, numbered, transcript
from tests.mlflow_server import running_mlflow
from tests.running import NOWHERE, ROOT, Home, installation, teach
from tests.waiting import LIMIT_SECONDS, until

RECIPES = ("--recipe", "bayes-4", "--recipe", "adagrad-4", "--with", "v0=0.03,0.3")
TRIED = ["adagrad-4", "bayes-4?v0=0.03", "bayes-4?v0=0.3"]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "talks.jsonl"
    path.write_text("".join(episode_line(one) + "\n" for one in episodes(5, 60)))
    return path


def environ(**given: str) -> dict[str, str]:
    return os.environ | {"BATON_MLFLOW_URL": NOWHERE} | given


def sweep(stream: Path | str, home: Path, *more: str, **given: str) -> dict[str, Any]:
    """What `baton sweep --json` prints."""
    words = ("sweep", *([str(stream)] if stream else []), *RECIPES, "--home", str(home), "--json")
    found = command(*words, *more, environ=environ(**given))
    assert found.returncode == 0, found.stderr[-3000:]
    return dict(json.loads(found.stdout)) | {"stderr": found.stderr}


def figures(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The trials as far as they must be equal wherever they ran."""
    return [{k: v for k, v in t.items() if k not in ("seconds", "node")} for t in found["trials"]]


# What is tried


def test_a_grid_is_every_recipe_with_every_value_that_it_has_a_parameter_for() -> None:
    values = grid.named_values(["v0=.3,0.30,.1", "rate=.05"])
    assert grid.grid(["bayes-4", "adagrad-4"], values) == [
        "bayes-4?v0=0.3",
        "bayes-4",
        "adagrad-4?rate=0.05",
    ]
    assert grid.grid(["bayes-4?forgetting=0.01"], {"v0": ["1"]}) == [
        "bayes-4?v0=1.0,forgetting=0.01"
    ]


def test_the_same_seed_draws_the_same_trials_within_their_ranges() -> None:
    values = grid.named_values(["v0=0.01..1", "forgetting=0..0.1"])
    found = grid.draw_trials(["bayes-4"], values, 20, seed=3)
    assert found == grid.draw_trials(["bayes-4"], values, 20, seed=3)
    assert (
        len(set(found)) == 20 != len(set(found) & set(grid.draw_trials(["bayes-4"], values, 20, 4)))
    )
    drawn = [trials_parameters(name) for name in found]
    assert all(0.01 <= one.get("v0", 0.1) <= 1.0 for one in drawn)
    assert all(0.0 <= one.get("forgetting", 0.0) <= 0.1 for one in drawn)


def trials_parameters(name: str) -> dict[str, float]:
    given = name.partition("?")[2]
    return {k: float(v) for k, v in (part.split("=") for part in given.split(",") if part)}


@pytest.mark.parametrize(
    "recipes,values,said",
    [
        (["bayes-4"], ["rate=1"], "none of bayes-4 has a parameter 'rate'; there are buckets"),
        (["bayes-4"], ["v0=0.1..1"], "is a range; name values, or draw from it with --random"),
        (["bayes-4"], ["v0"], "'v0' cannot be read; write name=value"),
        (["bayes-4"], ["v0=x"], "parameter v0 cannot be 'x'"),
        (["bayes-9"], [], "there is no recipe 'bayes-9'"),
        (["bayes-4"], ["v0=" + ",".join(f"1.{n}" for n in range(10_001))], "more than 10000"),
    ],
)
def test_what_cannot_be_tried_is_told(recipes: list[str], values: list[str], said: str) -> None:
    with pytest.raises((SweepError, UnknownRecipe), match=said.replace("?", ".")):
        grid.grid(recipes, grid.named_values(values))


# What a trial says


@settings(max_examples=25, deadline=None)
@given(bodies().map(numbered))
def test_learning_from_a_history_is_learning_from_its_ledger(entries: list[Any]) -> None:
    gone = Exclusions(agent="mallory")
    pages = [
        (e, transcript(e.body["conversation_id"], e.body["covers"]) if e.kind == "outcome" else ())
        for e in entries
    ]
    path = CACHE / "history.jsonl.gz"
    found = ledger_export.write(path, pages, gone)
    assert [(e, list(turns)) for e, turns in ledger_export.read(path)] == [
        (plain(e), list(turns)) for e, turns in pages
    ]
    result = trials.play(path.read_bytes(), found, "bayes-4")
    assert result["digest"] == checkpoint.digest(learned(entries, without=gone))


def plain(entry: Any) -> Any:
    return type(entry)(**json.loads(json.dumps(asdict(entry))))


CACHE: Path


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    global CACHE
    CACHE = tmp_path_factory.mktemp("histories")
    assert len(CONVERSATIONS) > 1


def test_the_figures_of_a_trial_are_those_of_a_replay(stream: Path, tmp_path: Path) -> None:
    swept = Sweep.begin(tmp_path / "one", ledger_export.of_stream(read(stream)))
    outcome = swept.run(LocalBackend(1), ["bayes-4"], lambda _: None)
    played = play.bare(read(stream), recipe="bayes-4").report.json()
    (result,) = outcome.results
    assert (result["digest"], result["position"]) == (played["digest"], played["position"])
    for name in trials.MEASURES:
        assert result["measures"][name] == played[name]
    for name in ("auc", "average_precision", "log_loss", "ece"):
        assert result["later"][name] == played["second_half"][name]


def test_a_trial_that_cannot_be_played_fails_alone_and_is_tried_again(
    stream: Path, tmp_path: Path
) -> None:
    swept = Sweep.begin(tmp_path / "one", ledger_export.of_stream(read(stream)))
    outcome = swept.run(LocalBackend(1), ["gone-1", "bayes-4"], lambda _: None)
    assert [one["recipe"] for one in outcome.results] == ["bayes-4"]
    assert "there is no recipe 'gone-1'" in outcome.failed[0]["failed"]
    again = swept.run(LocalBackend(1), ["gone-1", "bayes-4"], lambda _: None)
    assert (again.resumed, len(again.failed)) == (1, 1)


# A workspace's ledger


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with installation(tmp_path_factory.mktemp("sweep")) as home:
        yield home


def test_a_sweep_of_a_ledger_learns_what_a_rebuild_learns_and_keeps_no_text(home: Home) -> None:
    service = home.serve()
    place = home.workspace("swept", service)
    with place.caller("engineer", service) as client:
        taught = [teach(client, f"c{number}", number) for number in range(12)]
        client.delete(f"/v1/outcomes/{taught[4]['id']}")
    found = sweep("", home.folder, "--workspace", "swept", "--no-mlflow")
    assert sorted(t["recipe"] for t in found["trials"]) == TRIED
    assert found["outcomes"] == 11
    store = Store(home.url)
    for trial in found["trials"]:
        made = rebuild(store, "swept", trial["recipe"], Exclusions())
        assert checkpoint.digest(made) == trial["digest"]
    best = found["trials"][0]["recipe"]
    words = shlex.split(found["next"])[1:]
    assert words[:2] == ["challenge", best]
    asked = home.command(*words[: words.index("--home")])
    build_pending(store, "swept")
    sql = "SELECT v.recipe, v.digest FROM version v JOIN challenger c ON v.number = c.version "
    (row,) = home.rows(sql + "AND v.workspace = c.workspace WHERE c.id = ?", asked["id"])
    assert row == {"recipe": best, "digest": found["trials"][0]["digest"]}
    texts = [p for p in (home.folder / "sweeps").rglob("*") if p.suffix == ".gz"]
    assert texts == []
    begun = resume_or_begin(home.folder, LedgerSource(store, "swept", 5), TRIED)
    assert begun.history.position == 5
    store.close()


# Broken off, and gone on with


@pytest.mark.long
def test_a_killed_sweep_goes_on_where_it_was(stream: Path, tmp_path: Path) -> None:
    words = ("sweep", str(stream), *RECIPES, "--workers", "1", "--no-mlflow", "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *words, "--home", str(tmp_path / "one")],
        cwd=ROOT,
        env=environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def has_tried() -> bool:
        assert process.poll() is None
        return bool(list((tmp_path / "one").glob("sweeps/*/trials/*.json")))

    until(has_tried, "a trial is kept", every=0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(LIMIT_SECONDS)
    on = sweep(stream, tmp_path / "one", "--workers", "1", "--no-mlflow")
    whole = sweep(stream, tmp_path / "other", "--workers", "2", "--no-mlflow")
    assert (on["resumed"] >= 1, whole["resumed"]) == (True, 0)
    assert figures(on) == figures(whole)


# MLflow


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


def test_every_trial_is_a_nested_run_once_also_when_mlflow_was_away(
    stream: Path, tmp_path: Path, mlflow_url: str
) -> None:
    away = sweep(stream, tmp_path)
    assert "no MLflow at" in away["mlflow"]["why"]
    assert "the same command logs them later" in away["stderr"].replace("\n", " ")
    for _ in range(2):
        found = sweep(stream, tmp_path, BATON_MLFLOW_URL=mlflow_url)
        assert (found["resumed"], found["mlflow"]["trials"]) == (3, 3)
        assert figures(found) == figures(away)
    client = MlflowClient(mlflow_url)
    experiment = client.get_experiment_by_name("baton/default")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("baton.kind") == "sweep"]
    nested = {r.data.tags["mlflow.runName"]: r for r in runs if r is not parent}
    assert sorted(nested) == TRIED
    for trial in found["trials"]:
        run = nested[trial["recipe"]]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.metrics["later/log_loss"] == trial["later"]["log_loss"]
        assert run.info.status == "FINISHED"
    assert nested["bayes-4?v0=0.3"].data.params == {"recipe": "bayes-4", "v0": "0.3"}
    assert parent.data.tags["baton.best"] == found["trials"][0]["recipe"]
    assert found["trials"][0]["recipe"] in parent.data.tags["mlflow.note.content"]


# Ray


@pytest.mark.long
def test_a_ray_cluster_of_two_nodes_gives_the_same_figures(stream: Path, tmp_path: Path) -> None:
    local = sweep(stream, tmp_path / "local", "--no-mlflow")
    with cluster() as address:
        more = ("--engine", "ray", "--ray-address", address, "--no-mlflow")
        found = sweep(stream, tmp_path / "ray", *more)
    assert found["engine"] == "ray"
    assert figures(found) == figures(local)
    assert len({trial["node"] for trial in found["trials"]}) == 2


class cluster:  # noqa: N801
    """Two nodes of one processor each, on this machine, ended with the block."""

    def __enter__(self) -> str:
        code = (
            "import sys\n"
            "from ray.cluster_utils import Cluster\n"
            "node = dict(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)\n"
            "found = Cluster(initialize_head=True, head_node_args=node)\n"
            "found.add_node(**node)\n"
            "print(found.address, flush=True)\n"
            "sys.stdin.read()\n"
            "found.shutdown()\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            env=environ() | backends.RAY_QUIET,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        assert address, "the cluster did not start"
        return address

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=LIMIT_SECONDS)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        BackendUnavailable, match=r"needs the extra `ray`: pip install 'baton\[ray\]'"
    ):
        backends.get_backend("ray")
    with pytest.raises(BackendUnavailable, match="use local or ray"):
        backends.get_backend("spark")
