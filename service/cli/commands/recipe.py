"""Recipe commands: list the recipes of this installation, and check one against the contract."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from service.cli.options import Json, app, console, handle_errors, print_json

recipe_app = typer.Typer(
    no_args_is_help=True, help="Recipes: model configurations, packaged or of your own."
)
app.add_typer(recipe_app, name="recipe")

SAME_ELSEWHERE = "Another process with another hash seed learns the same."
Name = Annotated[str, typer.Argument(help="The recipe, with parameters if it has any.")]


@recipe_app.command("list", epilog="Example: baton recipe list")
def list_recipes(json_: Json = False) -> None:
    """List the recipes of this installation and the features that may be appended to them."""
    from learning.models.plugins.entry_points import FEATURES_GROUP, packages
    from learning.models.recipes import all_recipes

    with handle_errors():
        recipes, features = dict(all_recipes()), packages(FEATURES_GROUP)
        if json_:
            print_json({"recipes": recipes, "features_of": features})
            return
        for name, sentence in recipes.items():
            typer.echo(f"{name:20} {sentence}")


@recipe_app.command("check", epilog="Example: baton recipe check my-model-1")
def check(name: Name, json_: Json = False) -> None:
    """Run a recipe through the contract that every recipe keeps. Exit status 1 if it does not.

    It needs no installation and changes nothing. A recipe that passes may be tried with `baton
    challenge --recipe NAME`: it learns beside the champion, and serves once it is proven better.
    """
    from learning.ledger.recipe_contract import CONTRACT
    from learning.models.recipes import get_recipe

    with handle_errors():
        recipe = get_recipe(name).name
        results = []
        for sentence, holds in CONTRACT.items():
            try:
                holds(recipe)
                results.append({"check": sentence, "ok": True, "found": None})
            except Exception as error:  # whatever somebody's model does
                wrong = str(error) or type(error).__name__
                results.append({"check": sentence, "ok": False, "found": wrong})
        elsewhere = {_digest_elsewhere(recipe, seed) for seed in ("1", "2")}
        is_same = len(elsewhere) == 1
        why = None if is_same else "digests differ: order what comes from a set"
        results.append({"check": SAME_ELSEWHERE, "ok": is_same, "found": why})
        if json_:
            print_json({"recipe": recipe, "checks": results})
        else:
            _print_results(results)
        if not all(result["ok"] for result in results):
            raise typer.Exit(1)


@recipe_app.command("digest", hidden=True, epilog="Example: baton recipe digest mixture-5")
def digest(name: Name) -> None:
    """Print the digest of a recipe that learned the contract's examples."""
    from learning.ledger.recipe_contract import examples, state_digest, taught

    with handle_errors():
        typer.echo(state_digest(taught(name, examples())))


def _digest_elsewhere(name: str, seed: str) -> str:
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "service", "recipe", "digest", name],
        env=dict(os.environ) | {"PYTHONHASHSEED": seed, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"


def _print_results(results: list[dict[str, object]]) -> None:
    out = Console(highlight=False, soft_wrap=True)
    for result in results:
        mark = "[green]ok[/green]   " if result["ok"] else "[red]wrong[/red]"
        out.print(f"{mark} {escape(str(result['check']))}")
        if result["found"]:
            console.print(f"      {result['found']}", markup=False, highlight=False)
