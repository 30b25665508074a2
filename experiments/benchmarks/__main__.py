"""Benchmarks for who changes Baton: `python -m experiments.benchmarks NAME`.

Those that tell a user what to expect of Baton are `baton bench NAME`.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from experiments.benchmarks.harness.command_line import (
    BenchmarkResult,
    Rounds,
    Run,
    Seconds,
    Stores,
    Workers,
    benchmark,
)

COMMAND = "python -m experiments.benchmarks"
Entries = Annotated[list[int] | None, typer.Option(help="Ledger entries")]

app = typer.Typer(
    name=COMMAND,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Measure parts of Baton, beside what people would use instead.",
    epilog="`baton bench` has those that tell a user what to expect.",
)


@benchmark(app, "model", "the model alone", f"{COMMAND} model --data simulated")
def model(
    run: Run,
    rounds: Rounds = None,
    data: Annotated[list[str] | None, typer.Option(help="Data sets [all that are there]")] = None,
    conversations: Annotated[int, typer.Option(help="Of each data set.", min=1)] = 300,
) -> BenchmarkResult:
    """Features, probability and learning of a message, and accuracy, beside VowpalWabbit."""
    from experiments.benchmarks.model_quality import compared_models

    count = min(conversations, 60) if run.quick else conversations
    sets = data or compared_models.available(compared_models.DATA)
    rows = compared_models.run(run.rounds(rounds), count, sets, run.on_progress)
    return BenchmarkResult(rows, compared_models.COLUMNS)


@benchmark(app, "batch", "messages in batches", f"{COMMAND} batch --store sqlite")
def batch(
    run: Run, rounds: Rounds = None, seconds: Seconds = 3.0, store: Stores = None
) -> BenchmarkResult:
    """Messages per second through /v1/score/batch at 256, beside one message a request."""
    from experiments.benchmarks.service_speed import batch_throughput

    plan = run.plan(rounds, seconds, store)
    rows = batch_throughput.run(run.folder, plan, run.on_progress)
    return BenchmarkResult(rows, batch_throughput.COLUMNS)


@benchmark(app, "console", "open pages and a long queue", f"{COMMAND} console --followers 200")
def console(
    run: Run,
    rounds: Rounds = None,
    seconds: Seconds = 4.0,
    followers: Annotated[int, typer.Option(help="Open pages.", min=1, max=1000)] = 200,
    store: Stores = None,
) -> BenchmarkResult:
    """What open pages of the console cost scoring; the speed of long queues and conversations."""
    from experiments.benchmarks.service_speed import console_load

    plan = run.plan(rounds, seconds, store, usual=7)
    rows = console_load.run(run.folder, plan, run.on_progress, followers=followers)
    return BenchmarkResult(rows, console_load.COLUMNS)


@benchmark(app, "recovery", "from kill to ready", f"{COMMAND} recovery --entries 10000")
def recovery(
    run: Run, rounds: Rounds = None, entries: Entries = None, store: Stores = None
) -> BenchmarkResult:
    """From kill -9 to ready, with ledgers of 10 000, 100 000 and 1 000 000 entries."""
    from experiments.benchmarks.service_speed import recovery as recoveries

    sizes = (10_000, 100_000) if run.quick else (10_000, 100_000, 1_000_000)
    plan = run.plan(rounds, 3.0, store)
    rows = recoveries.run(run.folder, plan, run.on_progress, entries=tuple(entries or sizes))
    return BenchmarkResult(rows, recoveries.COLUMNS)


@app.command(
    "versions",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    help="What evaluating, saving and publishing cost as the ledger grows, and rebuilding it.",
    epilog=f"Example: {COMMAND} versions --entries 100000",
)
def versions(context: typer.Context) -> None:
    """Run the service's own process, which has the tasks of `jobs` that are measured."""
    command = [sys.executable, "-m", "service", "bench", "versions", *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@benchmark(app, "replicas", "replicas on PostgreSQL", f"{COMMAND} replicas --replicas 1")
def replicas(
    run: Run,
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    count: Annotated[list[int] | None, typer.Option("--replicas", help="[1, 2, 4]")] = None,
) -> BenchmarkResult:
    """Throughput of 1, 2 and 4 processes on PostgreSQL; whether any effect is lost or doubled."""
    from experiments.benchmarks.service_speed import replicas as replication

    plan = run.plan(rounds, seconds, ["postgresql"])
    counts = tuple(sorted(count or (1, 2, 4)))
    rows = replication.run(run.folder, plan, run.on_progress, replicas=counts)
    return BenchmarkResult(rows, replication.COLUMNS)


@benchmark(app, "guarantees", "promised and seen", f"{COMMAND} guarantees --streams 1000 --json")
def guarantees(
    run: Run,
    streams: Annotated[int, typer.Option(help="Simulated streams each.", min=1)] = 1000,
    workers: Workers = 2,
) -> BenchmarkResult:
    """Promised beside observed, in simulated streams: intervals, promotions, alarms, capacity."""
    from experiments.benchmarks.guarantees import guarantee_table

    count = min(streams, 20) if run.quick else streams
    rows = guarantee_table.run(count, workers, run.on_progress)
    return BenchmarkResult(rows, guarantee_table.COLUMNS)


if __name__ == "__main__":
    app()
