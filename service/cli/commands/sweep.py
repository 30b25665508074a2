"""Command `baton sweep`: hyperparameter search over recipes on one ledger, test-then-learn."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from service.cli.commands.models import bar
from service.cli.options import (
    Home,
    Json,
    Workspace,
    app,
    console,
    handle_errors,
    open_store,
    print_json,
    settings,
)
from service.runtime.first_secrets import mlflow_password
from service.runtime.settings import Settings

SHOWN_MAX = 20
COLUMNS = {
    "recipe": "recipe",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "ECE",
    "auc": "AUC",
    "average_precision": "AP",
}
Values = Annotated[
    list[str] | None,
    typer.Option("--with", help="name=value[,value..], for every recipe that has it."),
]
Drawn = Annotated[
    int | None, typer.Option(help="Draw so many trials; values may be low..high.", min=1)
]
Position = Annotated[int | None, typer.Option(help="Ledger position to end at [head]", min=2)]
Workers = Annotated[int | None, typer.Option(help="Local processes [cores]", min=1, max=256)]
Address = Annotated[str | None, typer.Option(help="Ray cluster, such as auto [a new one]")]


@app.command(epilog="Example: baton sweep --recipe bayes-4 --with v0=0.03,0.1,0.3 --json")
def sweep(
    stream: Annotated[
        Path | None, typer.Argument(help="JSON Lines, instead of the workspace's ledger.")
    ] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="Recipes to try [all]")] = None,
    values: Values = None,
    random: Drawn = None,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    by: Annotated[str, typer.Option(help="Measure to rank by.")] = "log_loss",
    engine: Annotated[str, typer.Option(help="local or ray")] = "local",
    workers: Workers = None,
    ray_address: Address = None,
    until: Position = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Format of STREAM: uss, dbdc, mhch or baton.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column of STREAM that stands in for the outcome.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Forget an unfinished one.")] = False,
    mlflow: Annotated[bool, typer.Option(help="Log every trial to MLflow.")] = True,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Let recipes and parameters learn one ledger, many at a time, and say which did best.

    Every trial is test-then-learn: its figures are what would have been, ranked by the later half
    of the lessons. A sweep that was stopped goes on where it was when the same command is given
    again. Trials are kept in the installation's folder `sweeps`, and in MLflow as nested runs.
    """
    from experiments.sweeps import grid, trials
    from experiments.sweeps.backends import get_backend as engine_of
    from service.operations import sweep_source

    with handle_errors():
        chosen = settings(home=home)
        if by not in trials.MEASURES:
            raise ValueError(f"there is no measure {by!r}; use {', '.join(trials.MEASURES)}")
        backend = engine_of(engine, workers=workers, address=ray_address)
        choices, recipes = grid.named_values(values or ()), recipe or grid.EVERY
        candidates = (
            grid.draw_trials(recipes, choices, random, seed)
            if random
            else grid.grid(recipes, choices)
        )
        source = (
            sweep_source.StreamSource(stream, format_, target)
            if stream is not None
            else sweep_source.LedgerSource(open_store(chosen, workspace), workspace, until)
        )
        with console.status(f"reading {source.label}"):
            search = sweep_source.resume_or_begin(chosen.home, source, candidates, anew=anew)
        log = _log(chosen, workspace, search, source.label) if mlflow else None
        with bar() as progress:
            task = progress.add_task("trials", total=len(candidates), figures="")

            def on_result(result: Mapping[str, Any]) -> None:
                progress.update(task, advance=1, figures=f"{result['recipe']} ended")
                if log is not None:
                    log.trial(result)

            outcome = search.run(backend, candidates, on_result)
        best = trials.ranked(outcome.results, by)
        if log is not None:
            log.end(best, by)
        if not outcome.failed:
            search.finish()
        report = {
            "of": source.label,
            "position": search.history.position,
            "outcomes": search.history.outcomes,
            "history": search.history.digest,
            "engine": backend.name,
            "resumed": outcome.resumed,
            "by": by,
            "trials": best,
            "failed": outcome.failed,
            "folder": str(search.folder),
            "mlflow": log.body() if log is not None else {"why": "--no-mlflow"},
            "next": _next(best, workspace, home),
        }
        print_json(report) if json_ else _print_table(report)
    if outcome.failed:
        raise typer.Exit(1)


def _log(chosen: Settings, workspace: str, search: Any, source: str) -> Any:
    """Log of the search in MLflow, whose import takes seconds: only who logs there pays for it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from experiments.sweeps.mlflow_trials import SweepLog

    with console.status("asking MLflow"):
        password = mlflow_password(chosen)
        log = SweepLog(chosen.mlflow_url, workspace, search, source, password)
    if log.why is not None:
        console.print(f"not logged to MLflow: {log.why}", highlight=False, markup=False)
        console.print(f"trials are kept in {search.folder}; the same command logs them later")
    return log


def _next(best: Sequence[Mapping[str, Any]], workspace: str, home: Path | None) -> str | None:
    """The command that lets the best trial learn beside the champion."""
    if not best:
        return None
    words = ["baton", "challenge", best[0]["recipe"], "--workspace", workspace]
    return shlex.join(words + ([] if home is None else ["--home", str(home)]))


def _print_table(report: Mapping[str, Any]) -> None:
    from experiments.benchmarks.harness.result_table import table

    rows = [{"recipe": trial["recipe"], **trial["later"]} for trial in report["trials"]]
    title = f"{len(rows)} trials of {report['of']}, later half of the lessons, by {report['by']}"
    out = Console(width=None if console.is_terminal else 200)
    out.print(table(title, rows[:SHOWN_MAX], COLUMNS))
    for trial in report["failed"]:
        console.print(f"failed: {trial['recipe']}: {trial['failed']}", markup=False)
    if report["resumed"]:
        console.print(f"{report['resumed']} of them had ended before", highlight=False)
    if report["next"]:
        out.print(f"open the best as a challenger: {report['next']}", markup=False, highlight=False)
