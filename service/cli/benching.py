"""The benches: `baton bench NAME`."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
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
Seconds = Annotated[float, typer.Option(help="Length of a turn.", min=0.1, max=60)]
Stores = Annotated[list[str] | None, typer.Option(help="sqlite, postgresql [default: both]")]
STORES = ("sqlite", "postgresql")
Shown = Callable[[str, int, int], None]


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a bench as Ctrl-C does: with the processes that it started."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _measuring(name: str) -> Iterator[tuple[Path, Shown]]:
    """A folder that is gone afterwards, and a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        told(),
        _terminable(),
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


def _stores(given: Sequence[str] | None) -> tuple[str, ...]:
    if unknown := sorted(set(given or ()) - set(STORES)):
        raise typer.BadParameter(f"there is no store {unknown[0]!r}; use {' or '.join(STORES)}")
    return tuple(given or STORES)


@bench_app.command("score", epilog="Example: baton bench score --json > score.json")
def score(
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    store: Stores = None,
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
        stores=_stores(store),
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


@bench_app.command("batch", epilog="Example: baton bench batch --store sqlite")
def batch(
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    store: Stores = None,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """Messages per second through /v1/score/batch at 256, beside one message a request."""
    from experiments.bench import batch as bench

    plan = bench.Plan(
        rounds=rounds or (1 if quick else 5),
        seconds=min(seconds, 1.0) if quick else seconds,
        stores=_stores(store),
    )
    with _measuring("batch") as (folder, shown):
        rows = bench.run(folder, plan, shown)
    _print("messages in batches", rows, bench.COLUMNS, json_)


@bench_app.command("freshness", epilog="Example: baton bench freshness --outcomes 300")
def freshness(
    outcomes: Annotated[int, typer.Option(help="On each store.", min=1, max=10_000)] = 300,
    connections: Annotated[int, typer.Option(help="Load on each replica.", min=1, max=64)] = 8,
    store: Stores = None,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """From an outcome's acknowledgement to a score that reflects it, under load."""
    from experiments.bench import freshness as bench

    plan = bench.Plan(
        outcomes=min(outcomes, 40) if quick else outcomes,
        connections=connections,
        stores=_stores(store),
    )
    with _measuring("freshness") as (folder, shown):
        rows = bench.run(folder, plan, shown)
    _print("from outcome to score", rows, bench.COLUMNS, json_)


@bench_app.command("recovery", epilog="Example: baton bench recovery --entries 10000")
def recovery(
    rounds: Rounds = None,
    entries: Annotated[list[int] | None, typer.Option(help="Ledger entries")] = None,
    store: Stores = None,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """From kill -9 to ready, with ledgers of 10 000, 100 000 and 1 000 000 entries."""
    from experiments.bench import recovery as bench

    sizes = (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000)
    plan = bench.Plan(
        rounds=rounds or (1 if quick else 5),
        entries=tuple(entries or sizes),
        stores=_stores(store),
    )
    with _measuring("recovery") as (folder, shown):
        rows = bench.run(folder, plan, shown)
    _print("from kill to ready", rows, bench.COLUMNS, json_)


@bench_app.command("replicas", epilog="Example: baton bench replicas --replicas 1 --replicas 2")
def replicas(
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    count: Annotated[list[int] | None, typer.Option("--replicas", help="[1, 2, 4]")] = None,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """Throughput of 1, 2 and 4 processes on PostgreSQL; whether any effect is lost or doubled."""
    from experiments.bench import replicas as bench

    plan = bench.Plan(
        rounds=rounds or (1 if quick else 5),
        seconds=min(seconds, 1.0) if quick else seconds,
        replicas=tuple(sorted(count or (1, 2, 4))),
    )
    with _measuring("replicas") as (folder, shown):
        rows = bench.run(folder, plan, shown)
    _print("replicas on PostgreSQL", rows, bench.COLUMNS, json_)


@bench_app.command("soak", epilog="Example: baton bench soak --minutes 30 --per-second 300")
def soak(
    minutes: Annotated[float, typer.Option(help="How long.", min=0.05, max=1440)] = 30.0,
    per_second: Annotated[float, typer.Option(help="Decisions asked for.", min=1)] = 300.0,
    store: Annotated[str, typer.Option(help="sqlite or postgresql")] = "sqlite",
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """Mixed load for half an hour: memory, errors and latency by the minute."""
    from experiments.bench import soak as bench

    plan = bench.Plan(
        minutes=min(minutes, 1.0) if quick else minutes,
        per_second=per_second,
        store=_stores([store])[0],
    )
    with _measuring("soak") as (folder, shown):
        found = bench.run(folder, plan, shown)
    notes = [f"{name}: {value}" for name, value in found.verdict.items()]
    _print("mixed load", found.rows, bench.COLUMNS, json_, notes)


@bench_app.command("cost", epilog="Example: baton bench cost --store postgresql")
def cost(
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    store: Stores = None,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """What one message and one outcome cost: processor time, storage, a follower's share."""
    from experiments.bench import cost as bench

    plan = bench.Plan(
        rounds=rounds or (1 if quick else 5),
        seconds=min(seconds, 1.0) if quick else seconds,
        stores=_stores(store),
    )
    with _measuring("cost") as (folder, shown):
        rows = bench.run(folder, plan, shown)
    _print("what one costs", rows, bench.COLUMNS, json_)


@bench_app.command("learning", epilog="Example: baton bench learning --figures figures")
def learning(
    data: Annotated[Path | None, typer.Option(help="Folder of the data [BATON_DATA]")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Data sets [all]")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write a figure a question there.")] = None,
    seeds: Annotated[int, typer.Option(help="Orders and chances, of all but labels.", min=1)] = 3,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=64)] = 2,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """How well Baton learns from late, one-sided labels, beside VowpalWabbit and offline refits."""
    from experiments import streams
    from experiments.bench import learning as bench
    from experiments.bench import targets

    with _measuring("learning") as (_, shown):
        folder = str(data or streams.folder(os.environ))
        names = bench.chosen(sets or ())
        short = bench.Plan.quick(folder, names, workers)
        plan = short if quick else bench.Plan(folder, names, few=seeds, workers=workers)
        rows = bench.run(plan, shown)
        judged = targets.targets(rows)
        if figures is not None:
            from experiments.bench import pages

            pages.write(figures, rows)
    _print(
        "learning, and its goals",
        [{"question": "targets", **line} for line in judged] + rows if json_ else judged,
        targets.COLUMNS,
        json_,
    )


@bench_app.command("guarantees", epilog="Example: baton bench guarantees --streams 1000 --json")
def guarantees(
    streams: Annotated[int, typer.Option(help="Simulated streams each.", min=1)] = 1000,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=64)] = 2,
    quick: Quick = False,
    json_: Json = False,
) -> None:
    """What is promised, and what was seen: intervals, promotions, alarms, capacity."""
    from experiments.bench import guarantees as bench

    with _measuring("guarantees") as (_, shown):
        rows = bench.run(min(streams, 20) if quick else streams, workers, shown)
    _print("promised and seen", rows, bench.COLUMNS, json_)
