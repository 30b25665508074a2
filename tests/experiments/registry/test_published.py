"""A published version outside Baton: the same numbers, by its own copy of the code."""

import ast
import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import pytest

from experiments.registry import model_package, pyfunc
from experiments.registry.pyfunc import BatonPyfuncModel, conversation
from experiments.registry.registered_versions import Registry
from tests.registered import AT, EXPECTED, REPOSITORY, STATE, TABLE, publish

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
    brought = {name.lower() for name in model_package.PACKAGES}
    for path in (*(REPOSITORY / "learning").rglob("*.py"), Path(pyfunc.__file__)):
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
    model_package.write(tmp_path, "m-1", STATE, AT)
    names = [line.partition("==") for line in model_package.requirements()]
    assert all(version for _, _, version in names)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".pyc"]
    assert not [path for path in files if path.read_bytes().count(str(REPOSITORY).encode())]
    assert (tmp_path / "code" / "learning" / "ledger" / "checkpoint.py").exists()


def test_what_is_published_is_the_code_that_runs_not_what_lies_on_disk_later(tmp_path, monkeypatch):
    Registry("http://127.0.0.1:1")
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"an upgrade")
    model_package.write(tmp_path, "m-1", STATE, AT)
    monkeypatch.undo()
    assert (tmp_path / "code/learning/ledger/model_state.py").read_bytes() != b"an upgrade"


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
        BatonPyfuncModel(STATE).predict(pandas.DataFrame({"messages": [text]}))
    assert said in str(caught.value)


def test_a_time_may_be_iso_8601():
    rows = [{"id": "1", "author": "user", "text": "x", "at": "2026-11-23T06:00:00Z"}]
    assert conversation(json.dumps(rows))[0].at == 1_795_413_600.0
    rows[0]["at"] = "2026-11-23T06:00:00"
    assert conversation(json.dumps(rows))[0].at == 1_795_413_600.0
