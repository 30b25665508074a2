"""Recipes and features of one's own: found by entry point, held to the contract, learned with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learning.conversation.state import Message, fold
from learning.ledger import checkpoint
from learning.ledger.model_state import Entry, ModelState, Turn, replay_entries
from learning.ledger.recipe_contract import CONTRACT
from learning.models.plugins import entry_points as plugins
from learning.models.recipes import RECIPES, UnknownRecipe, all_recipes, get_recipe

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "guides" / "your-own-model.md"
BROKEN = """
import random
class Forgetful:
    def __init__(self): self.sum = 0.0
    def learn_one(self, x, y, w=1.0): self.sum += w * (1 if y else -1) * random.random()
    def predict_proba_one(self, x): return {True: 0.5, False: 0.5}
    def dump(self): return {"sum": 1.0}, {}
    def load(self, meta, arrays): pass
class Half:
    def learn_one(self, x, y, w=1.0): pass
def explode(): raise RuntimeError("no licence")
"""


def block(kind: str) -> str:
    """The one block of code of this kind on the page."""
    (code,) = re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def install(folder: Path, project: str, modules: dict[str, str]) -> None:
    """What an installer leaves of a package: its modules, and its metadata with entry points."""
    document = tomllib.loads(project)["project"]
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    about = folder / f"{document['name'].replace('-', '_')}-{document['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {document['name']}\nVersion: {document['version']}\n"
    )
    lines = []
    for group, points in document["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's package and a broken one, installed for one test."""
    install(tmp_path, block("toml"), {"shop_models": block("python")})
    broken = (
        '[project]\nname = "broken"\nversion = "2"\n[project.entry-points."baton.recipes"]\n'
        'forgetful-1 = "broken:Forgetful"\nhalf-1 = "broken:Half"\n'
        'exploding-1 = "broken:explode"\nBadName = "broken:Half"\n'
    )
    install(tmp_path, broken, {"broken": BROKEN})
    monkeypatch.syspath_prepend(str(tmp_path))
    caches = (plugins.installed, plugins.feature_function)
    for cache in caches:
        cache.cache_clear()
    yield tmp_path
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("sentence", CONTRACT)
def test_every_packaged_recipe_keeps_the_contract(name: str, sentence: str) -> None:
    CONTRACT[sentence](name)


@pytest.mark.parametrize("sentence", CONTRACT)
def test_the_pages_recipe_keeps_the_contract(site: Path, sentence: str) -> None:
    CONTRACT[sentence]("shop-regression-1")


def test_what_breaks_the_contract_is_told(site: Path) -> None:
    broken = set()
    for check in CONTRACT.values():
        try:
            check("forgetful-1")
        except AssertionError:
            broken.add(check.__name__)
    assert broken == {"learns"}
    for name, why in (
        ("half-1", "has no predict_proba_one"),
        ("exploding-1", "no licence"),
        ("BadName", "must be named like"),
        ("unknown-1", "shop-regression-1"),
    ):
        with pytest.raises(UnknownRecipe, match=why):
            get_recipe(name)


def test_recipes_of_ones_own_are_listed_with_their_package(site: Path) -> None:
    assert all_recipes()["shop-regression-1"] == "of package shop-models 1.0"
    assert set(RECIPES) < set(all_recipes())


def talk(n: int, late: float) -> list[Turn]:
    attributes = (("days_late", late), ("order_value", 900.0))
    message = Message(f"m{n}", "user", f"about my order {n}", 1e9 + n, attributes=attributes)
    return [Turn(message, True)]


def learned(recipe: str, count: int = 30) -> ModelState:
    entries, talks = [Entry(1, "policy", {}, "t", 0.0)], {}
    for n in range(count):
        talks[f"c{n}"] = talk(n, 20.0 * (n % 2))
        body: dict[str, Any] = {
            "outcome_id": f"o{n}",
            "conversation_id": f"c{n}",
            "verdict": "labels",
            "begins": 1,
            "covers": 1,
            "labels": [(1, float(n % 2), 1.0)],
        }
        entries.append(Entry(n + 2, "outcome", body, "t", 0.0))
    state = ModelState(recipe=recipe)
    replay_entries(state, entries, lambda name, until: talks[name][:until])
    return state


@pytest.mark.parametrize("recipe", ["shop-regression-1", "shop-regression-1?features=order"])
def test_it_learns_from_the_ledger_and_its_checkpoint_is_the_same_model(
    site: Path, recipe: str
) -> None:
    state = learned(recipe)
    again = checkpoint.load(checkpoint.dump(state))
    assert (
        checkpoint.digest(again) == checkpoint.digest(state) == checkpoint.digest(learned(recipe))
    )
    late, soon = (fold([talk(99, days)[0].message]) for days in (20.0, 0.0))
    assert state.score(late).probability > state.score(soon).probability
    assert isinstance(state.causes(late), tuple)


def test_features_of_ones_own_reach_the_packaged_recipes_too(site: Path) -> None:
    with_them, without = learned("adagrad-4?features=order"), learned("adagrad-4")
    late = fold([talk(99, 20.0)[0].message])
    assert "own:order:" in with_them._parts(late)
    assert with_them._parts(late)["own:order:"] == {"large": 1.0, "late": 2.0}
    assert with_them.score(late).probability > without.score(late).probability
    with pytest.raises(UnknownRecipe, match="there are: order"):
        get_recipe("adagrad-4?features=unknown")


def test_features_are_bounded_and_finite(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wild(_: Any) -> dict[str, float]:
        return {f"n{n}": 1.0 for n in range(99)} | {"a": float("nan"), "b": 1e9, "c=d": -1e9}

    monkeypatch.setattr(plugins, "feature_function", lambda _: wild)
    (values,) = plugins.appended(("order",), fold([talk(1, 0.0)[0].message])).values()
    assert len(values) <= plugins.FEATURES_MAX
    assert max(map(abs, values.values())) <= plugins.VALUE_MAX
    assert "c_d" in values


def test_the_packages_versions_are_part_of_the_build(site: Path) -> None:
    code = "import json; from experiments.build_info import build; print(json.dumps(build()))"
    builds = []
    for path in ("", str(site)):
        environ = dict(os.environ) | {
            "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, check=True
        )
        builds.append(json.loads(done.stdout))
    assert "plugins" not in builds[0]
    assert builds[1]["plugins"] == {"broken": "2", "shop-models": "1.0"}


def test_the_pages_commands_check_it(site: Path) -> None:
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    assert "baton recipe check shop-regression-1" in block("sh")

    def check(name: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "service", "recipe", "check", name, "--json"]
        return subprocess.run(words, env=environ, capture_output=True, text=True, check=False)

    good, bad = check("shop-regression-1"), check("forgetful-1")
    assert good.returncode == 0, good.stdout + good.stderr
    assert all(result["ok"] for result in json.loads(good.stdout)["checks"])
    assert bad.returncode == 1
    assert any(not result["ok"] for result in json.loads(bad.stdout)["checks"])
