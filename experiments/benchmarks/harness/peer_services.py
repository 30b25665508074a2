"""Peer services to compare with: an empty route, `mlflow models serve`, and chantilly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmarks.harness.processes import ServerProcess, free_port
from experiments.datasets.episode import Episode
from experiments.registry import model_package
from learning.ledger import checkpoint
from learning.ledger.model_state import ModelState

INSTALL_SECONDS_MAX = 180
CHANTILLY_PACKAGES = ("chantilly==0.3.0", "dill", "river", "setuptools", "waitress")
CHANTILLY = """
import sys
import river.metrics, river.metrics.base
river.metrics.Metric = river.metrics.base.Metric  # where chantilly 0.3 looks for it
import chantilly, waitress
waitress.serve(chantilly.create_app(), host="127.0.0.1", port=int(sys.argv[1]), threads=1)
"""
CHANTILLY_MODEL = """
import json, sys, urllib.request
import dill
from river import feature_extraction, linear_model
url, lessons = json.load(sys.stdin)
words = feature_extraction.BagOfWords(lowercase=True)
model = words | linear_model.LogisticRegression()
for text, label in lessons:
    model.learn_one(text, label)
def post(path, body, kind):
    asked = urllib.request.Request(url + path, body, {"Content-Type": kind})
    urllib.request.urlopen(asked, timeout=30).read()
post("/api/init", b'{"flavor": "binary"}', "application/json")
post("/api/model/text", dill.dumps(model), "application/octet-stream")
"""


class NoPeerError(RuntimeError):
    """A peer service cannot run here; the message says why."""


def empty(folder: Path) -> ServerProcess:
    """An empty FastAPI route with the same shapes, under the same uvicorn settings."""
    port = free_port()
    command = [
        *(
            sys.executable,
            "-m",
            "uvicorn",
            "--factory",
            "experiments.benchmarks.harness.empty_route:application",
        ),
        *("--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"),
        *("--no-access-log", "--log-level", "warning", "--no-server-header"),
    ]
    return ServerProcess("empty", command, dict(os.environ), folder, port, "/readyz")


def mlflow(folder: Path, state: ModelState) -> ServerProcess:
    """`mlflow models serve` of a standing, published as Baton's `jobs` publishes it."""
    port = free_port()
    model = folder / "published"
    model.mkdir(parents=True)
    model_package.write(model, "m-" + "0" * 32, checkpoint.dump(state), time.time())
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = dict(os.environ) | {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": programs}
    return ServerProcess("mlflow", command, environment, folder, port, "/ping")


def chantilly(folder: Path) -> ServerProcess:
    """Flask and a shelf: chantilly, in its own virtual environment. NoPeerError says why not.

    Under waitress, which keeps connections where Flask's own server drops them; with one thread,
    for its shelf has room for one at a time.
    """
    port, python = free_port(), folder / "venv" / "bin" / "python"
    installing = (
        (sys.executable, "-m", "venv", str(folder / "venv")),
        (str(python), "-m", "pip", "install", "--quiet", *CHANTILLY_PACKAGES),
    )
    for command in installing:
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS_MAX)
        except (subprocess.SubprocessError, OSError) as error:
            output = getattr(error, "stderr", None) or str(error).encode()
            raise NoPeerError(f"chantilly was not installed: {output.decode()[-300:]}") from error
    serve = [str(python), "-c", CHANTILLY, str(port)]
    environment = dict(os.environ) | {"SHELVE_PATH": str(folder / "chantilly")}
    return ServerProcess("chantilly", serve, environment, folder, port, "/api/init")


def teach_chantilly(running: ServerProcess, lessons: Sequence[Episode]) -> None:
    """Give it a River text model (bag of words, logistic regression) that has learned the same."""
    examples = [
        (episode.messages[place].text, bool(label >= 0.5))
        for episode in lessons
        for place, label in episode.labels
    ]
    done = subprocess.run(
        [running.command[0], "-c", CHANTILLY_MODEL],
        input=json.dumps([running.url, examples]).encode(),
        capture_output=True,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        raise NoPeerError(f"chantilly took no model: {done.stderr.decode()[-500:]}")
