"""Model package of a published version: every file MLflow needs to load, serve and explain it.

    MLmodel                     what it is: loader, environment, signature, input example
    requirements.txt            the packages it was made with, exactly; python_env.yaml names them
    input_example.json          a conversation to try it with
    serving_input_example.json  the same, as `POST /invocations` takes it
    code/baton_published.py     a copy of pyfunc.py, which MLflow calls
    code/learning/              a copy of the pure package, so that no Baton is needed
    state.npz                   the checkpoint: plain arrays and JSON, with its digest

No code is pickled, and nothing here needs mlflow.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import learning
from experiments.registry import pyfunc
from learning.models.plugins import entry_points as plugins

PACKAGES = (
    *("email-validator", "mlflow", "numpy", "pandas", "phonenumbers", "pydantic", "python-stdnum"),
    *("river", "scipy", "vaderSentiment"),
)
LOADER = "baton_published"
STATE = "state.npz"
COLUMN = "messages"
OUTPUTS = ("probability", "uncertainty")
EXAMPLE = (
    {"id": "1", "author": "user", "text": "My parcel has not come. Where is it?", "at": 0.0},
    {
        "id": "2",
        "author": "bot",
        "text": "Sorry, I did not understand that.",
        "at": 2.0,
        "bot": {"intent": "track_parcel", "confidence": 0.31, "fallback": True},
    },
    {
        "id": "3",
        "author": "user",
        "text": "I asked WHERE my parcel is!! I want a refund.",
        "at": 9.0,
    },
)


def requirements(recipe: str = "") -> list[str]:
    """The packages of this process that a published version runs with, each at its version; those
    that its recipe comes with among them.
    """
    base, _, parameters = recipe.partition("?")
    features = dict(part.split("=", 1) for part in parameters.split(",") if "=" in part)
    own = plugins.packages(plugins.RECIPES_GROUP, (base,))
    if "features" in features:
        names = tuple(features["features"].split(":"))
        own |= plugins.packages(plugins.FEATURES_GROUP, names)
    pinned = [f"{name}=={version(name)}" for name in PACKAGES]
    return pinned + [f"{name}=={installed}" for name, installed in sorted(own.items())]


@functools.cache
def code() -> tuple[tuple[str, bytes], ...]:
    """The files that a version runs, by their paths in `code`, as they are when first asked for.

    Asked for when a process starts, they are those that it runs itself, whatever an upgrade lays
    beneath it afterwards.
    """
    package = Path(str(learning.__file__)).parent
    files = (path for path in sorted(package.rglob("*")) if path.is_file())
    own = [
        (f"learning/{path.relative_to(package).as_posix()}", path.read_bytes())
        for path in files
        if path.suffix != ".pyc"
    ]
    return (f"{LOADER}.py", Path(str(pyfunc.__file__)).read_bytes()), *own


def write(
    folder: Path, model_id: str, state: bytes, at: float, about: Mapping[str, str] | None = None
) -> None:
    """All files of one version. `model_id` is MLflow's, `at` is in seconds since the epoch, `about`
    says where the version comes from.
    """
    (folder / STATE).write_bytes(state)
    (folder / "MLmodel").write_text(mlmodel(model_id, at, about or {}))
    for name, content in code():
        (folder / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "code" / name).write_bytes(content)
    (folder / "requirements.txt").write_text(
        "\n".join(requirements((about or {}).get("baton.recipe", ""))) + "\n"
    )
    (folder / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\n"
        f"build_dependencies:\n- pip\n- setuptools\n- wheel\n"
        "dependencies:\n- -r requirements.txt\n"
    )
    split = {"columns": [COLUMN], "data": [[json.dumps(EXAMPLE)]]}
    (folder / "input_example.json").write_text(json.dumps(split))
    (folder / "serving_input_example.json").write_text(json.dumps({"dataframe_split": split}))


def digest(folder: Path) -> str:
    """SHA-256 of all files of a package, by their paths: none may be changed, added or missing."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in files
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def mlmodel(model_id: str, at: float, about: Mapping[str, str]) -> str:
    """`MLmodel`, the file by which MLflow knows a model, as JSON (which YAML includes)."""
    row: dict[str, object] = {
        "flavors": {
            "python_function": {
                "loader_module": LOADER,
                "code": "code",
                "data": STATE,
                "env": {"virtualenv": "python_env.yaml"},
                "python_version": platform.python_version(),
            }
        },
        "metadata": dict(about),
        "mlflow_version": version("mlflow"),
        "model_id": model_id,
        "model_uuid": model_id.removeprefix("m-"),
        "utc_time_created": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "signature": {
            "inputs": json.dumps([{"type": "string", "name": COLUMN, "required": True}]),
            "outputs": json.dumps(
                [{"type": "double", "name": name, "required": True} for name in OUTPUTS]
            ),
            "params": None,
        },
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        },
    }
    return json.dumps(row, indent=1)
