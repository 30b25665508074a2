"""A version scores outside Baton, and in another Baton, with the very numbers of the service."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from typer.testing import CliRunner

from learning.ledger import checkpoint
from service.cli import app
from service.versions.mlflow.export_version import NotAVersionError, export_version, import_version
from service.versions.restore import restore
from tests.desk import Desk, desks
from tests.mlflow_server import free_port, running
from tests.service_in_process import OTHERS, InProcess, Place
from tests.waiting import LIMIT_SECONDS

TURNS = 4
AT = 1_790_000_000.0
FIELDS = ("id", "author", "text", "at", "language", "bot", "attributes", "event")

LOADED = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = model.predict(pandas.DataFrame({"messages": json.loads(sys.stdin.read())}))
import learning
print(json.dumps([learning.__file__, rows["probability"].tolist()]))
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with desks(tmp_path_factory.mktemp("one")) as running:
        yield running


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """Another Baton, which has learned nothing."""
    with desks(tmp_path_factory.mktemp("another")) as running:
        yield running


@pytest.fixture(scope="module")
def desk(service: InProcess, mlflow_url: str) -> Desk:
    """Version 2 has learned forty outcomes, and serves as they stand."""
    desk = Desk(service, mlflow_url)
    desk.teach(40)
    assert desk.save() == 2
    desk.publish()
    return desk


@pytest.fixture(scope="module")
def folder(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "version-2"
    export_version(desk.store, desk.place.name, 2, folder)
    return folder


def said(place: Place, conversations: int, kind: str = "said") -> list[tuple[str, float]]:
    """Score conversations of `TURNS` turns: each scored message as its conversation up to it, in
    JSON, and the probability that the service gave.
    """
    for turn in range(TURNS):
        items = [_item(f"{kind}-{number}", number, turn) for number in range(conversations)]
        for start in range(0, conversations, 250):
            body = {"items": items[start : start + 250]}
            results = place.bot.posted("/v1/score/batch", body)["results"]
            assert not [one["error"] for one in results if one.get("error")]
    found = []
    for number in range(conversations):
        shown = place.agent.got(f"/v1/conversations/{kind}-{number}")
        rows = [{n: row[n] for n in FIELDS if row.get(n) is not None} for row in shown["messages"]]
        places = {row["id"]: place for place, row in enumerate(rows, 1)}
        for decision in shown["decisions"]:
            until = rows[: places[decision["message_id"]]]
            found.append((json.dumps(until), decision["probability"]))
    return found


def _item(name: str, number: int, turn: int) -> dict[str, Any]:
    at = AT + 100.0 * number + 7.25 * turn
    text = f"{OTHERS[(number + 3 * turn) % len(OTHERS)]} {number % 13}" + "!" * (number % 3)
    bot = {"intent": "answer", "confidence": 0.1 + 0.003 * number, "fallback": number % 5 == 0}
    reply = {"id": f"b{turn}", "author": "bot", "text": "Sorry?", "at": at - 2.0, "bot": bot}
    return {
        "conversation_id": name,
        "history": [reply] if turn else [],
        "message": {"id": f"m{turn}", "text": text, "at": at, "author": "user"},
        "attributes": {"plan": ("gold", "basic")[number % 2]},
    }


def alone() -> dict[str, str]:
    """An environment in which nothing of this checkout can be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.mark.long
def test_mlflow_models_serve_gives_the_services_own_probabilities_for_1000_messages(
    desk: Desk, mlflow_url: str, tmp_path: Path
) -> None:
    expected = said(desk.place, 1000 // TURNS)
    assert len(expected) == 1000
    assert len({probability for _, probability in expected}) > 200
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (
        *(sys.executable, "-P", "-m", "mlflow", "models", "serve"),
        *("--model-uri", f"models:/baton-{desk.place.name}@champion", "--env-manager", "local"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    )
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = alone() | {"MLFLOW_TRACKING_URI": mlflow_url, "PATH": path}
    with running(command, tmp_path, environment, f"{url}/ping"):
        asked = {"dataframe_records": [{"messages": text} for text, _ in expected]}
        request = urllib.request.Request(
            f"{url}/invocations", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:
            found = [row["probability"] for row in json.load(answer)["predictions"]]
    assert found == [probability for _, probability in expected]


def test_an_exported_version_scores_where_there_is_no_baton(
    desk: Desk, folder: Path, tmp_path: Path
) -> None:
    expected = said(desk.place, 20, "alone")
    ran = subprocess.run(
        [sys.executable, "-P", "-c", LOADED, str(folder)],
        cwd=tmp_path,
        env=alone(),
        input=json.dumps([text for text, _ in expected]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    code, found = json.loads(ran.stdout.splitlines()[-1])
    assert Path(code).is_relative_to(folder)
    assert found == [probability for _, probability in expected]


def test_another_baton_serves_an_imported_version_with_the_same_digest_and_probabilities(
    desk: Desk, folder: Path, other: InProcess
) -> None:
    place = other.workspace("shadow")
    made = import_version(other.baton.store, place.name, folder, "ann")
    assert made["digest"] == desk.standing["digest"]
    shown = place.engineer.got(f"/v1/versions/{made['version']}")
    assert (shown["position"], shown["line"], shown["parent"]) == (0, 0, None)
    assert shown["reason"].startswith(f"imported: version 2 of workspace '{desk.place.name}'")

    assert said(place, 5, "before") != said(desk.place, 5, "before")
    place.engineer.posted(f"/v1/versions/{made['version']}/promote", {"reason": "it knows more"})
    assert place.engineer.got("/v1/standing")["digest"] == desk.standing["digest"]
    assert said(place, 5, "after") == said(desk.place, 5, "after")

    place.bot.posted("/v1/conversations/after-0/outcome", {"verdict": "missed"})
    learned = place.engineer.got("/v1/standing")["digest"]
    assert learned != made["digest"]
    assert checkpoint.digest(restore(other.baton.store, place.name)) == learned


def test_an_imported_version_learns_what_its_new_workspace_had_learned_before(
    folder: Path, other: InProcess
) -> None:
    place = other.workspace("shadow")
    said(place, 2, "own")
    place.bot.posted("/v1/conversations/own-1/outcome", {"verdict": "missed"})
    made = import_version(other.baton.store, place.name, folder, "ann")
    place.engineer.posted(f"/v1/versions/{made['version']}/promote")
    standing = place.engineer.got("/v1/standing")
    assert standing["digest"] != made["digest"]
    assert standing["digest"] == checkpoint.digest(restore(other.baton.store, place.name))


def test_what_mlflow_has_of_a_version_comes_in_too_and_only_once(
    desk: Desk, mlflow_url: str, other: InProcess, tmp_path: Path
) -> None:
    name = f"baton-{desk.place.name}"
    source = desk.registry._client.get_model_version(name, desk.number(2)).source
    model = desk.registry._client.get_logged_model(source.removeprefix("models:/"))
    fetched = mlflow.artifacts.download_artifacts(
        artifact_uri=model.artifact_location, dst_path=str(tmp_path), tracking_uri=mlflow_url
    )
    place = other.workspace("shadow")
    store = other.baton.store
    first = import_version(store, place.name, Path(fetched), "ann")
    assert first["digest"] == desk.standing["digest"]
    assert import_version(store, place.name, Path(fetched), "bob") == first
    alone = import_version(store, place.name, Path(fetched) / "state.npz", "ann")
    assert alone == first
    lone = tmp_path / "lone.npz"
    shutil.copy(Path(fetched) / "state.npz", lone)
    stranger = import_version(store, place.name, lone, "ann")
    assert "of unknown origin" in stranger["origin"]
    assert stranger["digest"] == first["digest"]


def test_a_version_that_was_altered_on_the_way_is_refused(
    folder: Path, other: InProcess, tmp_path: Path
) -> None:
    place, store = other.workspace("shadow"), other.baton.store
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    whole = (broken / "state.npz").read_bytes()
    for state in (whole[: len(whole) // 2], b"", b"no archive at all", whole[:-400] + bytes(400)):
        (broken / "state.npz").write_bytes(state)
        with pytest.raises(NotAVersionError, match=r"state\.npz: "):
            import_version(store, place.name, broken, "ann")
    (broken / "state.npz").write_bytes(whole)
    told = (broken / "MLmodel").read_text()
    digest = json.loads(told)["metadata"]["baton.digest"]
    (broken / "MLmodel").write_text(told.replace(digest, "0" * 64))
    with pytest.raises(NotAVersionError, match="another digest"):
        import_version(store, place.name, broken, "ann")
    with pytest.raises(FileNotFoundError, match="there is no"):
        import_version(store, place.name, tmp_path / "nothing", "ann")
    assert [row["number"] for row in place.engineer.got("/v1/versions")["versions"]] == [1]


def test_the_commands_take_a_version_from_one_installation_to_another(
    desk: Desk, service: InProcess, other: InProcess, tmp_path: Path
) -> None:
    def baton(of: InProcess, *arguments: str) -> str:
        home = ("--home", str(of.baton.settings.home))
        ran = CliRunner().invoke(app, [*arguments, *home], env={"COLUMNS": "200"})
        assert ran.exit_code == 0, ran.output
        return str(ran.output)

    folder, name = tmp_path / "taken", f"taken-{secrets.token_hex(3)}"
    other.caller(other.keys["admin"]).posted("/v1/workspaces", {"id": name, "mode": "shadow"})
    told = baton(service, "export", "-w", desk.place.name, "--version", "2", "--to", str(folder))
    assert f"baton import {folder}" in told
    made = json.loads(baton(other, "import", str(folder), "-w", name, "--json"))
    switch = json.loads(
        baton(other, "promote", str(made["version"]), "-w", name, "--reason", "known", "--json")
    )
    assert switch == {"switch": 3, "version": made["version"]}
    assert checkpoint.digest(restore(other.baton.store, name)) == made["digest"]
    shown = baton(other, "versions", "-w", name)
    assert f"> {made['version']}" in shown
    assert "command line" in shown
    again = CliRunner().invoke(
        app, ["export", "--version", "2", "--to", str(folder), "--home", str(tmp_path)]
    )
    assert again.exit_code == 1
