import ast
import json
import os
import socket
import subprocess
import sys
import threading
import time
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.parse import parse_qs

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import pytest
from mlflow import MlflowClient
from mlflow.data import get_source

from experiments import bundle, published
from experiments.mlflow_server import desk, server
from experiments.published import Published, conversation
from experiments.registry import Registry, RegistryRefused, RegistryUnavailable, runs
from experiments.registry.desk import about_experiment
from experiments.run_parts import Data, Nested
from learning import checkpoint
from learning.conversation import fold
from learning.ledger import Entry, Standing, Turn
from learning.switching import CHALLENGERS_MAX
from service.aliases import ANCHOR, BLOCKED_TAG, CHALLENGER, CHAMPION, PREVIOUS, REFUSED_TAG
from tests.mlflow_server import free_port

REPOSITORY = Path(__file__).resolve().parents[1]
AT = 1_790_000_000.0

ASKED = (
    ("Where is my parcel?", "It is on its way.", "It says delivered, but there is nothing here!!"),
    ("Hi", "Hello! How can I help?", "Change my address please"),
    ("My card was charged twice", "Sorry, I did not get that.", "TWICE. I want a refund NOW"),
    ("What are your opening hours?", "Nine to five.", "Thanks, that is all"),
    ("我想退款", "请稍等", "没有人回答我"),
)


def spoken(texts: tuple[str, ...], number: int) -> list[dict]:
    """A conversation as its JSON rows, the bot's words with a report."""
    rows = []
    for place, text in enumerate(texts):
        row = {
            "id": f"c{number}-{place}",
            "author": "bot" if place % 2 else "user",
            "text": text,
            "at": AT + 60.0 * number + 7.25 * place,
        }
        if place % 2:
            row["bot"] = {"intent": "answer", "confidence": 0.2 + 0.15 * number}
        elif place:
            row["attributes"] = {"plan": "gold", "tenure": 2.5 * number}
        rows.append(row)
    return rows


CONVERSATIONS = [spoken(texts, number) for number, texts in enumerate(ASKED)]
TABLE = [json.dumps(rows) for rows in CONVERSATIONS]


def taught(recipe: str = "mixture-2", outcomes: int = 40) -> Standing:
    """A standing that has learned some outcomes, so that its numbers are not round."""
    standing = Standing(recipe=recipe)
    for position in range(1, outcomes + 1):
        rows = CONVERSATIONS[position % len(CONVERSATIONS)]
        messages = conversation(json.dumps(rows))
        body = {
            "verdict": "needed" if position % len(CONVERSATIONS) in (0, 2) else "not_needed",
            "conversation_id": rows[0]["id"],
            "begins": 1,
            "covers": 3,
            "escalated": 3,
            "since": 3,
        }
        turns = [Turn(message, message.author == "user") for message in messages]
        standing.learn(Entry(position, "outcome", body, "agent:a", AT), turns)
        standing.position = position
    return standing


STANDING = taught()
STATE = checkpoint.dump(STANDING)
DIGEST = checkpoint.digest(STANDING)
EXPECTED = [STANDING.score(fold(conversation(text))) for text in TABLE]


@pytest.fixture
def registry(mlflow_url):
    return Registry(mlflow_url)


@pytest.fixture(scope="module")
def client(mlflow_url):
    return MlflowClient(mlflow_url, mlflow_url)


def publish(registry: Registry, workspace: str, version: int = 1, **other) -> str:
    given = {
        "state": STATE,
        "recipe": STANDING.recipe,
        "position": STANDING.position,
        "digest": DIGEST,
        "at": AT,
        "parent": None,
        "reason": "40 new entries",
        "metrics": {"auc": 0.81, "log_loss": 0.42},
    }
    return registry.publish(workspace, version, **given | other)


def test_a_version_is_registered_with_all_that_identifies_it(registry, client):
    number = publish(registry, "identified", 3, parent=2, tags={"code.commit": "abc"})
    found = registry.registered("identified", number)
    assert (found.version, found.position, found.recipe) == (3, 40, "mixture-2")
    assert found.digest == DIGEST
    assert found.tags["baton.parent"] == "2"
    assert found.tags["code.commit"] == "abc"
    shown = client.get_model_version("baton-identified", number)
    assert shown.description == (
        "AUC 0.810, log loss 0.420: mixture-2 at ledger position 40; "
        "Baton's version 3, after version 2 (40 new entries)."
    )
    model = client.get_logged_model(shown.source.removeprefix("models:/"))
    measures = {m.key: (m.value, m.step) for m in model.metrics}
    assert measures == {"auc": (0.81, 40), "log_loss": (0.42, 40)}


def test_publishing_again_changes_nothing(registry, client):
    numbers = {publish(registry, "again") for _ in range(3)}
    assert len(numbers) == 1
    assert len(client.search_model_versions("name='baton-again'")) == 1
    experiment = client.get_experiment_by_name("baton/again").experiment_id
    assert len(client.search_logged_models([experiment])) == 1
    assert len(client.search_runs([experiment])) == 1


@pytest.mark.parametrize(
    "step", ["create_logged_model", "log_model_artifacts", "finalize_logged_model", "log_batch",
             "create_model_version"],
)  # fmt: skip
@pytest.mark.parametrize("after", [False, True])
def test_cut_off_at_any_step_and_asked_again_makes_one_version(mlflow_url, client, step, after):
    """The step is lost before it reached MLflow, or its answer is, after it was done."""
    workspace = f"cut-{step.replace('_', '-')}-{after}".lower()
    registry = Registry(mlflow_url)
    registry._client = CutOff(mlflow_url, step, after)
    with pytest.raises(RegistryUnavailable):
        publish(registry, workspace)
    number = publish(Registry(mlflow_url), workspace)
    assert number == "1"
    assert len(client.search_model_versions(f"name='baton-{workspace}'")) == 1
    experiment = client.get_experiment_by_name(f"baton/{workspace}").experiment_id
    assert [str(m.status) for m in client.search_logged_models([experiment])] == ["READY"]
    assert Registry(mlflow_url).state(workspace, number) == STATE


class CutOff(MlflowClient):
    """A real client whose connection breaks at one step."""

    def __init__(self, url: str, step: str, after: bool) -> None:
        super().__init__(url, url)
        whole = getattr(self, step)

        def broken(*arguments, **more):
            if after:
                whole(*arguments, **more)
            raise ConnectionResetError("the network went away")

        setattr(self, step, broken)


def test_another_database_with_the_same_version_number_is_another_version(registry):
    ours = publish(registry, "reborn")
    other = taught(outcomes=7)
    theirs = publish(
        registry, "reborn", state=checkpoint.dump(other), digest=checkpoint.digest(other)
    )
    assert ours != theirs
    assert publish(registry, "reborn") == ours


def test_the_state_comes_back_as_it_was(registry):
    number = publish(registry, "kept")
    back = registry.state("kept", number)
    assert back == STATE
    assert checkpoint.digest(checkpoint.load(back)) == DIGEST


def test_aliases_say_where_they_stand(registry):
    assert registry.aliases("nobody") == {}
    first = publish(registry, "named", 1)
    second = publish(registry, "named", 2)
    registry.set_alias("named", "champion", first)
    registry.set_alias("named", "previous", first)
    registry.set_alias("named", "champion", second)
    assert registry.aliases("named") == {"champion": second, "previous": first}
    assert registry.alias_of("named", "champion") == second
    assert registry.alias_of("named", "challenger-1") is None
    registry.drop_alias("named", "previous")
    registry.drop_alias("named", "previous")
    assert registry.aliases("named") == {"champion": second}


def test_what_cannot_be_is_refused_and_not_asked_again(registry):
    publish(registry, "refused")
    with pytest.raises(RegistryRefused):
        registry.set_alias("refused", "champion", "77")
    assert registry.registered("refused", "77") is None
    assert registry.registered("nobody", "1") is None


def test_a_version_made_by_hand_in_mlflow_is_told_from_batons_own(registry, client):
    number = publish(registry, "by-hand")
    source = client.get_model_version("baton-by-hand", number).source
    model_id = source.removeprefix("models:/")
    made = client.create_model_version("baton-by-hand", source, model_id=model_id)
    assert registry.registered("by-hand", made.version).version is None


def test_a_refusal_can_be_explained_on_the_version(registry):
    number = publish(registry, "told")
    registry.tag("told", number, "baton.refused", "the digest does not match")
    assert registry.registered("told", number).tags["baton.refused"] == "the digest does not match"


def test_workspaces_are_apart(registry):
    publish(registry, "left", 5)
    number = publish(registry, "right", 9)
    assert registry.registered("right", number).version == 9
    assert registry.aliases("left") == {}


def test_an_experiment_that_an_engineer_deleted_is_restored(registry, client):
    publish(registry, "deleted", 1)
    client.delete_experiment(client.get_experiment_by_name("baton/deleted").experiment_id)
    publish(registry, "deleted", 2)
    assert client.get_experiment_by_name("baton/deleted").lifecycle_stage == "active"


def test_the_experiment_explains_itself(registry, client):
    publish(registry, "explained")
    tags = client.get_experiment_by_name("baton/explained").tags
    assert "models:/baton-explained@champion" in tags["mlflow.note.content"]
    assert "explained" in client.get_registered_model("baton-explained").description


def test_the_engineers_readme_names_every_alias_and_tag_that_asks_or_answers():
    text = about_experiment("explained")
    for alias in (CHAMPION, PREVIOUS, ANCHOR, *(f"{CHALLENGER}{n}" for n in (1, CHALLENGERS_MAX))):
        assert f"`{alias}`" in text
    for tag in (REFUSED_TAG, BLOCKED_TAG):
        assert f"`{tag}`" in text
    assert "`baton-explained`" in text
    assert "WORKSPACE" not in text


def test_descriptions_tell_what_is_the_case_unless_an_engineer_wrote_them(registry, client):
    publish(registry, "telling")

    def read() -> tuple[str, str]:
        tags = client.get_experiment_by_name("baton/telling").tags
        return tags["mlflow.note.content"], client.get_registered_model("baton-telling").description

    registry.tell("telling", "# The line of version 1 serves")
    registry.tell("telling", "# The line of version 2 serves")
    readme, about = read()
    assert readme.startswith("# The line of version 2 serves\n")
    assert "models:/baton-telling@champion" in readme
    assert about.startswith("# The line of version 2 serves\n")
    client.update_registered_model("baton-telling", "ours")
    experiment = client.get_experiment_by_name("baton/telling").experiment_id
    client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    registry.tell("telling", "# The line of version 3 serves")
    assert read() == ("mine", "ours")


# -- the published version, outside Baton -----------------------------------------------------

FRESH = """
import json, os, sys
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
table = pandas.DataFrame({"messages": json.loads(sys.stdin.read())})
before = model.predict(table)
after = model.predict(table)
import learning
print(json.dumps({
    "rows": before.to_dict(orient="records"),
    "again": after.equals(before),
    "learning": learning.__file__,
    "inputs": model.metadata.get_input_schema().input_names(),
    "outputs": model.metadata.get_output_schema().input_names(),
    "example": model.predict(model.input_example).to_dict(orient="records"),
}))
"""


def plain_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }


def test_a_fresh_process_without_baton_gives_the_services_numbers_to_the_bit(
    registry, mlflow_url, tmp_path
):
    number = publish(registry, "fresh")
    registry.set_alias("fresh", "champion", number)
    ran = subprocess.run(
        [sys.executable, "-P", "-c", FRESH, mlflow_url, "models:/baton-fresh@champion"],
        cwd=tmp_path,
        env=plain_environment(),
        input=json.dumps(TABLE),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    expected = [{"probability": s.probability, "uncertainty": s.uncertainty} for s in EXPECTED]
    assert found["rows"] == expected
    assert found["again"] is True
    assert not Path(found["learning"]).is_relative_to(REPOSITORY)
    assert found["inputs"] == ["messages"]
    assert found["outputs"] == ["probability", "uncertainty"]
    assert 0.0 < found["example"][0]["probability"] < 1.0


def test_a_published_version_brings_every_package_that_its_code_imports():
    """What comes along with another package may be gone with that one's next release."""
    distributions = packages_distributions()
    brought = {name.lower() for name in bundle.PACKAGES}
    for path in (*(REPOSITORY / "learning").rglob("*.py"), Path(published.__file__)):
        for name in imported(path) - {"learning"} - sys.stdlib_module_names:
            assert {d.lower() for d in distributions[name]} & brought, f"{path.name}: {name}"


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_a_published_version_names_its_packages_exactly_and_holds_no_cache(tmp_path):
    bundle.write(tmp_path, "m-1", STATE, AT)
    names = [line.partition("==") for line in bundle.requirements()]
    assert all(version for _, _, version in names)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".pyc"]
    assert not [path for path in files if path.read_bytes().count(str(REPOSITORY).encode())]
    assert (tmp_path / "code" / "learning" / "checkpoint.py").exists()


def test_what_is_published_is_the_code_that_runs_not_what_lies_on_disk_later(tmp_path, monkeypatch):
    Registry("http://127.0.0.1:1")
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"an upgrade")
    bundle.write(tmp_path, "m-1", STATE, AT)
    monkeypatch.undo()
    assert (tmp_path / "code/learning/ledger.py").read_bytes() != b"an upgrade"


@pytest.mark.parametrize(
    "text, said",
    [
        ("[]", "at least one message"),
        ('{"id": "1"}', "JSON list"),
        ("not json", "row 0"),
        ('["hello"]', "message 1 is not an object"),
        ('[{"id": "1", "author": "user"}]', "lacks ['text']"),
        ('[{"id": "1", "author": "user", "text": "x", "mood": 1}]', "unknown fields ['mood']"),
        ('[{"id": "1", "author": "user", "text": "x", "at": "soon"}]', "row 0"),
    ],
)
def test_a_conversation_that_cannot_be_read_names_its_row_and_what_is_wrong(text, said):
    import pandas

    with pytest.raises(ValueError, match="row 0") as caught:
        Published(STATE).predict(pandas.DataFrame({"messages": [text]}))
    assert said in str(caught.value)


def test_a_time_may_be_iso_8601():
    rows = [{"id": "1", "author": "user", "text": "x", "at": "2026-11-23T06:00:00Z"}]
    assert conversation(json.dumps(rows))[0].at == 1_795_413_600.0
    rows[0]["at"] = "2026-11-23T06:00:00"
    assert conversation(json.dumps(rows))[0].at == 1_795_413_600.0


# -- evaluation runs ----------------------------------------------------------------------------


def log(registry: Registry, workspace: str, evaluation: str = "e-1", **more) -> str:
    return registry.evaluation_run(
        workspace,
        evaluation,
        name="evaluation at 800",
        description="**keep**: not clearly worse",
        position=800,
        at=more.pop("at", AT),
        metrics={"champion/auc": 0.81},
        curves={"champion/rolling_log_loss": [(100 * n, 1 / n) for n in range(1, 9)]},
        params={"recipe": "mixture-2"},
        tags={"baton.verdict": "keep"},
        files={"report.json": "{}"},
        page="<html></html>",
        **more,
    )


def test_an_evaluation_is_a_run_with_metrics_over_the_ledger_and_its_figures(registry, client):
    run_id = log(registry, "evaluated")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["baton.verdict"] == "keep"
    assert run.data.params == {"recipe": "mixture-2"}
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
        Nested("champion", {"auc": 0.8}, {"log_loss": [(100, 0.5), (200, 0.4)]}, {"recipe": "b"}),
        Nested("rules only", {"cost": 0.3}),
    ]
    data = Data("lessons 7 to 8", ("position", "label", "champion"), [(7, 1, 0.25), (8, 0, None)])
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


# -- away -----------------------------------------------------------------------------------------


def test_a_dead_server_is_told_at_once():
    registry = Registry(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(RegistryUnavailable):
        publish(registry, "away")
    with pytest.raises(RegistryUnavailable):
        log(registry, "away")
    with pytest.raises(RegistryUnavailable):
        registry.aliases("away")
    with pytest.raises(RegistryUnavailable):
        registry.set_alias("away", "champion", "1")
    assert time.monotonic() - began < 3.0


def test_a_server_that_never_answers_is_told_within_its_time_limit():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        registry = Registry(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=1)
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable):
            registry.aliases("slow")
        with pytest.raises(RegistryUnavailable):
            publish(registry, "slow")
        assert time.monotonic() - began < 8.0


@pytest.mark.parametrize("answer", [b"500 Internal Server Error", b"503 Service Unavailable"])
def test_a_server_that_breaks_is_unavailable_not_refusing(answer):
    with socket.socket() as broken:
        broken.bind(("127.0.0.1", 0))
        broken.listen(16)
        threading.Thread(target=breaking, args=(broken, answer), daemon=True).start()
        registry = Registry(f"http://127.0.0.1:{broken.getsockname()[1]}")
        with pytest.raises(RegistryUnavailable):
            registry.aliases("broken")


def breaking(listening: socket.socket, answer: bytes) -> None:
    body = b'{"error_code": "INTERNAL_ERROR", "message": "broken"}'
    while True:
        try:
            caller, _ = listening.accept()
        except OSError:
            return
        with caller:
            caller.recv(65536)
            head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nRetry-After: 60\r\n" % (answer, len(body))
            caller.sendall(head + b"Connection: close\r\n\r\n" + body)


def test_the_small_server_is_small_and_tells_nobody(tmp_path):
    started = server(tmp_path, environ={"PATH": "/bin", "MLFLOW_TRACKING_URI": "http://x"})
    assert "--workers 1" in " ".join(started.command)
    assert started.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert started.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "MLFLOW_TRACKING_URI" not in started.environment
    assert "--allowed-hosts" not in started.command


def test_the_engineers_page_is_found_without_mlflow_and_has_its_view(registry, mlflow_url, client):
    run_id = log(registry, "paged")
    page = desk(mlflow_url, "paged")
    experiment = client.get_experiment_by_name("baton/paged")
    assert page.startswith(f"{mlflow_url}/#/experiments/{experiment.experiment_id}/runs?")
    assert f"/runs/{run_id}?" in desk(mlflow_url, "paged", run_id)
    view = parse_qs(page.partition("?")[2])["viewStateShareKey"][0]
    kept = json.loads(experiment.tags[f"mlflow.sharedViewState.{view}"])
    assert "metrics.`champion/log_loss`" in json.loads(kept["state"])["selectedColumns"]


def test_before_there_is_an_engineers_page_the_servers_own_is_named(mlflow_url):
    assert desk(mlflow_url, "nobody") == mlflow_url
    assert desk("http://127.0.0.1:1") == "http://127.0.0.1:1"


def test_another_name_for_the_server_is_allowed_with_and_without_its_port(tmp_path):
    started = server(tmp_path, environ={}, host="0.0.0.0", port=5001, allowed_hosts=["mlflow"])
    names = started.command[started.command.index("--allowed-hosts") + 1].split(",")
    assert {"mlflow", "mlflow:5001", "localhost", "127.0.0.1:5001"} <= set(names)
    assert started.url == "http://127.0.0.1:5001"
