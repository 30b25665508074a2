"""The benches: `baton bench NAME`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.cli.root import Json, app, console, say, told

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure speed and scale, beside what people would use instead."
)
app.add_typer(bench_app, name="bench")

Quick = Annotated[bool, typer.Option("--quick", help="A short run: tells that it works.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds, of which medians are shown.", min=1)]
Shown = Callable[[str, int, int], None]


@contextmanager
def _measuring(name: str) -> Iterator[tuple[Path, Shown]]:
    """A folder that is gone afterwards, and a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        told(),
        tempfile.TemporaryDirectory(prefix="baton-bench-", ignore_cleanup_errors=True) as folder,
        Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress,
    ):
        task = progress.add_task(name, total=None)

        def shown(what: str, done: int, of: int) -> None:
            progress.update(task, description=f"{name}: {what}", completed=done, total=of)

        yield Path(folder), shown


def _print(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    json_: bool,
    notes: Sequence[str] = (),
) -> None:
    from experiments.bench.table import table

    if json_:
        say(rows)
    else:
        Console(width=None if console.is_terminal else 200).print(table(title, rows, columns))
    for note in notes:
        console.print(note, highlight=False, markup=False)


@bench_app.command("score", epilog="Example: baton bench score --json > score.json")
def score(
    rounds: Rounds = None,
    seconds: Annotated[float, typer.Option(help="Length of a turn.", min=0.1, max=60)] = 3.0,
    store: Annotated[list[str] | None, typer.Option(help="sqlite, postgresql [both]")] = None,
    connections: Annotated[list[int] | None, typer.Option(help="[default: 1, 16, 64]")] = None,
    mlflow: Annotated[bool, typer.Option(help="Compare with `mlflow models serve`.")] = True,
    chantilly: Annotated[bool, typer.Option(help="Compare with chantilly (installs it).")] = True,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """Durable decisions per second and their latency, beside an empty route, MLflow, chantilly."""
    from experiments.bench import score as bench

    plan = bench.Plan(
        rounds=rounds or (1 if quick else 5),
        seconds=min(seconds, 1.0) if quick else seconds,
        connections=tuple(connections or (1, 16, 64)),
        stores=tuple(store or ("sqlite", "postgresql")),
        mlflow=mlflow,
        chantilly=chantilly and not quick,
    )
    with _measuring("score") as (folder, shown):
        found = bench.run(folder, plan, shown)
    _print("durable decisions", found.rows, bench.COLUMNS, json_, found.notes)


@bench_app.command("model", epilog="Example: baton bench model --data simulated")
def model(
    rounds: Rounds = None,
    data: Annotated[list[str] | None, typer.Option(help="Data sets [all that are there]")] = None,
    conversations: Annotated[int, typer.Option(help="Of each data set.", min=1)] = 300,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """Features, probability and learning of a message, and accuracy, beside VowpalWabbit."""
    from experiments.bench import model as bench

    plan = bench.Plan(
        rounds=rounds or (1 if quick else 5),
        conversations=min(conversations, 60) if quick else conversations,
        data=data or bench.there(bench.DATA),
    )
    with _measuring("model") as (_, shown):
        rows = bench.run(plan, shown)
    _print("the model alone", rows, bench.COLUMNS, json_)
